# SPDX-License-Identifier: Apache-2.0
"""Where a host keeps the disks of its servers, and whether two hosts keep them in one place."""
