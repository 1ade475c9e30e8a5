# SPDX-License-Identifier: Apache-2.0
"""Determine where a host keeps the disks of its servers, and whether two hosts share that place."""
