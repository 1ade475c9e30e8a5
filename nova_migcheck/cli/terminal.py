# SPDX-License-Identifier: Apache-2.0
"""Format lists for a terminal: fitted to its width, with colours that are also words."""

from __future__ import annotations

import argparse
import contextlib
import re
from typing import Any, Callable, Iterable, Iterator, Sequence, TextIO

from rich import box, console, table, text

from nova_migcheck import codes, hostranges
from nova_migcheck.cli.columns import Findings
from nova_migcheck.finding import WORST_FIRST, Finding, Outcome, printable
from nova_migcheck.judging.matrix import State

STYLES = {
    'failure': 'bold red', 'rejected': 'bold red', 'unknown': 'magenta', 'warning': 'yellow',
    'warned': 'yellow', 'ok': 'green', 'accepted': 'green', 'down': 'red', 'stale': 'magenta',
    'missing': 'magenta', 'unreadable': 'magenta', 'disabled': 'yellow', 'source': 'dim',
    'same': 'dim',
}

_SIGNS = {Outcome.OK: '✓', Outcome.WARNING: '!', Outcome.FAILURE: '✗', Outcome.UNKNOWN: '?'}

# A part of folded names. A line can be broken after it.
_PART = re.compile(r'[^, ]+[, ]*|[, ]+')


@contextlib.contextmanager
def status(stream: TextIO) -> Iterator[Callable[[str], None]]:
    """Show what is being done in one line, which is removed at the end."""
    with console_for(stream).status('') as shown:
        yield lambda line: shown.update(text.Text(printable(line)))


def styled(word: str) -> text.Text:
    """Return a word in its colour. It is never read as markup."""
    return text.Text(word, STYLES.get(word, ''))


def paragraphs(finding: Finding) -> text.Text:
    """Return the detail, the origin and the remedy of a finding, each on its own line.

    The remedy names the page of the finding's code, which then does not stand by itself.
    """
    result = text.Text()
    if finding.subject and finding.subject not in finding.detail:
        result.append(finding.subject, 'bold')
        result.append(f': {finding.detail}' if finding.detail else '')
    elif finding.subject:
        before, subject, after = finding.detail.partition(finding.subject)
        result.append(before).append(subject, 'bold').append(after)
    else:
        result.append(finding.detail)
    if finding.scope:
        result.append(f' (matters to servers with {finding.scope})')
    advice = codes.advice(finding.remedy, finding.code) if finding.outcome is not Outcome.OK else ''
    if finding.code and finding.code not in advice:
        result.append(f' [{finding.code}]', 'dim')
    if finding.origin:
        result.append(f'\nfrom {finding.origin}', 'dim')
    if advice:
        result.append(f'\n→ {advice}', 'cyan')
    return result


def mark(outcome: Outcome) -> text.Text:
    """Return the sign of an outcome. Always print a word beside it."""
    return text.Text(_SIGNS[outcome], STYLES[outcome.value])


def sign(state: State) -> text.Text:
    """Return the sign of a migration's state, in its colour."""
    return text.Text(state.sign, STYLES.get(state.value, ''))


def names(hosts: Sequence[str], width: int, most: int = 0) -> str:
    """Return the names of hosts as ranges, without their number.

    :param width: of a line, in characters
    :param most: see :func:`nova_migcheck.hostranges.fold`
    """
    return wrapped(printable(hostranges.fold(hosts, most, count=False)), width)


def wrapped(folded: str, width: int) -> str:
    """Return a text with folded names in lines of ``width`` characters.

    Lines are broken at blanks and after commas; rich breaks them only at blanks.
    """
    lines = ['']
    for part in _PART.findall(folded):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append('')
        lines[-1] += part
    return '\n'.join(line.rstrip() for line in lines)


def grid() -> table.Table:
    """Return an empty table in the style of all tables here."""
    return table.Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
                       header_style='bold')


def findings(rows: Sequence[Finding]) -> table.Table:
    """Return a table of findings."""
    result = grid()
    result.add_column('outcome', no_wrap=True)
    result.add_column('check', no_wrap=True)
    result.add_column('what was found, where it comes from, what to do', overflow='fold')
    for finding in rows:
        word = mark(finding.outcome).append(f' {finding.outcome}', STYLES[finding.outcome.value])
        result.add_row(word, text.Text(finding.check), paragraphs(finding))
    return result


def total(rows: Sequence[Finding]) -> text.Text:
    """Return the number of findings of each outcome, the worst first."""
    outcomes = [finding.outcome for finding in rows]
    return text.Text(', ').join(
        text.Text(f'{outcomes.count(outcome)} {outcome}', STYLES[outcome.value])
        for outcome in WORST_FIRST if outcome in outcomes)


class Table:
    """Replace cliff's table formatter on a terminal."""

    def emit_list(self, column_names: Sequence[str], data: Iterable[Sequence[Any]], stdout: TextIO,
                  parsed_args: argparse.Namespace) -> None:
        """Print a table in the width of the terminal, without the columns that are empty."""
        rows = [list(row) for row in data]
        shown = [i for i, _name in enumerate(column_names)
                 if not rows or any(str(row[i]) for row in rows)]
        result = grid()
        for i in shown:
            # Do not break the first column. Shrink the others.
            longest = max((len(str(row[i])) for row in rows), default=0)
            result.add_column(text.Text(column_names[i]), overflow='fold',
                              min_width=min(longest, 30) if i == 0 else None)
        for row in rows:
            result.add_row(*(_cell(row[i]) for i in shown))
        console_for(stdout).print(result)


def _cell(value: Any) -> text.Text:
    if isinstance(value, Findings):
        return text.Text('\n').join(reason(finding) for finding in value.findings)
    return styled('' if value is None else str(value))


def reason(finding: Finding) -> text.Text:
    """Return a finding as the reason of a verdict."""
    result = text.Text().append(f'{finding.check}: ', STYLES.get(finding.outcome.value, ''))
    return result.append_text(paragraphs(finding))


def console_for(stream: TextIO) -> console.Console:
    """Return a console. It uses colours only on a terminal and without ``NO_COLOR``."""
    return console.Console(file=stream, highlight=False, markup=False, emoji=False)
