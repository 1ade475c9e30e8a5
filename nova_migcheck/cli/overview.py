# SPDX-License-Identifier: Apache-2.0
"""Draw many hosts on a terminal: equal hosts together, and the totals last, next to the prompt."""

from __future__ import annotations

from typing import Iterable, Optional, Sequence, TextIO

from rich import console, measure, padding, table, text

from nova_migcheck import wording
from nova_migcheck.cli import terminal
from nova_migcheck.cli.shown import FRESH, Candidate, HostStatus, age
from nova_migcheck.finding import WORST_FIRST, Outcome, printable
from nova_migcheck.judging.matrix import State

# Maximum number of names and ranges of names to write out where the names are not the answer.
_MOST = 12
# A width of a terminal in which everything fits.
_ENDLESS = 10_000


def hosts(stdout: TextIO, shown: Sequence[HostStatus], every: Sequence[HostStatus],
          checks: Sequence[str], in_full: bool) -> None:
    """Print a line for each host, then how many hosts have which problem.

    :param shown: the hosts that get a line
    :param every: the hosts to count
    :param checks: names of the columns
    :param in_full: whether to print each finding too
    """
    out = terminal.console_for(stdout)
    if shown:
        wide = _lines(shown, checks)
        options = out.options.update(width=_ENDLESS)
        fits = measure.Measurement.get(out, options, wide).maximum <= out.width
        out.print(wide if fits else _lines(shown, None))
    if in_full:
        _findings(out, shown)
    out.print(_totals(every, out.width))


def _lines(statuses: Sequence[HostStatus], checks: Optional[Sequence[str]]) -> table.Table:
    """Return a line for each host.

    There is a column for each check, or if ``checks`` is None one for all that is not well.
    """
    grid = terminal.grid()
    longest = max((len(each.host.name) for each in statuses), default=0)
    grid.add_column('host', overflow='fold', min_width=min(longest, 30))
    outcome_columns = ['not well'] if checks is None else checks
    for name in ('cell', 'service', 'report', *outcome_columns, 'migrations'):
        unbroken = name in ('service', 'report', *(checks or ()))
        grid.add_column(name, no_wrap=unbroken, overflow='fold')
    for each in statuses:
        report = text.Text().append_text(terminal.styled(each.report))
        if each.seconds is not None:
            report.append(f' {age(each.seconds)}', 'dim')
        if checks is not None:
            outcomes = [_outcome(each, name, '') for name in checks]
        else:
            outcomes = [text.Text(', ').join(
                _outcome(each, name, f'{name} ')
                for name, outcome in each.checks.items() if outcome is not Outcome.OK)]
        grid.add_row(text.Text(printable(each.host.name)), text.Text(printable(each.host.cell)),
                     terminal.styled(each.host.service), report, *outcomes,
                     text.Text(each.migrations))
    return grid


def _outcome(each: HostStatus, check: str, before: str) -> text.Text:
    """Return the outcome of a check, dim if the report is not fresh."""
    outcome = each.checks.get(check)
    if outcome is None:
        return text.Text('')
    style = terminal.STYLES[outcome.value] if each.report == FRESH else 'dim'
    return text.Text(f'{before}{outcome}', style)


def _findings(out: console.Console, statuses: Iterable[HostStatus]) -> None:
    for each in statuses:
        if each.host.report and each.host.report.findings:
            out.print(text.Text(printable(each.host.name), 'bold'))
            out.print(terminal.findings(each.host.report.findings))
            out.print()


def _problems(each: HostStatus) -> list[tuple[str, Outcome]]:
    """Return each problem of a host in words, with its severity."""
    problems: list[tuple[str, Outcome]] = []
    if each.report != FRESH:  # the content of a stale report is not used
        problems.append((f'report {each.report}', Outcome.UNKNOWN))
    else:
        problems += [(f'{name} {outcome}', outcome) for name, outcome in each.checks.items()
                     if outcome is not Outcome.OK]
    if each.host.service != 'up':
        problems.append((f'nova-compute {each.host.service}', Outcome.WARNING))
    return problems


def _totals(statuses: Sequence[HostStatus], width: int) -> console.Group:
    """Return how many hosts have which problem, and how many have none."""
    affected: dict[tuple[int, str], list[str]] = {}
    for each in statuses:
        for words, outcome in _problems(each):
            affected.setdefault((WORST_FIRST.index(outcome), words), []).append(each.host.name)
    grid = table.Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(justify='right', no_wrap=True)
    grid.add_column(overflow='fold')
    side = max((len(words) for _rank, words in affected), default=0) + 8
    for (rank, words), names in sorted(affected.items()):
        grid.add_row(text.Text(words, terminal.STYLES[WORST_FIRST[rank].value]), str(len(names)),
                     text.Text(terminal.names(names, width - side, _MOST)))
    well = sum(each.well for each in statuses)
    total = wording.counted(len(statuses), '{} host', '{} hosts')
    line = text.Text(f'{total}: ').append(
        f'{well} well', 'green' if well == len(statuses) else '')
    return console.Group(grid, line) if affected else console.Group(line)


_WORDS = {State.ACCEPTED: 'accepted', State.WARNED: 'accepted, with a warning',
          State.REJECTED: 'rejected'}


def explained(stdout: TextIO, candidates: Sequence[Candidate]) -> None:
    """Print where a server can go.

    Hosts with equal verdicts share a paragraph. Accepted hosts come first, the totals last.
    """
    out = terminal.console_for(stdout)
    groups: dict[object, list[Candidate]] = {}
    for each in candidates:
        if each.state is not None:
            groups.setdefault((each.state, each.host.service, each.alike), []).append(each)
    if not groups:
        out.print('The server is already on that host.' if candidates
                  else 'There is no host in its cell.')
        return
    counts = []
    for state, words in _WORDS.items():
        of_state = [group for group in groups.values() if group[0].state is state]
        for group in sorted(of_state, key=lambda group: group[0].host.service != 'up'):
            _paragraph(out, state, group)
        if of_state:
            count = f'{sum(map(len, of_state))} {words.replace(",", "")}'
            counts.append(text.Text(count, terminal.STYLES[state.value]))
    out.print(text.Text(', ').join(counts))
    not_up = sum(each.host.service != 'up' for each in candidates
                 if each.state in (State.ACCEPTED, State.WARNED))
    if not_up:
        out.print(f'{not_up} of the accepted hosts: nova-compute is down or disabled, so Nova '
                  'itself does not choose them.')


def _paragraph(out: console.Console, state: State, group: Sequence[Candidate]) -> None:
    first = group[0]
    head = terminal.sign(state).append(f' {_WORDS[state]}')
    if len(group) > 1:
        head.append(f': {len(group)} hosts')
    if first.host.service != 'up':
        head.append(f', nova-compute {first.host.service}')
    out.print(head)
    # The accepted hosts are the answer, so all of them are named.
    most = _MOST if state is State.REJECTED else 0
    names = terminal.names([each.host.name for each in group], out.width - 2, most)
    out.print(padding.Padding(text.Text(names, 'bold'), (0, 0, 0, 2)))
    verdict = first.verdict if len(group) == 1 else first.alike
    for finding in (*verdict.rejections, *verdict.warnings):
        out.print(padding.Padding(terminal.reason(finding), (0, 0, 0, 4)))
    out.print()
