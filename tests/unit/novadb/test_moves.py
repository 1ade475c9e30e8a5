# SPDX-License-Identifier: Apache-2.0
"""What the records of migrations say. That Nova's records are such, the functional tests see."""

import datetime
from types import SimpleNamespace

import pytest

from nova_migcheck.novadb import moves


def record(number, status, source='compute1', target='compute2', kind=moves.LIVE, minute=0):
    return SimpleNamespace(id=number, status=status, source_compute=source, dest_compute=target, migration_type=kind,
                           updated_at=datetime.datetime(2026, 11, 26, 12, minute, tzinfo=datetime.timezone.utc))


@pytest.fixture
def records(monkeypatch):
    there = []
    monkeypatch.setattr(moves, '_records', lambda _context, _uuid, statuses: [one for one in there if one.status in statuses])
    return there


def test_the_newest_that_has_not_begun_is_the_one_under_way(records):
    assert moves.under_way(None, 'uuid') is None
    records += [record(3, 'accepted', source='compute3'), record(2, 'accepted'),
                record(4, 'completed', source='compute2', target='compute3')]
    move = moves.under_way(None, 'uuid')
    assert (move.source, move.kind) == ('compute3', moves.LIVE)
    assert move.arrived == datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.timezone.utc).timestamp()


@pytest.mark.parametrize('statuses, ended', [
    ([], ''), (['completed'], ''), (['failed'], 'failed'), (['error'], 'failed'), (['cancelled'], 'cancelled'),
    (['failed', 'completed'], ''), (['completed', 'failed'], 'failed'), (['failed', 'running'], '')])
def test_how_the_last_one_to_a_host_ended(records, statuses, ended):
    records += [record(number, status) for number, status in enumerate(statuses)]
    records += [record(99, 'cancelled', target='compute3'), record(98, 'failed', kind='resize')]
    assert moves.ended_badly(None, 'uuid', 'compute2') == ended


def test_when_it_arrived(records):
    records += [record(1, 'completed', minute=1), record(2, 'completed', target='compute3', minute=2), record(3, 'failed', minute=3)]
    noon = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.timezone.utc).timestamp()
    assert moves.arrived(None, 'uuid', 'compute2') == noon + 60 and moves.arrived(None, 'uuid', 'compute9') == 0
