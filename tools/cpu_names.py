#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rewrite ``nova_migcheck/cpu/releases.py``: which names each release of libvirt knows.

It reads the CPU maps of the releases that are named, and keeps what the module says of all others::

    tools/cpu_names.py 9.0.0=/usr/share/libvirt/cpu_map

Debian has these files in ``libvirt0`` (9.0 and before) or ``libvirt-common`` (11.3 and later).
``apt-get download`` and ``dpkg-deb -x`` get those of a release that is not installed.
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
# For each name the first of these releases that knows it: libvirt never removes one.
RELEASES = (
'''


def number(version: str) -> int:
    """Return 9000000 for ``9.0.0``.

    :raises ValueError: for anything else than three numbers
    """
    major, minor, micro = version.split('.')
    return int(major) * 1_000_000 + int(minor) * 1000 + int(micro)


def said_before() -> dict[int, tuple[frozenset[str], frozenset[str]]]:
    """Return version -> (models, features), from the module as it is."""
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
    """Read (models, features) of a CPU map.

    :raises OSError: when it is not there
    """
    cpu_map = CpuMap(directory)
    return frozenset(cpu_map.models('x86_64')), cpu_map.features()


def text(releases: dict[int, tuple[frozenset[str], frozenset[str]]]) -> str:
    """Return the text of the module.

    :raises ValueError: when a release lacks a name of an older one, or a model and a feature have
        the same name
    """
    parts = [HEAD]
    known: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    for version, names in sorted(releases.items()):
        if forgotten := (known[0] - names[0]) | (known[1] - names[1]):
            listed = ', '.join(sorted(forgotten))
            raise ValueError(f'libvirt {version_text(version)} does not know {listed}')
        if both := names[0] & names[1]:
            raise ValueError(f'a model and a feature are called {", ".join(sorted(both))}')
        models, features = (_block(new - old) for new, old in zip(names, known))
        parts.append(f"    ({version:_}, '{digest(*names)}', {models}, {features}),\n")
        known = names
    return ''.join([*parts, ')\n'])


def _block(names: frozenset[str]) -> str:
    if not names:
        return "''"
    lines = textwrap.wrap(' '.join(sorted(names)), 96, break_long_words=False,
                          break_on_hyphens=False)
    return '\n'.join(['"""', *(f'    {line}' for line in lines), '    """'])


def main() -> None:
    """Run the command.

    :raises SystemExit: when a directory holds no CPU map
    """
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('releases', nargs='+', metavar='VERSION=DIRECTORY',
                        help="a release, and the directory of its cpu_map's index.xml")
    parser.add_argument('--check', action='store_true',
                        help='write nothing, and fail if the module would change')
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
