#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rewrite ``nova_migcheck/cpu/releases.py``: which names of x86 CPUs each release of libvirt knows.

It reads the CPU maps of releases that are installed or unpacked, and keeps what the module says of all others::

    tools/cpu_names.py 9.0.0=/usr/share/libvirt/cpu_map

The files are in Debian's ``libvirt-common``, and in ``libvirt0`` before 11.0; ``apt-get download`` and ``dpkg-deb -x`` get
those of another release without installing it.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nova_migcheck.cpu.models import CpuMap  # noqa: E402
from nova_migcheck.cpu.names import digest, version_text  # noqa: E402

MODULE = ROOT / 'nova_migcheck/cpu/releases.py'
HEAD = '''\
# SPDX-License-Identifier: Apache-2.0
# Written by tools/cpu_names.py. Do not edit.
"""The names of x86 CPU models and features that releases of libvirt know, out of their CPU maps."""

# (version as virConnectGetLibVersion counts, digest of its names, models, features), oldest first.
# Of a name only the first of these releases that knows it is told: libvirt never forgets one.
RELEASES = (
'''


def number(version: str) -> int:
    """9000000 for ``9.0.0``.

    :raises ValueError: for anything else than three numbers
    """
    major, minor, micro = version.split('.')
    return int(major) * 1_000_000 + int(minor) * 1000 + int(micro)


def said_before() -> dict[int, tuple[frozenset[str], frozenset[str]]]:
    """Version -> (models, features), of the module as it is."""
    try:
        releases = importlib.import_module('nova_migcheck.cpu.releases').RELEASES
    except ImportError:
        return {}
    found = {}
    models: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    for version, _digest, more_models, more_features in releases:
        models |= frozenset(more_models.split())
        features |= frozenset(more_features.split())
        found[version] = models, features
    return found


def read(directory: str) -> tuple[frozenset[str], frozenset[str]]:
    """(models, features) of a CPU map.

    :raises OSError: when it is not there
    """
    cpu_map = CpuMap(directory)
    return frozenset(cpu_map.models('x86_64')), cpu_map.features()


def text(releases: dict[int, tuple[frozenset[str], frozenset[str]]]) -> str:
    """The module.

    :raises ValueError: when a release does not know a name of an older one, or a model is called like a feature
    """
    parts = [HEAD]
    known: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    for version, names in sorted(releases.items()):
        if forgotten := (known[0] - names[0]) | (known[1] - names[1]):
            raise ValueError(f'libvirt {version_text(version)} does not know {", ".join(sorted(forgotten))}')
        if both := names[0] & names[1]:
            raise ValueError(f'a model and a feature are called {", ".join(sorted(both))}')
        parts.append(f"    ({version:_}, '{digest(*names)}', {_block(names[0] - known[0])}, {_block(names[1] - known[1])}),\n")
        known = names
    return ''.join([*parts, ')\n'])


def _block(names: frozenset[str]) -> str:
    if not names:
        return "''"
    lines = textwrap.wrap(' '.join(sorted(names)), 96, break_long_words=False, break_on_hyphens=False)
    return '\n'.join(['"""', *(f'    {line}' for line in lines), '    """'])


def main() -> None:
    """:raises SystemExit: when a directory holds no CPU map"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('releases', nargs='+', metavar='VERSION=DIRECTORY', help="a release, and where its cpu_map's index.xml is")
    parser.add_argument('--check', action='store_true', help='write nothing, and fail where the module would change')
    arguments = parser.parse_args()
    releases = said_before()
    try:
        for version, directory in (word.split('=', 1) for word in arguments.releases):
            releases[number(version)] = read(directory)
        written = text(releases)
    except (OSError, ValueError) as error:
        sys.exit(f'cpu_names.py: {error}')
    if not arguments.check:
        MODULE.write_text(written)
    elif written != MODULE.read_text():
        sys.exit(f'cpu_names.py: {MODULE} does not say what these releases know')


if __name__ == '__main__':
    main()
