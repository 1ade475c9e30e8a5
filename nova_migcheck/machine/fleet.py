# SPDX-License-Identifier: Apache-2.0
"""Find the machine types that all hosts offer, and those in use that some of them lack."""

from __future__ import annotations

import collections
import re
from typing import Collection, Mapping, NamedTuple, Sequence

from nova_migcheck.machine.guest import family

# The family of guests for which nova.conf names no machine type.
_DEFAULT = 'pc-i440fx'
_NUMBERED = re.compile(r'-(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?$')


class InUse(NamedTuple):
    """A machine type of running guests that some hosts lack.

    :ivar type: its name
    :ivar on: hosts with such guests
    :ivar lacking: hosts that do not have it
    """

    type: str
    on: tuple[str, ...]
    lacking: tuple[str, ...]


def newest(offered: Mapping[str, Sequence[str]], used: Mapping[str, Collection[str]]) -> str:
    """Return the newest machine type that all hosts offer, '' if there is none.

    It is of the family that most hosts use.

    :param offered: host -> names of its machine types
    :param used: machine type -> hosts that run guests with it
    """
    counts = collections.Counter({_DEFAULT: 0})
    for name, hosts in used.items():
        counts[family(name)] += len(hosts)
    wanted = max(counts, key=lambda name: (counts[name], name == _DEFAULT))
    everywhere = set.intersection(*map(set, offered.values())) if offered else set()
    found = [(tuple(map(int, match.groups('0'))), name) for name in everywhere
             if family(name) == wanted and (match := _NUMBERED.search(name))]
    return max(found)[1] if found else ''


def lacking(offered: Mapping[str, Sequence[str]], used: Mapping[str, Collection[str]]
            ) -> list[InUse]:
    """Return the machine types in use that a host lacks, with the arguments of :func:`newest`."""
    found = [InUse(name, tuple(sorted(hosts)), tuple(sorted(
        host for host, names in offered.items() if name not in names)))
        for name, hosts in sorted(used.items())]
    return [one for one in found if one.lacking]
