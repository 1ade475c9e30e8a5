# SPDX-License-Identifier: Apache-2.0
"""Read how libvirt's daemons and QEMU are set up for migrations: files, URIs, certificates."""
