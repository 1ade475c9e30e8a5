# SPDX-License-Identifier: Apache-2.0
"""The matrix on a terminal: groups of alike hosts as a coloured grid, their names and the reasons below."""

from __future__ import annotations

from typing import TextIO

from rich import console as consoles
from rich import table, text

from nova_migcheck import hostnames
from nova_migcheck.cli import terminal
from nova_migcheck.finding import Finding, printable
from nova_migcheck.matrix import Matrix, Row, State, state

SIGNS = {State.ACCEPTED: ('✓', 'green'), State.WARNED: ('!', 'yellow'), State.REJECTED: ('✗', 'bold red'), State.SAME: ('·', 'dim'),
         State.APART: (' ', '')}
# Parts of folded names that are written out.
_MOST = 6


def show(matrix: Matrix, stdout: TextIO) -> None:
    """Print the grid, in blocks where it is wider than the terminal."""
    console = terminal.on(stdout)
    sources, targets = matrix.source_groups(), matrix.target_groups()
    if not sources:
        console.print('There are no compute hosts.')
        return
    left = [_source(matrix, group) for group in sources]
    right = [_names(matrix, group) for group in targets]
    side = min(max(map(len, left)), max(20, console.width // 3))
    # Names head the columns where they fit, else numbers.
    wide = max(map(len, right)) + 1
    named = side + 2 + wide * len(right) <= console.width
    width = wide if named else len(str(len(right))) + 1
    each = max(1, (console.width - side - 2) // width)
    for start in range(0, len(targets), each):
        block = range(start, min(start + each, len(targets)))
        head = text.Text('from \\ to'.ljust(side + 1), 'dim')
        for number in block:
            head.append((right[number] if named else str(number + 1)).rjust(width), 'bold')
        console.print(head, no_wrap=True)
        for rows, name in zip(sources, left):
            line = text.Text((name if len(name) <= side else name[:side - 1] + '…').ljust(side + 1))
            for number in block:
                sign, style = SIGNS[_state(matrix, rows, targets[number])]
                line.append(sign.rjust(width), style)
            console.print(line, no_wrap=True)
        console.print()
    if not named:
        names = table.Table.grid(padding=(0, 1))
        for number, (group, name) in enumerate(zip(targets, right)):
            names.add_row(text.Text(str(number + 1), 'bold', justify='right'), text.Text(name),
                          text.Text(f'{len(group)} hosts' if len(group) > 1 else '', 'dim'))
        console.print(text.Text('targets', 'bold'))
        console.print(names)
        console.print()
    _reasons(matrix, console)
    legend = text.Text()
    for sign, word in ((State.ACCEPTED, 'accepted'), (State.WARNED, 'accepted, with a warning'), (State.REJECTED, 'rejected'),
                       (State.SAME, 'the same host')):
        legend.append(f'{SIGNS[sign][0]} ', SIGNS[sign][1]).append(f'{word}   ')
    console.print(legend)


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
        sign, style = SIGNS[State.REJECTED if rejects else State.WARNED]
        line = text.Text().append(f'{finding.check}: ', style).append_text(terminal.told(finding))
        everywhere = len(sources_of) >= len({matrix.hosts[row.host].name for row in matrix.rows}) - 1
        line.append(f'\nto {printable(hostnames.fold(list(targets_of), _MOST))}', 'bold')
        if not everywhere:
            line.append(f' from {printable(hostnames.fold(list(sources_of), _MOST))}')
        grid.add_row(text.Text(sign, style), line)
    console.print(text.Text('reasons', 'bold'))
    console.print(grid)
    console.print()


def _state(matrix: Matrix, sources: list[Row], targets: list[int]) -> State:
    if matrix.hosts[sources[0].host].cell != matrix.hosts[targets[0]].cell:
        return State.APART
    if len(targets) == 1 and all(row.host == targets[0] for row in sources):
        return State.SAME
    return state(matrix.verdict(sources[0], targets[0]))


def _source(matrix: Matrix, group: list[Row]) -> str:
    servers = sum(len(row.who) for row in group)
    return _names(matrix, [row.host for row in group]) + (f' ({servers} servers)' if servers else '')


def _names(matrix: Matrix, hosts: list[int]) -> str:
    return printable(hostnames.fold(list(dict.fromkeys(matrix.hosts[host].name for host in hosts)), _MOST))
