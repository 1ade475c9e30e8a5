# SPDX-License-Identifier: Apache-2.0
"""A whole small cloud on this machine: keystone, placement, glance, neutron and Nova as PyPI has them, and three compute hosts, each with
namespaces, a libvirtd and a nova-compute of its own.

:mod:`isolation` puts all of it into namespaces, of which nothing stays; :mod:`cloud` is the whole; ``python -m tests.lab.cloud`` runs the
table of faults in it.
"""

import pathlib

ROOT = pathlib.Path(__file__).parents[3]
# A tmpfs of the lab's own mount namespace: two labs have the same paths and never meet, and no file outlives a lab.
STATE = pathlib.Path('/media')
