# SPDX-License-Identifier: Apache-2.0
"""What came of it, as lines of a terminal and as a table of the documentation."""

from __future__ import annotations

import datetime
import re
from typing import Sequence

from nova_migcheck import cpu as cpus
from tests.lab.mixed.pair import Side, Tried


def line(tried: Tried) -> str:
    verdict = '' if tried.agrees else ' DISAGREES'
    return f'{tried.virt} {tried.direction} {tried.guest}: {_foreseen(tried)}; {_really(tried)}{verdict}'


def summary(tried: Sequence[Tried]) -> str:
    ran = [one for one in tried if not one.unstarted]
    return (f'{len(ran)} migrations of {len({one.guest for one in ran})} guests: {sum(not one.refused for one in ran)} arrived, '
            f'{sum(bool(one.refused) for one in ran)} were refused, {sum(not one.agrees for one in ran)} against what was foreseen')


def page(tried: Sequence[Tried], sides: Sequence[Side]) -> str:
    """A table in reStructuredText: a guest is a row, where it does not begin to run on one of them that way is left out."""
    told = ' and '.join(f'libvirt {side.version} with QEMU {side.qemu}' for side in sides)
    lines = [f'{summary(tried)}. ``./run mixed``, {told}, on {datetime.date.today().isoformat()}.', '', '.. list-table::',
             '   :header-rows: 1', '   :widths: 20 8 12 26 34', '']
    for cells in (('guest', 'virt', 'way', 'foreseen', 'libvirt'), *((one.guest, one.virt, one.direction, _foreseen(one), _really(one))
                                                                     for one in tried if not one.unstarted)):
        for number, cell in enumerate(cells):
            escaped = re.sub(r'([\\`|_*])', r'\\\1', cell)
            lines.append(f'   {"* -" if number == 0 else "  -"} {escaped}')
    return '\n'.join(lines) + '\n'


def _foreseen(tried: Tried) -> str:
    found = tried.foreseen
    if found is None:
        return '-'
    if found.outcome == cpus.INCOMPATIBLE:
        return f'refused: {found.reason}'
    return 'accepted' if found.compatible else f'unknown: {found.reason}'


def _really(tried: Tried) -> str:
    if tried.unstarted:
        return f'does not start on its source: {tried.unstarted}'
    if tried.refused:
        return f'refused: {tried.refused}'
    return f'arrived without {tried.lost} of its features' if tried.lost else 'arrived'
