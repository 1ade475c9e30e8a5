# SPDX-License-Identifier: Apache-2.0
"""How the libvirtd and the QEMU of a host are set up to receive a migration: configuration, URIs, certificates."""
