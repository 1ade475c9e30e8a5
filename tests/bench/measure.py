# SPDX-License-Identifier: Apache-2.0
"""Measure side by side, and say what came of it as a table of ratios and as gates."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
import time
from typing import Any, Callable, Iterable, NoReturn, Optional, Sequence


@dataclasses.dataclass
class Row:
    """One line of the table.

    :param limit: the most that ``value`` may be; None where nothing is promised
    """

    what: str
    value: float
    unit: str = ''
    limit: Optional[float] = None
    note: str = ''

    @property
    def passed(self) -> bool:
        return self.limit is None or self.value <= self.limit


def in_turns(*runs: Callable[..., Any], times: int = 7, before: Callable[[], Any] = lambda: None,
             clock: Callable[[], float] = time.process_time) -> list[list[float]]:
    """Seconds of each of ``runs``, ``times`` times, taken in turns so that a busy machine is busy for all of them.

    :param before: called before each, its answer is handed to it
    :param clock: CPU seconds of this process, unless others do the work
    """
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(times):
        for run, seconds in zip(runs, taken):
            seconds += in_sequence(run, times=1, before=before, clock=clock)[0]
    return taken


def in_sequence(*runs: Callable[..., Any], times: int = 7, before: Callable[[], Any] = lambda: None,
                clock: Callable[[], float] = time.process_time) -> list[list[float]]:
    """The same, where each run follows the one before it on the same things, as one filter follows the other.

    :param before: called before the first, its answer is handed to all of them
    """
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(times):
        prepared = before()
        gc.collect()
        gc.disable()
        try:
            for run, seconds in zip(runs, taken):
                begun = clock()
                run(prepared) if prepared is not None else run()
                seconds.append(clock() - begun)
        finally:
            gc.enable()
    return taken


def of_a_process(module: str, *told: str) -> list[Row]:
    """The rows that ``module`` measures when it is run, in a process that has imported nothing else."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-m', module, *told], stdout=subprocess.PIPE, check=True, timeout=600)
    return [Row(**row) for row in json.loads(done.stdout)]


def tell(rows: Iterable[Row]) -> NoReturn:
    """What such a module does when it is run. Threads that Nova leaves behind do not hold up its end."""
    print(json.dumps([dataclasses.asdict(row) for row in rows]), flush=True)
    os._exit(0)


def table(rows: Sequence[Row]) -> str:
    """A plain reStructuredText table."""
    cells = [('What', 'Measured', 'Gate', '', 'Remark')]
    for row in rows:
        unit = f' {row.unit}' if row.unit else ''
        gate = '' if row.limit is None else f'<= {row.limit:g}{unit}'
        cells.append((row.what, f'{row.value:.4g}{unit}', gate, '' if row.limit is None else 'pass' if row.passed else 'FAIL', row.note))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    rule = '  '.join('=' * max(width, 1) for width in widths)
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    # An empty first column would continue the line before; an empty later one is fine.
    return '\n'.join([rule, lines[0], rule, *lines[1:], rule])
