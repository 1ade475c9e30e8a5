# SPDX-License-Identifier: Apache-2.0
"""What the process of the checks sees of a host's fake libvirt: this directory is on its path. Imports no nova."""
