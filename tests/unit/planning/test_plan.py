# SPDX-License-Identifier: Apache-2.0
"""The order, the waves, the minutes and the sum of a plan."""

from __future__ import annotations

import time

import pytest

from nova_migcheck.judging.matrix import Host
from nova_migcheck.planning import plan as plans
from nova_migcheck.planning.plan import Move, Plan, Reason, Resident
from nova_migcheck.report import published
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Report

GIB = 2**30


def resident(name, memory=1024, host='compute1', **others):
    return Resident(f'uuid-{name}', name, host, 'cell1', memory, 1, 1, **others)


def host(name, *pasts):
    return Host(name, 'cell1', published.write(Report(int(time.time()), migrations=pasts)))


def arrived(peer, data, milliseconds, ended='completed', direction='in'):
    return Past(1, direction, 'c0ffeec0ffee', peer, ended, milliseconds, 10, data)


def test_rates_are_what_the_targets_saw():
    hosts = [
        host('compute2', arrived('compute1', GIB, 1000), arrived('compute1', 3 * GIB, 1000)),
        host('compute3', arrived('compute1', 2 * GIB, 1000, 'strayed')),
        host('compute4', arrived('compute1', GIB, 1, 'failed'), arrived('compute9', None, 1000)),
        host('compute5', arrived('compute2', GIB, 1, direction='out')),
        Host('compute6', 'cell1'),
    ]
    assert plans.rates(hosts) == {'compute1': 2 * GIB}


def test_largest_first_in_waves_and_what_stays_last():
    small, large, stays, unknown = (
        Move(resident('b', 512), 'compute2'),
        Move(resident('a', 4096), 'compute3'),
        Move(resident('c', 9999), None),
        Move(resident('d', 9998), None, known=False),
    )
    equal = Move(resident('a2', 512), 'compute2')
    moves = plans.waves([unknown, small, stays, equal, large], 2, {})
    assert [move.server.name for move in moves] == ['a', 'a2', 'b', 'c', 'd']
    assert [(move.order, move.wave) for move in moves] == [(1, 1), (2, 1), (3, 2), (0, 0), (0, 0)]
    assert [move.verdict for move in moves] == ['can', 'can', 'can', 'cannot', 'unknown']


def test_a_wave_takes_as_long_as_its_longest():
    moves = [
        Move(resident(name, memory), 'compute2')
        for name, memory in (('a', 6144), ('b', 3072), ('c', 3072))
    ]
    plan = Plan(('compute1',), tuple(plans.waves(moves, 2, {'compute1': GIB / 10})))
    assert plan.minutes == pytest.approx(1.0 + 0.5)
    assert plan.to_dict()['minutes'] == 1.5 and plan.to_dict()['moves'][1]['minutes'] == 0.5
    assert plan.sentence() == '3 of 3 servers can go; 2 waves, about 2 min.'


def test_the_time_is_unknown_where_a_rate_is():
    moves = [Move(resident('a'), 'compute3'), Move(resident('b', host='compute2'), 'compute3')]
    plan = Plan(('compute1', 'compute2'), tuple(plans.waves(moves, 1, {'compute1': GIB})))
    assert plan.minutes is None and 'the time is unknown' in plan.sentence()


def test_the_sum():
    moves = [
        Move(resident('a'), 'compute2', order=1, wave=1, minutes=3.0),
        *(Move(resident(f's{n}'), None, (Reason('nova', 'no'),)) for n in range(7)),
        Move(resident('u'), None, known=False),
    ]
    plan = Plan(('compute1',), tuple(moves))
    assert plan.sentence() == (
        '1 of 9 servers can go; 7 cannot: s0, s1, s2, s3, s4 and 2 more; '
        '1 unknown: u; 1 wave, about 3 min.'
    )
    document = plan.to_dict()
    assert (document['can'], document['cannot'], document['unknown']) == (1, 7, 1)
    assert document['moves'][0]['to'] == 'compute2' and document['moves'][1]['to'] is None
    assert document['moves'][1]['reasons'] == [
        {'by': 'nova', 'text': 'no', 'code': '', 'hosts': []}
    ]


def test_an_empty_host():
    assert Plan(('a', 'b'), ()).sentence() == 'No server is left: the hosts are empty.'
    assert Plan(('a',), ()).minutes == 0
