# SPDX-License-Identifier: Apache-2.0
"""The matrix on a terminal, where a test of the whole command has no occasion to look."""

from __future__ import annotations

import io
import re

import pytest

from nova_migcheck.cli import grid
from nova_migcheck.judging import matrix as matrices
from tests.cli.hosts import MIGCHECK, NOW
from tests.unit.judging.test_matrix import POLICIES, fleet


def shown(hosts):
    out = io.StringIO()
    grid.show(matrices.build(hosts, POLICIES, MIGCHECK, NOW), out)
    return out.getvalue()


def test_no_hosts() -> None:
    assert shown([]) == 'There are no compute hosts.\n'


def test_hosts_of_two_cells_say_nothing_of_each_other() -> None:
    lines = shown(fleet()[17:22]).splitlines()
    rows = {line.split()[0]: line[15:].rstrip() for line in lines[1:5]}
    assert {name: row.split() for name, row in rows.items()} == {
        'compute18': ['·', '!'],
        'compute19': ['!', '·'],
        'compute[20-21]': ['✓', '✗'],
        'compute22': ['✓', '·'],
    }
    # What is blank stands where the hosts of the other cell are.
    assert len(rows['compute19']) < rows['compute22'].index('✓')
    assert 'Of 8 pairs of hosts: 4 accepted, 2 with a warning, 2 rejected.' in lines


def drawn(
    monkeypatch: pytest.MonkeyPatch, width: int, hosts: list
) -> tuple[matrices.Matrix, list[list[str]], str]:
    """Return the matrix, the lines of each block of columns, and the rest of the text."""
    monkeypatch.setenv('COLUMNS', str(width))
    parts = shown(hosts).split('\n\n')
    blocks = [part.split('\n') for part in parts if part.startswith('from \\ to')]
    return (
        matrices.build(hosts, POLICIES, MIGCHECK, NOW),
        blocks,
        '\n\n'.join(parts[len(blocks) :]),
    )


def expected(matrix: matrices.Matrix, rows: list, targets: list) -> str:
    """Return the sign of a group of sources and one of targets, by any pair of different hosts."""
    if matrix.hosts[rows[0].host].cell != matrix.hosts[targets[0]].cell:
        return ' '
    pairs = [(row, target) for row in rows for target in targets if row.host != target]
    return (
        (matrix.verdict(*pairs[0]).rejections and '✗')
        or (matrix.verdict(*pairs[0]).warnings and '!')
        or '✓'
        if pairs
        else '·'
    )


@pytest.mark.parametrize(
    'width, side, per_block', [(40, 20, 6), (63, 21, 13), (66, 22, 14), (70, 26, 14), (120, 36, 14)]
)
def test_each_pair_has_its_sign_at_its_place(
    monkeypatch: pytest.MonkeyPatch, width: int, side: int, per_block: int
) -> None:
    matrix, blocks, _rest = drawn(monkeypatch, width, fleet())
    column = 0
    for head, *lines in blocks:
        assert len(lines) == len(matrix.source_groups())
        numbers = head[side + 1 :]
        assert len(numbers) % 3 == 0 and len(numbers) // 3 == min(per_block, 14 - column)
        for start in range(0, len(numbers), 3):
            assert numbers[start : start + 3] == f'{column + 1:3}'
            for rows, line in zip(matrix.source_groups(), lines):
                assert (
                    line[side + 1 :][start : start + 3]
                    == f'  {expected(matrix, rows, matrix.target_groups()[column])}'
                )
            column += 1
    assert column == len(matrix.target_groups()) == 14


def test_names_that_are_too_long_are_cut_but_count_their_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [line[:21].rstrip() for line in drawn(monkeypatch, 40, fleet())[1][0]][1:]
    assert names[:4] == [
        'compute[1,…] (11 ho…',
        'compute[2,12]',
        'compute[5,15]',
        'compute[8,…] (3 hos…',
    ]
    names = [line[:27].rstrip() for line in drawn(monkeypatch, 70, fleet())[1][0]][1:]
    assert names[0] == 'compute[1,…] (11 hosts)'


def test_names_head_the_columns_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    head = drawn(monkeypatch, 300, fleet()[17:22])[1][0][0]
    assert head.split()[3:] == ['compute18', 'compute19', 'compute[20-21]', 'compute22']
    assert drawn(monkeypatch, len(head) + 1, fleet()[17:22])[1][0][0] == head
    _matrix, (lines,), rest = drawn(monkeypatch, len(head), fleet()[17:22])
    assert lines[0].split()[3:] == ['1', '2', '3', '4']
    assert [line.split() for line in rest.split('\n\n')[0].splitlines()] == [
        ['targets'],
        ['1', 'compute18'],
        ['2', 'compute19'],
        ['3', 'compute[20-21]'],
        ['4', 'compute22'],
    ]
    assert 'targets' not in drawn(monkeypatch, 300, fleet()[17:22])[2].splitlines()


def test_each_reason_names_whom_it_concerns_rejections_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest = drawn(monkeypatch, 200, fleet())[2]
    reasons = rest[rest.index('reasons') :].split('\n\n')[0].splitlines()[1:]
    assert ''.join(line[0] for line in reasons).replace(' ', '') == '✗✗✗✗!!!'
    concerned = [line.strip() for line in reasons if line.startswith('  to ')]
    assert concerned == [
        'to compute[2,12,22] from compute[1,3-4,6-7,10-11,13-14,16-17,…] (18 hosts)',
        'to compute[3,13,23]',
        'to compute[5,15,25] from compute[1-4,6-7,10-14,16-17,20-24,26-27,…] (21 hosts)',
        'to compute[1-4,6-7,10-14,16-17,20-24,26-27,…] (21 hosts) from compute[5,15,25]',
        'to compute[6,16,26]',
        'to compute[8,18,28] unreadable',
        'to compute[9,19,29]',
    ]
    assert '  another cell' not in rest and 'blank another cell' in rest
    assert 'Of 490 pairs of hosts: 192 accepted, 158 with a warning, 140 rejected.' in rest


def test_one_cell_and_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = drawn(monkeypatch, 200, [fleet()[0], fleet()[3]])[2]
    assert 'reasons' not in rest and 'another cell' not in rest
    assert 'Of 2 pairs of hosts: 2 accepted.' in rest
    assert 'There is no pair of hosts.' in drawn(monkeypatch, 200, [fleet()[1]])[2]


def test_colours_change_nothing_but_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '70')
    plain = shown(fleet())
    monkeypatch.setenv('FORCE_COLOR', '1')
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.delenv('NO_COLOR', raising=False)
    coloured = shown(fleet())
    assert re.sub('\x1b\\[[0-9;]*m', '', coloured) == plain
    for look in (
        '\x1b[2mfrom \\ to',
        '\x1b[1m  1',
        '\x1b[1;31m✗',
        '\x1b[33m!',
        '\x1b[32m✓',
        '\x1b[2m·',
        '\x1b[1m 1',
        '\x1b[1mtargets',
        '\x1b[1mreasons',
        '\x1b[1;31mcpu: ',
        '\x1b[33maddress: ',
        '\x1b[1mto compute[3,13,23]',
    ):
        assert look in coloured, look
