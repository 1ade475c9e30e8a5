# SPDX-License-Identifier: Apache-2.0
"""Draw the matrix on a terminal: a grid of groups of equal hosts, with names and reasons below."""

from __future__ import annotations

import collections
from typing import Sequence, TextIO

from rich import console as consoles
from rich import table, text

from nova_migcheck import hostranges, wording
from nova_migcheck.cli import terminal
from nova_migcheck.finding import Finding, printable
from nova_migcheck.judging.matrix import Matrix, Row, State

# Maximum number of parts of folded names.
_MOST = 6
_LEGEND = {State.ACCEPTED: 'accepted', State.WARNED: 'with a warning', State.REJECTED: 'rejected',
           State.SAME: 'same host'}


def show(matrix: Matrix, stdout: TextIO) -> None:
    """Print the grid, in blocks if it is wider than the terminal."""
    console = terminal.console_for(stdout)
    sources, targets = matrix.source_groups(), matrix.target_groups()
    if not sources:
        console.print('There are no compute hosts.')
        return
    names = [_names(matrix, group) for group in targets]
    name_width, number_width = max(map(len, names)) + 1, len(str(len(names))) + 1
    longest = max(len(_source(matrix, group, _MOST)) for group in sources)
    # The names of the sources get a third of the width, or what the columns leave.
    side = min(longest, max(20, console.width // 3,
                            console.width - 2 - number_width * len(names)))
    # Names head the columns if they fit, else numbers.
    named = side + 2 + name_width * len(names) <= console.width
    heads = names if named else [str(number + 1) for number in range(len(targets))]
    left = [_fitted(matrix, group, side).ljust(side + 1) for group in sources]
    width = name_width if named else number_width
    per_block = max(1, (console.width - side - 2) // width)
    for start in range(0, len(targets), per_block):
        block = slice(start, start + per_block)
        head = text.Text().append('from \\ to'.ljust(side + 1), 'dim')
        for name in heads[block]:
            head.append(name.rjust(width), 'bold')
        console.print(head, no_wrap=True)
        for rows, name in zip(sources, left):
            line = text.Text(name)
            for target_group in targets[block]:
                sign = terminal.sign(matrix.state(rows, target_group))
                line.append(' ' * (width - len(sign))).append_text(sign)
            console.print(line, no_wrap=True)
        console.print()
    if not named:
        _columns(heads, names, console)
    _reasons(matrix, console)
    _legend(matrix, console)


def _columns(heads: Sequence[str], names: Sequence[str], console: consoles.Console) -> None:
    """Print the hosts of each numbered column."""
    grid = table.Table.grid(padding=(0, 1))
    for head, name in zip(heads, names):
        grid.add_row(text.Text(head, 'bold', justify='right'), text.Text(name))
    console.print(text.Text('targets', 'bold'))
    console.print(grid)
    console.print()


def _legend(matrix: Matrix, console: consoles.Console) -> None:
    """Print the signs, and the number of pairs of hosts with each."""
    pairs: collections.Counter[State] = collections.Counter()
    for sources, targets, pair_state, _verdict in matrix.folded():
        if not sources[0].who:
            both = {row.host for row in sources} & set(targets)
            pairs[pair_state] += len(sources) * len(targets) - len(both)
    legend = text.Text()
    for each, words in _LEGEND.items():
        legend.append_text(terminal.sign(each)).append(f' {words}  ')
    if len({host.cell for host in matrix.hosts}) > 1:
        legend.append('blank another cell')
    console.print(legend)
    counts = ', '.join(f'{pairs[each]} {words}' for each, words in _LEGEND.items() if pairs[each])
    console.print(text.Text(f'Of {sum(pairs.values())} pairs of hosts: {counts}.' if counts
                            else 'There is no pair of hosts.'))


def _reasons(matrix: Matrix, console: consoles.Console) -> None:
    """Print each finding with the sources and targets that it concerns."""
    hosts_of: dict[tuple[Finding, bool], tuple[dict[str, None], dict[str, None]]] = {}
    for sources, targets, _pair_state, verdict in matrix.folded():
        for rejects, findings in ((True, verdict.rejections), (False, verdict.warnings)):
            for finding in findings:
                from_hosts, to_hosts = hosts_of.setdefault((finding, rejects), ({}, {}))
                from_hosts.update(dict.fromkeys(matrix.hosts[row.host].name for row in sources))
                to_hosts.update(dict.fromkeys(matrix.hosts[target].name for target in targets))
    if not hosts_of:
        return
    grid = table.Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow='fold')
    every_source = len({matrix.hosts[row.host].name for row in matrix.rows})
    rejections_first = sorted(hosts_of.items(), key=lambda item: not item[0][1])
    for (finding, rejects), (from_hosts, to_hosts) in rejections_first:
        sign = terminal.sign(State.REJECTED if rejects else State.WARNED)
        line = text.Text().append(f'{finding.check}: ', sign.style)
        line.append_text(terminal.paragraphs(finding))
        line.append(f'\nto {printable(hostranges.fold(list(to_hosts), _MOST))}', 'bold')
        if len(from_hosts) < every_source - 1:
            line.append(f' from {printable(hostranges.fold(list(from_hosts), _MOST))}')
        grid.add_row(sign, line)
    console.print(text.Text('reasons', 'bold'))
    console.print(grid)
    console.print()


def _fitted(matrix: Matrix, group: list[Row], width: int) -> str:
    """Return the hosts of a group in ``width`` characters: fewer names, but always their number."""
    for most in range(_MOST, 0, -1):
        name = _source(matrix, group, most)
        if len(name) <= width:
            return name
    return name[:width - 1] + '…'


def _source(matrix: Matrix, group: list[Row], most: int) -> str:
    names = _names(matrix, [row.host for row in group], most)
    servers = sum(len(row.who) for row in group)
    if not servers:
        return names
    return f'{names} ({wording.counted(servers, "{} server", "{} servers")})'


def _names(matrix: Matrix, hosts: list[int], most: int = _MOST) -> str:
    names = dict.fromkeys(matrix.hosts[host].name for host in hosts)
    return printable(hostranges.fold(list(names), most))
