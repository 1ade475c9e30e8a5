# SPDX-License-Identifier: Apache-2.0
"""Prove the way to a target with a guest of one's own, before a server takes it."""
