# SPDX-License-Identifier: Apache-2.0
"""Check the services that a compute host must reach over the network.

``sources`` and ``catalog`` collect the URLs and where each comes from. ``survey`` probes all of
them at once, and ``probe`` (with ``web``, ``greeting`` and ``tls``) probes one. ``diagnosis`` turns
the answers into findings, and ``clock`` compares their times with this host's.
"""
