# SPDX-License-Identifier: Apache-2.0
"""What ``./run peer`` takes. Only the standard library is imported: there may be no environment."""

from __future__ import annotations

import argparse

from tests import nova_releases

# The oldest and the newest that are supported.
_RELEASES = ['2024.1', '2026.2']
#: The names of the suites, those that take longest first.
SUITES = ('functional.libvirt', 'functional', 'unit.virt.libvirt', 'functional.notification',
          'functional.regressions', 'unit.virt.drivers', 'unit.scheduler')


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    told = argparse.ArgumentParser(
        prog='./run peer', description="Run Nova's own tests with the plugin, and tell what fails "
        'only with it: a test that fails runs once more, alone, with the plugin and without it.')
    told.add_argument('--release', nargs='+', dest='releases', metavar='RELEASE',
                      choices=nova_releases.on_pypi(), default=_RELEASES,
                      help=f'of Nova: by default {" and ".join(_RELEASES)}')
    told.add_argument('--suite', nargs='+', dest='suites', metavar='SUITE', choices=SUITES,
                      default=SUITES, help=f'of {", ".join(SUITES)}: by default all')
    told.add_argument('--all', action='store_true',
                      help='run every test of a suite, not only those that are named for what the '
                      'plugin takes part in')
    told.add_argument('--both', action='store_true',
                      help='run every test without the plugin too, in twice the time')
    return told
