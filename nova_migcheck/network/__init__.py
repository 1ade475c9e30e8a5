# SPDX-License-Identifier: Apache-2.0
"""Read a host's network, determine its migration network, and probe other hosts over it."""
