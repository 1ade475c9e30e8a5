# SPDX-License-Identifier: Apache-2.0
"""How libvirt's daemons and QEMU are set up for migrations: configuration, URIs, certificates."""
