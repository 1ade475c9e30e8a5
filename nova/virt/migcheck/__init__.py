# SPDX-License-Identifier: Apache-2.0
from nova_migcheck.compute import LibvirtDriver  # noqa: F401  [DEFAULT] compute_driver loads nova.virt.<value> only
