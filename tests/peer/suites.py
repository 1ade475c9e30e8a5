# SPDX-License-Identifier: Apache-2.0
"""Which of Nova's own tests are run, by what a release of it has."""

from __future__ import annotations

import ast
import pathlib
import re
from typing import Iterator, NamedTuple

from tests.peer.arguments import SUITES

# A class of tests that says this concerns us, whatever else it tests.
_CONCERNS_US = re.compile(r'live.?migrat', re.IGNORECASE)
# What is run of the larger suites: tests that are named for what our driver and filter take part
# in. The others boot, resize and count devices, and all of them take two hours more.
_BY_NAME = {
    'functional.libvirt': r'(?i)migrat|evacuat|vgpu|uefi|machine_?type|traits|rt_servers|reshape',
    'functional': r'(?i)live_?migrat|graceful_shutdown',
    'functional.notification': r'(?i)live_migration|test_instance|compute_task|libvirt|service',
}
# 2025.1 and before do not have it.
_SHUTDOWN = 'functional/test_graceful_shutdown.py'


class Suite(NamedTuple):
    """Tests that run in one process.

    :ivar name: as the table has it
    :ivar hooked: whether a driver has its hook without ``init_host()``, as unit tests need it
    :ivar names: modules or classes, for unittest to load
    :ivar only: expression that a test's name must match, all do when it is empty
    """

    name: str
    hooked: bool
    names: tuple[str, ...]
    only: str = ''


#: What is short enough for each run of our own tests: what our driver overrides and what calls it.
SHORT = (
    Suite('unit', True, ('nova.tests.unit.virt.libvirt.test_driver',
                         'nova.tests.unit.virt.test_virt_drivers'),
          r'live_migrat|compare_cpu|cpu_compat|available_resource|init_host|cleanup_host|public_api'
          r'|virt_drivers\.LibvirtConn'),
    Suite('functional', False, (
        'nova.tests.functional.libvirt.test_live_migration',
        'nova.tests.functional.libvirt.test_numa_live_migration.NUMALiveMigrationPositiveTests',
        'nova.tests.functional.compute.test_live_migration')),
)


def suites(site_packages: pathlib.Path, everything: bool) -> list[Suite]:
    """List all of them.

    :param everything: whether to run all tests in them
    """
    tests = site_packages / 'nova/tests'

    def modules(path: str) -> tuple[str, ...]:
        return tuple(_dotted(site_packages, file) for file in _files(tests / path))

    def classes(*paths: str) -> tuple[str, ...]:
        return tuple(name for path in paths for file in _files(tests / path)
                     for name in _concerning_us(site_packages, file))
    functional = sorted(
        f'functional/{path.name}' for path in (tests / 'functional').glob('test_*.py'))
    shutdown = modules(_SHUTDOWN) if _SHUTDOWN in functional else ()
    others = [path for path in functional if path != _SHUTDOWN]
    names = {
        'functional.libvirt': modules('functional/libvirt'),
        'functional': (*classes(*others, 'functional/compute'), *shutdown),
        'unit.virt.libvirt': modules('unit/virt/libvirt'),
        'functional.notification': modules('functional/notification_sample_tests'),
        'functional.regressions': classes('functional/regressions'),
        'unit.virt.drivers': modules('unit/virt/test_virt_drivers.py'),
        'unit.scheduler': modules('unit/scheduler'),
    }
    return [Suite(name, name.startswith('unit'), names[name],
                  '' if everything else _BY_NAME.get(name, '')) for name in SUITES]


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.rglob('test_*.py')) if path.is_dir() else [path]


def _dotted(site_packages: pathlib.Path, file: pathlib.Path) -> str:
    return '.'.join(file.relative_to(site_packages).with_suffix('').parts)


def _concerning_us(site_packages: pathlib.Path, file: pathlib.Path) -> Iterator[str]:
    """List the classes of a module that name live migration."""
    text = file.read_text()
    if _CONCERNS_US.search(text):
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and _CONCERNS_US.search(
                    ast.get_source_segment(text, node) or ''):
                yield f'{_dotted(site_packages, file)}.{node.name}'
