# SPDX-License-Identifier: Apache-2.0
"""The matrix on a terminal: groups of alike hosts as a coloured grid, their names and the reasons below."""

from __future__ import annotations

import collections
from typing import Sequence, TextIO

from rich import console as consoles
from rich import table, text

from nova_migcheck import hostranges
from nova_migcheck.cli import terminal
from nova_migcheck.finding import Finding, printable
from nova_migcheck.judging.matrix import Matrix, Row, State, state

# Parts of folded names that are written out.
_MOST = 6
_LEGEND = {State.ACCEPTED: 'accepted', State.WARNED: 'with a warning', State.REJECTED: 'rejected', State.SAME: 'same host'}


def show(matrix: Matrix, stdout: TextIO) -> None:
    """Print the grid, in blocks where it is wider than the terminal."""
    console = terminal.on(stdout)
    sources, targets = matrix.source_groups(), matrix.target_groups()
    if not sources:
        console.print('There are no compute hosts.')
        return
    right = [_names(matrix, group) for group in targets]
    wide, numbers = max(map(len, right)) + 1, len(str(len(right))) + 1
    longest = max(len(_source(matrix, group, _MOST)) for group in sources)
    # The names of the sources have a third, or what the columns leave.
    side = min(longest, max(20, console.width // 3, console.width - 2 - numbers * len(right)))
    # Names head the columns where they fit, else numbers.
    named = side + 2 + wide * len(right) <= console.width
    width = wide if named else numbers
    left = [_fitting(matrix, group, side) for group in sources]
    each = max(1, (console.width - side - 2) // width)
    heads = right if named else [str(number + 1) for number in range(len(targets))]
    for start in range(0, len(targets), each):
        block = range(start, min(start + each, len(targets)))
        head = text.Text().append('from \\ to'.ljust(side + 1), 'dim')
        for number in block:
            head.append(heads[number].rjust(width), 'bold')
        console.print(head, no_wrap=True)
        for rows, name in zip(sources, left):
            line = text.Text(name.ljust(side + 1))
            for number in block:
                sign = terminal.sign(_state(matrix, rows, targets[number]))
                line.append(' ' * (width - len(sign))).append_text(sign)
            console.print(line, no_wrap=True)
        console.print()
    if not named:
        _columns(heads, right, console)
    _reasons(matrix, console)
    _legend(matrix, console)


def _columns(heads: Sequence[str], names: Sequence[str], console: consoles.Console) -> None:
    """What the numbers over the columns stand for."""
    grid = table.Table.grid(padding=(0, 1))
    for head, name in zip(heads, names):
        grid.add_row(text.Text(head, 'bold', justify='right'), text.Text(name))
    console.print(text.Text('targets', 'bold'))
    console.print(grid)
    console.print()


def _legend(matrix: Matrix, console: consoles.Console) -> None:
    """The signs, and how many pairs of hosts have which."""
    pairs: collections.Counter[State] = collections.Counter()
    for sources, targets, found, _verdict in matrix.folded():
        if not sources[0].who:
            both = {row.host for row in sources} & set(targets)
            pairs[found] += len(sources) * len(targets) - len(both)
    legend = text.Text()
    for what, words in _LEGEND.items():
        legend.append_text(terminal.sign(what)).append(f' {words}  ')
    console.print(legend.append('blank another cell') if len({host.cell for host in matrix.hosts}) > 1 else legend)
    counts = ', '.join(f'{pairs[what]} {words}' for what, words in _LEGEND.items() if pairs[what])
    console.print(text.Text(f'Of {sum(pairs.values())} pairs of hosts: {counts}.' if counts else 'No host has another one to go to.'))


def _reasons(matrix: Matrix, console: consoles.Console) -> None:
    found: dict[tuple[Finding, bool], tuple[dict[str, None], dict[str, None]]] = {}
    for sources, targets, _state, verdict in matrix.folded():
        for rejects, findings in ((True, verdict.rejections), (False, verdict.warnings)):
            for finding in findings:
                pair = found.setdefault((finding, rejects), ({}, {}))
                pair[0].update(dict.fromkeys(matrix.hosts[row.host].name for row in sources))
                pair[1].update(dict.fromkeys(matrix.hosts[target].name for target in targets))
    if not found:
        return
    grid = table.Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow='fold')
    for (finding, rejects), (sources_of, targets_of) in sorted(found.items(), key=lambda item: not item[0][1]):
        sign = terminal.sign(State.REJECTED if rejects else State.WARNED)
        line = text.Text().append(f'{finding.check}: ', sign.style).append_text(terminal.told(finding))
        everywhere = len(sources_of) >= len({matrix.hosts[row.host].name for row in matrix.rows}) - 1
        line.append(f'\nto {printable(hostranges.fold(list(targets_of), _MOST))}', 'bold')
        if not everywhere:
            line.append(f' from {printable(hostranges.fold(list(sources_of), _MOST))}')
        grid.add_row(sign, line)
    console.print(text.Text('reasons', 'bold'))
    console.print(grid)
    console.print()


def _state(matrix: Matrix, sources: list[Row], targets: list[int]) -> State:
    if matrix.hosts[sources[0].host].cell != matrix.hosts[targets[0]].cell:
        return State.APART
    if len(targets) == 1 and all(row.host == targets[0] for row in sources):
        return State.SAME
    return state(matrix.verdict(sources[0], targets[0]))


def _fitting(matrix: Matrix, group: list[Row], width: int) -> str:
    """The hosts of a group in ``width`` characters: as few names as that takes, but how many they are."""
    for most in range(_MOST, 0, -1):
        name = _source(matrix, group, most)
        if len(name) <= width:
            return name
    return name[:width - 1] + '…'


def _source(matrix: Matrix, group: list[Row], most: int) -> str:
    who = [uuid for row in group for uuid in row.who]
    servers = f' ({len(who)} {"server" if len(who) == 1 else "servers"})' if who else ''
    return _names(matrix, [row.host for row in group], most) + servers


def _names(matrix: Matrix, hosts: list[int], most: int = _MOST) -> str:
    return printable(hostranges.fold(list(dict.fromkeys(matrix.hosts[host].name for host in hosts)), most))
