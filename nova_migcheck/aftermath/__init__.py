# SPDX-License-Identifier: Apache-2.0
"""Report what a live migration did: how long it took, how much it sent, over which interface."""
