# SPDX-License-Identifier: Apache-2.0
"""The trials in numbers, as text and as a table of the documentation."""

from __future__ import annotations

import collections
import datetime
import platform
import subprocess
from typing import Iterable, Sequence

from tests.truth.explained import why
from tests.truth.ours import CHECKS
from tests.truth.trial import Trial

_COLUMNS = (
    'check',
    'rejected, and it fails',
    'rejected, and it works',
    'not known, and it fails',
    'not known, and it works',
)


def rows(trials: Iterable[Trial]) -> list[tuple[str, ...]]:
    """Return the table's rows. A world that several checks reject counts for each of them."""
    counts: collections.Counter[tuple[str, str, bool]] = collections.Counter()
    for trial in trials:
        for check in trial.said.checks:
            counts[check, trial.said.verdict, trial.went.well] += 1
    return [
        (
            check,
            *(
                str(counts[check, verdict, well])
                for verdict in ('rejected', 'unknown')
                for well in (False, True)
            ),
        )
        for check in sorted({*CHECKS, *(check for check, _verdict, _well in counts)})
    ]


def summary(trials: Sequence[Trial]) -> str:
    """All of it in a few lines."""
    tried = [trial for trial in trials if not trial.error]
    counts = collections.Counter((trial.said.verdict, trial.went.well) for trial in tried)
    lines = [
        f'{len(tried)} worlds tried, {sum(trial.went.well for trial in tried)} migrations well'
    ]
    for verdict, well, words in (
        ('accepted', True, 'accepted, and well'),
        ('rejected', False, 'rejected, and it fails'),
        ('accepted', False, 'accepted, and it fails (missed)'),
        ('rejected', True, 'rejected, and it would have worked (wrong)'),
        ('unknown', True, 'accepted with something unknown, and well'),
        ('unknown', False, 'accepted with something unknown, and it fails'),
    ):
        lines.append(f'{counts[verdict, well]:5} {words}')
    if len(tried) < len(trials):
        lines.append(f'{len(trials) - len(tried):5} could not be tried')
    return '\n'.join(lines)


def text(trials: Sequence[Trial]) -> str:
    """The summary and the table for a terminal."""
    lines = [_COLUMNS, *rows(trial for trial in trials if not trial.error)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(_COLUMNS))]
    table = '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )
    return f'{summary(trials)}\n\n{table}'


def page(trials: Sequence[Trial], seed: int) -> str:
    """The same in reStructuredText, with the seed, the date, the versions and all disagreements."""
    lines = [
        f'{datetime.date.today().isoformat()}, seed {seed}; {versions()}.',
        '',
        '.. code-block:: text',
        '',
    ]
    lines += [f'   {line}' for line in summary(trials).splitlines()]
    lines += ['', '.. list-table::', '   :header-rows: 1', '']
    for cells in (_COLUMNS, *rows(trial for trial in trials if not trial.error)):
        lines += [
            f'   {"* -" if number == 0 else "  -"} {cell}' for number, cell in enumerate(cells)
        ]
    lines += ['', 'Disagreements:', '']
    for (kind, world), count in collections.Counter(
        (trial.kind, str(trial.world)) for trial in trials if trial.kind
    ).items():
        lines.append(f'* {kind}: ``{world}``{f" ({count} times)" if count > 1 else ""}')
    return '\n'.join(lines) + '\n'


def unexplained(trials: Iterable[Trial]) -> list[Trial]:
    """Return the disagreements, and what could not be tried, that nobody has explained."""
    return [trial for trial in trials if trial.error or (trial.kind and not why(trial))]


def versions() -> str:
    """What it was tried with."""

    def asked(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            '\n'
        )[0]

    libvirt = asked('libvirtd', '--version').rpartition(' ')[2]
    qemu = (
        asked('qemu-system-x86_64', '--version')
        .removeprefix('QEMU emulator version ')
        .split(' ')[0]
    )
    return f'libvirt {libvirt}, QEMU {qemu}, Linux {platform.release().split("-")[0]}'
