# SPDX-License-Identifier: Apache-2.0
"""Run checks in processes of their own, under a deadline."""
