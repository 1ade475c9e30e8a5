# SPDX-License-Identifier: Apache-2.0
"""The commands that carry out a plan."""

from __future__ import annotations

from nova_migcheck.cli import drain
from nova_migcheck.planning import plan as plans
from nova_migcheck.planning.plan import Move, Plan, Resident


def lines(at_once, *targets):
    moves = [
        Move(Resident(f'uuid{n}', f's{n}', 'compute1', 'cell1', 9 - n, 1, 1), target)
        for n, target in enumerate(targets)
    ]
    return list(drain.commands(Plan(('compute1',), tuple(plans.waves(moves, at_once, {})))))


COMMAND = 'openstack --os-compute-api-version 2.30 server migrate --live-migration --wait --host '


def test_one_after_the_other():
    assert lines(1, 'compute2', None, 'a b; rm') == [
        f'{COMMAND}compute2 uuid0',
        f"{COMMAND}'a b; rm' uuid2",
    ]


def test_in_waves():
    assert lines(2, 'compute2', 'compute3', 'compute4') == [
        f'{COMMAND}compute2 uuid0 &',
        f'{COMMAND}compute3 uuid1 &',
        'wait',
        f'{COMMAND}compute4 uuid2 &',
        'wait',
    ]


def test_nothing_can_go():
    assert lines(2, None) == []
