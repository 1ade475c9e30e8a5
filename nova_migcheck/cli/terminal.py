# SPDX-License-Identifier: Apache-2.0
"""How lists look on a terminal: fitted to its width, with colours that are also words."""

from __future__ import annotations

import argparse
import re
from typing import Any, Iterable, Sequence, TextIO

from cliff import columns
from rich import box, console, table, text

from nova_migcheck import hostranges
from nova_migcheck.finding import WORST_FIRST, Finding, Outcome, printable
from nova_migcheck.judging.matrix import State

STYLES = {
    'failure': 'bold red', 'rejected': 'bold red', 'unknown': 'magenta', 'warning': 'yellow', 'warned': 'yellow', 'ok': 'green',
    'accepted': 'green', 'down': 'red', 'stale': 'magenta', 'missing': 'magenta', 'unreadable': 'magenta', 'disabled': 'yellow',
    'source': 'dim', 'same': 'dim',
}

# A part of folded names, behind which a line may be broken.
_PART = re.compile(r'[^, ]+[, ]*|[, ]+')


def styled(word: str) -> text.Text:
    """A word in the colour of what it says. Never read as markup."""
    return text.Text(word, STYLES.get(word, ''))


def told(finding: Finding) -> text.Text:
    """What was found, where it comes from and what to do, a paragraph each."""
    told = text.Text()
    before, subject, after = finding.detail.partition(finding.subject) if finding.subject else (finding.detail, '', '')
    if finding.subject and not subject:
        told.append(finding.subject, 'bold').append(f': {finding.detail}' if finding.detail else '')
    else:
        told.append(before).append(subject, 'bold').append(after)
    if finding.scope:
        told.append(f' (matters to servers with {finding.scope})')
    if finding.origin:
        told.append(f'\nfrom {finding.origin}', 'dim')
    if finding.remedy and finding.outcome is not Outcome.OK:
        told.append(f'\n→ {finding.remedy}', 'cyan')
    return told


def mark(outcome: Outcome) -> text.Text:
    """A sign for an outcome; never the only thing that tells it."""
    return text.Text({Outcome.OK: '✓', Outcome.WARNING: '!', Outcome.FAILURE: '✗', Outcome.UNKNOWN: '?'}[outcome],
                     STYLES[outcome.value])


def sign(state: State) -> text.Text:
    """The sign of what becomes of a migration, in its colour."""
    return text.Text(state.sign, STYLES.get(state.value, ''))


def names(hosts: Sequence[str], width: int, most: int = 0) -> str:
    """Names of hosts as ranges, without their number.

    :param width: of a line, in characters
    :param most: see :func:`nova_migcheck.hostranges.fold`
    """
    return broken(printable(hostranges.fold(hosts, most, count=False)), width)


def broken(folded: str, width: int) -> str:
    """A text with folded names in lines of ``width`` characters, broken at blanks and behind commas; rich does at blanks only."""
    lines = ['']
    for part in _PART.findall(folded):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append('')
        lines[-1] += part
    return '\n'.join(line.rstrip() for line in lines)


def findings(found: Sequence[Finding]) -> table.Table:
    """Findings as a person reads them."""
    grid = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style='bold')
    grid.add_column('outcome', no_wrap=True)
    grid.add_column('check', no_wrap=True)
    grid.add_column('what was found, where it comes from, what to do', overflow='fold')
    for finding in found:
        word = mark(finding.outcome).append(f' {finding.outcome}', STYLES[finding.outcome.value])
        grid.add_row(word, text.Text(finding.check), told(finding))
    return grid


def total(found: Sequence[Finding]) -> text.Text:
    """How many of each outcome, the worst first."""
    counts = {outcome: sum(finding.outcome is outcome for finding in found) for outcome in WORST_FIRST}
    return text.Text(', ').join(text.Text(f'{count} {outcome}', STYLES[outcome.value]) for outcome, count in counts.items() if count)


class Table:
    """Stands in for cliff's table where a person looks at it."""

    def emit_list(self, column_names: Sequence[str], data: Iterable[Sequence[Any]], stdout: TextIO,
                  parsed_args: argparse.Namespace) -> None:
        """A table in the width of the terminal. Columns that are empty in every row are left out."""
        rows = [list(row) for row in data]
        shown = [i for i, _name in enumerate(column_names) if not rows or any(str(row[i]) for row in rows)]
        grid = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style='bold')
        for i in shown:
            # What a line is about is not broken: the rest gives way.
            longest = max((len(str(row[i])) for row in rows), default=0)
            grid.add_column(text.Text(column_names[i]), overflow='fold', min_width=min(longest, 30) if i == 0 else None)
        for row in rows:
            grid.add_row(*(_cell(row[i]) for i in shown))
        on(stdout).print(grid)


def _cell(value: Any) -> text.Text:
    if isinstance(value, columns.FormattableColumn):
        content = getattr(value, '_value', None)
        if isinstance(content, list) and content and isinstance(content[0], dict) and 'check' in content[0]:
            return text.Text('\n').join(reason(Finding.from_dict(finding)) for finding in content)
    return styled('' if value is None else str(value))


def reason(finding: Finding) -> text.Text:
    """A finding as what stands in the way of a server."""
    return text.Text().append(f'{finding.check}: ', STYLES.get(finding.outcome.value, '')).append_text(told(finding))


def on(stream: TextIO) -> console.Console:
    """A console on a stream. It writes no colours where the stream is no terminal, or ``NO_COLOR`` is set."""
    return console.Console(file=stream, highlight=False, markup=False, emoji=False)
