# SPDX-License-Identifier: Apache-2.0
"""What a live migration did, once it is over: how long, how much, over which interface, and what that says about its target."""
