# SPDX-License-Identifier: Apache-2.0
"""Reject an unsafe live migration target before the migration starts, with the reason named."""
