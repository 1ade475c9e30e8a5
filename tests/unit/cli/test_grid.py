# SPDX-License-Identifier: Apache-2.0
"""The matrix on a terminal, where a test of the whole command has no occasion to look."""

from __future__ import annotations

import io

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
        'compute18': ['·', '!'], 'compute19': ['!', '·'], 'compute[20-21]': ['✓', '✗'], 'compute22': ['✓', '·']}
    # What is blank stands where the hosts of the other cell are.
    assert len(rows['compute19']) < rows['compute22'].index('✓')
    assert 'Of 8 pairs of hosts: 4 accepted, 2 with a warning, 2 rejected.' in lines
