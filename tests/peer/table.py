# SPDX-License-Identifier: Apache-2.0
"""What came of Nova's own tests, for a person and for doc/source/releases.rst."""

from __future__ import annotations

import collections
from typing import Iterable, Sequence

from tests.peer.comparing import Pair
from tests.peer.parts import PARTS
from tests.peer.running import Ran


def outcomes(pairs: Iterable[Pair]) -> str:
    """Show what passed, failed and was skipped, without the plugin and with it."""
    return _rst(('release', 'suite', 'without', 'seconds', 'with', 'seconds'), [
        (pair.nova.release, pair.suite.name,
         *((counts(pair.stock), f'{pair.stock.seconds:.0f}') if pair.stock.seconds
           else (f'not run but {len(pair.again)}', '')),
         counts(pair.plugin), f'{pair.plugin.seconds:.0f}') for pair in pairs])


def work(pairs: Iterable[Pair]) -> str:
    """Show how often each part of the plugin was at work."""
    rows = []
    for pair in pairs:
        total: collections.Counter[str] = collections.Counter()
        for test in pair.plugin.tests.values():
            total.update(test.work)
        rows.append((pair.nova.release, pair.suite.name, *(str(total[part]) for part in PARTS)))
    return _rst(('release', 'suite', *PARTS), rows)


def counts(ran: Ran) -> str:
    """Show passed, failed and skipped; what hung or died has failed."""
    found = collections.Counter(
        'failed' if test.bad else test.outcome for test in ran.tests.values())
    return ' / '.join(str(found[outcome]) for outcome in ('passed', 'failed', 'skipped'))


def _rst(head: Sequence[str], rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    line = ' '.join('=' * width for width in widths)
    lines = [' '.join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    return '\n'.join([line, lines[0], line, *lines[1:], line])
