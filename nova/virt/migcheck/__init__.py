# SPDX-License-Identifier: Apache-2.0
# [DEFAULT] compute_driver loads nova.virt.<value> only.
from nova_migcheck.compute.driver import LibvirtDriver  # noqa: F401
