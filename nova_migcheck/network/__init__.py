# SPDX-License-Identifier: Apache-2.0
"""A host's interfaces, addresses, names and routes, over which of them migrations are meant to go, and what answers at the other end."""
