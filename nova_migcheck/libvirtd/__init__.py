# SPDX-License-Identifier: Apache-2.0
"""How libvirt's daemons and QEMU on a host are set up to receive a migration: configuration, URIs, certificates."""
