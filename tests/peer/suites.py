# SPDX-License-Identifier: Apache-2.0
"""Which of Nova's own tests are run, by what a release of it has."""

from __future__ import annotations

import ast
import pathlib
import re
from typing import Iterator, NamedTuple

# A class of tests that says this has to do with our part of Nova, whatever else it tests.
_CONCERNS_US = re.compile(r'live.?migrat', re.IGNORECASE)


class Suite(NamedTuple):
    """Tests that run in one process.

    :ivar name: as the table has it
    :ivar hooked: whether drivers have their hook without ``init_host()``: unit tests seldom call it
    :ivar names: modules or classes, for unittest to load
    """

    name: str
    hooked: bool
    names: tuple[str, ...]


def suites(site_packages: pathlib.Path) -> list[Suite]:
    """All of them, those that take longest first."""
    tests = site_packages / 'nova/tests'

    def modules(*paths: str) -> tuple[str, ...]:
        return tuple(_dotted(site_packages, file) for path in paths for file in _files(tests / path))

    def classes(*paths: str) -> tuple[str, ...]:
        return tuple(name for path in paths for file in _files(tests / path) for name in _concerning_us(site_packages, file))
    rest = sorted(f'functional/{path.name}' for path in (tests / 'functional').glob('test_*.py'))
    shutdown = 'functional/test_graceful_shutdown.py'  # which 2025.1 and before have not
    return [
        Suite('functional.libvirt', False, modules('functional/libvirt')),
        Suite('functional', False, (
            *classes(*(path for path in rest if path != shutdown), 'functional/compute'), *modules(*{shutdown}.intersection(rest)))),
        Suite('unit.virt.libvirt', True, modules('unit/virt/libvirt')),
        Suite('functional.notification', False, modules('functional/notification_sample_tests')),
        Suite('functional.regressions', False, classes('functional/regressions')),
        Suite('unit.virt.drivers', True, modules('unit/virt/test_virt_drivers.py')),
        Suite('unit.scheduler', True, modules('unit/scheduler')),
    ]


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.rglob('test_*.py')) if path.is_dir() else [path]


def _dotted(site_packages: pathlib.Path, file: pathlib.Path) -> str:
    return '.'.join(file.relative_to(site_packages).with_suffix('').parts)


def _concerning_us(site_packages: pathlib.Path, file: pathlib.Path) -> Iterator[str]:
    """The classes of a module that name live migration."""
    text = file.read_text()
    if _CONCERNS_US.search(text):
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and _CONCERNS_US.search(ast.get_source_segment(text, node) or ''):
                yield f'{_dotted(site_packages, file)}.{node.name}'
