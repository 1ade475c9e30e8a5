# SPDX-License-Identifier: Apache-2.0
"""Many hosts as a person reads them on a terminal: what is alike in one place, and the sum last, nearest to the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Optional, Sequence, TextIO

from rich import box, console, measure, padding, table, text

from nova_migcheck.cli import terminal
from nova_migcheck.cli.fleetlisting import age
from nova_migcheck.cli.hosts import FRESH
from nova_migcheck.finding import WORST_FIRST, Outcome, printable
from nova_migcheck.judging.matrix import State

if TYPE_CHECKING:
    from nova_migcheck.cli.explain import Judged
    from nova_migcheck.cli.hosts import Said

# Names and ranges of names that are written out, except where they are what was asked for.
_MOST = 12
# Columns of a terminal on which everything fits.
_ENDLESS = 10_000


def hosts(stdout: TextIO, shown: Sequence[Said], all_of_them: Sequence[Said], checks: Sequence[str], in_full: bool) -> None:
    """What hosts have published: a line each, then what is the matter with how many.

    :param shown: those that get a line
    :param checks: names of the columns
    :param in_full: whether each finding is printed too
    """
    out = terminal.on(stdout)
    if shown:
        wide = _lines(shown, checks)
        fits = measure.Measurement.get(out, out.options.update(width=_ENDLESS), wide).maximum <= out.width
        out.print(wide if fits else _lines(shown, None))
    if in_full:
        _findings(out, shown)
    out.print(_sum(all_of_them, out.width))


def _lines(said: Sequence[Said], checks: Optional[Sequence[str]]) -> table.Table:
    """A line for each host: a column for each check, or one for all that is not well."""
    grid = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style='bold')
    longest = max((len(one.host.name) for one in said), default=0)
    grid.add_column('host', overflow='fold', min_width=min(longest, 30))
    for name in ('cell', 'service', 'report', *(checks if checks is not None else ['not well']), 'migrations'):
        grid.add_column(name, no_wrap=name in ('service', 'report', *(checks or ())), overflow='fold')
    for one in said:
        report = text.Text().append_text(terminal.styled(one.report))
        if one.seconds is not None:
            report.append(f' {age(one.seconds)}', 'dim')
        if checks is not None:
            outcomes = [_outcome(one, name, '') for name in checks]
        else:
            outcomes = [text.Text(', ').join(_outcome(one, name, f'{name} ') for name, outcome in one.checks.items()
                                             if outcome is not Outcome.OK)]
        grid.add_row(text.Text(printable(one.host.name)), text.Text(printable(one.host.cell)), terminal.styled(one.host.service),
                     report, *outcomes, text.Text(one.migrations))
    return grid


def _outcome(said: Said, check: str, before: str) -> text.Text:
    """The outcome of a check, pale where the report is not believed."""
    outcome = said.checks.get(check)
    if outcome is None:
        return text.Text('')
    return text.Text(f'{before}{outcome}', terminal.STYLES[outcome.value] if said.report == FRESH else 'dim')


def _findings(out: console.Console, said: Iterable[Said]) -> None:
    for one in said:
        if one.host.report and one.host.report.findings:
            out.print(text.Text(printable(one.host.name), 'bold'))
            out.print(terminal.findings(one.host.report.findings))
            out.print()


def _sum(said: Sequence[Said], width: int) -> console.Group:
    """How many are well, and for each thing that is the matter how many hosts and which."""
    matters: dict[tuple[int, str], list[str]] = {}
    styles: dict[tuple[int, str], str] = {}
    for one in said:
        found = [(f'{name} {outcome}', outcome) for name, outcome in one.checks.items() if outcome is not Outcome.OK]
        if one.report != FRESH:  # what a stale report says is not believed
            found = [(f'report {one.report}', Outcome.UNKNOWN)]
        if one.host.service != 'up':
            found.append((f'nova-compute {one.host.service}', Outcome.WARNING))
        for words, outcome in found:
            key = WORST_FIRST.index(outcome), words
            matters.setdefault(key, []).append(one.host.name)
            styles[key] = terminal.STYLES[outcome.value]
    grid = table.Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(justify='right', no_wrap=True)
    grid.add_column(overflow='fold')
    side = max((len(words) for _rank, words in matters), default=0) + 8
    for key in sorted(matters):
        grid.add_row(text.Text(key[1], styles[key]), str(len(matters[key])), text.Text(terminal.names(matters[key], width - side, _MOST)))
    well = sum(one.well for one in said)
    line = text.Text(f'{len(said)} {"host" if len(said) == 1 else "hosts"}: ').append(
        f'{well} well', 'green' if well == len(said) else '')
    return console.Group(grid, line) if matters else console.Group(line)


_WORDS = {State.ACCEPTED: 'accepted', State.WARNED: 'accepted, with a warning', State.REJECTED: 'rejected'}


def explained(stdout: TextIO, judged: Sequence[Judged]) -> None:
    """Where a server can go: hosts of which the same is to be said in one paragraph, the good ones first, and the sum last."""
    out = terminal.on(stdout)
    groups: dict[object, list[Judged]] = {}
    for one in judged:
        if one.state is not None:
            groups.setdefault((one.state, one.host.service, one.alike), []).append(one)
    if not groups:
        out.print('It is there already.' if judged else 'There is no host in its cell.')
        return
    counts = []
    for state, words in _WORDS.items():
        alike = [group for group in groups.values() if group[0].state is state]
        for group in sorted(alike, key=lambda group: group[0].host.service != 'up'):
            _paragraph(out, state, group)
        if alike:
            counts.append(text.Text(f'{sum(map(len, alike))} {words.replace(",", "")}', terminal.STYLES[state.value]))
    out.print(text.Text(', ').join(counts))
    away = sum(one.host.service != 'up' for one in judged if one.state in (State.ACCEPTED, State.WARNED))
    if away:
        out.print(f'{away} of those that are accepted: nova-compute is not up or is disabled, for which Nova itself leaves them out.')


def _paragraph(out: console.Console, state: State, group: Sequence[Judged]) -> None:
    first = group[0]
    head = terminal.sign(state).append(f' {_WORDS[state]}')
    head.append(f': {len(group)} hosts' if len(group) > 1 else '')
    if first.host.service != 'up':
        head.append(f', nova-compute {first.host.service}')
    out.print(head)
    # Where it can go is what was asked: all of these are named.
    most = _MOST if state is State.REJECTED else 0
    out.print(padding.Padding(text.Text(terminal.names([one.host.name for one in group], out.width - 2, most), 'bold'), (0, 0, 0, 2)))
    verdict = first.verdict if len(group) == 1 else first.alike
    for finding in (*verdict.rejections, *verdict.warnings):
        out.print(padding.Padding(terminal.reason(finding), (0, 0, 0, 4)))
    out.print()
