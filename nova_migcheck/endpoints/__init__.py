# SPDX-License-Identifier: Apache-2.0
"""What a compute host must reach over the network: which URLs, where each comes from, and what is wrong with one.

``sources`` and ``catalog`` collect, ``survey`` asks all of them at once, ``probe`` (with ``web``, ``greeting``,
``tls``) asks one, ``diagnosis`` folds the answers into findings, ``clock`` reads the time from them.
"""
