# SPDX-License-Identifier: Apache-2.0
"""What an operator assumes, and the reasons of a server that stays."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.verdict import Verdict
from nova_migcheck.planning import world
from nova_migcheck.planning.plan import Reason, Resident

REFUSED = Finding('endpoint', Outcome.FAILURE, 'http://a', 'refused', code='endpoint-refused')
# Without its code and its texts.
BARE = Finding('endpoint', Outcome.FAILURE, '', '')
CPU = Finding('cpu', Outcome.FAILURE, 'target', 'lacks avx', code='cpu-features-missing')


@pytest.mark.parametrize(
    ('assumed', 'left'),
    [
        ({}, [REFUSED, CPU]),
        ({'checks': frozenset({'endpoint'})}, [CPU]),
        ({'report_only': True}, []),
        ({'repaired': frozenset({'cpu-features-missing'})}, [REFUSED]),
        ({'repaired': frozenset({'compute2:endpoint-refused'})}, [CPU]),
        ({'repaired': frozenset({'compute3:endpoint-refused'})}, [REFUSED, CPU]),
    ],
)
def test_assumptions(assumed, left):
    assert world.Assumptions(**assumed).left('compute2', [REFUSED, CPU]) == left


class Nova:
    """A dry run of Nova's scheduler in which each host takes one server."""

    def __init__(self, *hosts, out=()):
        self.free = list(hosts)
        self.out = dict(out)

    def decide(self, request, barred, refused):
        ours = [host for host in self.free if refused(SimpleNamespace(host=host, stats=host))]
        ranked = [host for host in self.free if host not in ours and host not in barred]
        out = {
            **self.out,
            **{host: ('plan', text) for host, text in barred.items()},
            **dict.fromkeys(ours, (world.OURS, '')),
        }
        return SimpleNamespace(ranked=ranked, out=out)

    def take(self, request, decision, host):
        self.free.remove(host)
        self.out[host] = 'placement', 'taken'

        def undo():
            self.free.append(host)
            del self.out[host]

        return undo


class Judge:
    """Rejects compute2."""

    def in_full(self, stats):
        # It takes long, so nobody asks for it where the short one has accepted.
        assert stats == 'compute2'
        return Verdict((REFUSED,))

    def verdict(self, stats):
        return Verdict((BARE,) if stats == 'compute2' else ())


def moves(nova, *sizes, barred=None, assumed=None):
    cases = [
        world.Case(Resident(f'u{size}', f's{size}', 'compute1', 'cell1', size, 1, 1), None, Judge())
        for size in sizes
    ]
    by_uuid = {case.server.uuid: case for case in cases}
    made = world.World(nova, by_uuid, barred or {}, assumed or world.Assumptions())
    stats = {f'compute{number}': f'compute{number}' for number in range(9)}
    return world.plan(cases, made, stats, 5)


def test_the_largest_first_and_who_has_no_room_says_why():
    nova = Nova('compute2', 'compute3', out={'compute5': ('ComputeFilter', '')})
    large, small = moves(nova, 1, 2, barred={'compute6': 'down'})
    assert (large.server.name, large.target) == ('s2', 'compute3')
    assert small.verdict == 'cannot' and small.reasons[0].text.startswith('it could go alone, but')
    assert set(small.reasons[1:]) == {
        Reason('endpoint', 'http://a: refused', 'endpoint-refused', ('compute2',)),
        Reason('placement', 'taken', '', ('compute3',)),
        Reason('ComputeFilter', '', '', ('compute5',)),
        Reason('plan', 'down', '', ('compute6',)),
    }


def test_what_is_assumed_repaired_is_a_target():
    both = moves(
        Nova('compute2', 'compute3'),
        1,
        2,
        assumed=world.Assumptions(repaired=frozenset({'endpoint-refused'})),
    )
    assert [move.target for move in both] == ['compute2', 'compute3']


def test_a_server_that_is_stuck_alone():
    (move,) = moves(Nova('compute2'), 1)
    assert move.verdict == 'cannot' and [reason.by for reason in move.reasons] == ['endpoint']
