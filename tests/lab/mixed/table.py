# SPDX-License-Identifier: Apache-2.0
"""What came of it, as lines of a terminal and as a table of the documentation."""

from __future__ import annotations

import datetime
import re
from typing import Iterator, Sequence

from nova_migcheck import cpu as cpus
from tests.lab.mixed.pair import Side, Tried

# Characters of a text that a cell shows.
_CELL = 200
_UNSTARTED = 'does not start there'


def line(tried: Tried) -> str:
    """One guest in one direction."""
    verdict = '' if tried.agrees else '  DISAGREES'
    return f'{tried.virt} {tried.way} {tried.guest}: {_foreseen(tried)}; {_really(tried)}{verdict}'


def summary(tried: Sequence[Tried]) -> str:
    """All of it in one sentence."""
    ran = [one for one in tried if not one.unstarted]
    return (f'{len(ran)} migrations of {len({one.guest for one in ran})} guests: '
            f'{sum(not one.refused for one in ran)} arrived, '
            f'{sum(bool(one.refused) for one in ran)} were refused by libvirt, '
            f'{sum(not one.agrees for one in ran)} went another way than foreseen')


def page(tried: Sequence[Tried], sides: Sequence[Side]) -> str:
    """A table in reStructuredText, with a row for each guest and a column for each way."""
    ways = list(dict.fromkeys(one.way for one in tried))
    lines = [f'{datetime.date.today().isoformat()}, {sides[0].name} and {sides[1].name}:',
             f'{summary(tried)}.', '', '.. list-table::', '   :header-rows: 1',
             '   :widths: 16 6 39 39', '']
    for cells in (('guest', 'virt', *ways), *_rows(tried, ways)):
        for number, cell in enumerate(cells):
            escaped = re.sub(r'([\\`|_*])', r'\\\1', cell)
            lines.append(f'   {"* -" if number == 0 else "  -"} {escaped}')
    return '\n'.join(lines) + '\n'


def _rows(tried: Sequence[Tried], ways: Sequence[str]) -> Iterator[tuple[str, ...]]:
    found = {(one.guest, one.virt, one.way): one for one in tried}
    for guest, virt in dict.fromkeys((one.guest, one.virt) for one in tried):
        cells = [_cell(found[guest, virt, way]) for way in ways]
        if set(cells) != {_UNSTARTED}:
            yield guest, virt, *cells


def _cell(tried: Tried) -> str:
    if tried.unstarted:
        return _UNSTARTED
    if tried.agrees and not tried.refused and tried.foreseen and tried.foreseen.compatible:
        return 'arrives'
    return f'{"" if tried.agrees else "WRONG: "}{_foreseen(tried)}; {_really(tried)}'


def _foreseen(tried: Tried) -> str:
    found = tried.foreseen
    if found is None:
        return '-'
    if found.outcome == cpus.INCOMPATIBLE:
        return f'refused: target {found.reason}'
    return 'accepted' if found.compatible else f'unknown: target {found.reason}'


def _really(tried: Tried) -> str:
    if tried.unstarted:
        return f'does not start on its source: {tried.unstarted[:_CELL]}'
    if tried.refused:
        return f'libvirt: {tried.refused[:_CELL]}'
    return f'arrives without {tried.lost} of its features' if tried.lost else 'arrives'
