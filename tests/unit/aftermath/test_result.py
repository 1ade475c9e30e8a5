# SPDX-License-Identifier: Apache-2.0
"""The words and the bounds of one migration's result, one at a time."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, Optional

import pytest

from nova_migcheck.aftermath import job as jobs
from nova_migcheck.aftermath import result as results
from nova_migcheck.aftermath import tally, traffic
from nova_migcheck.aftermath.job import Job
from nova_migcheck.aftermath.result import Limits, Result
from nova_migcheck.aftermath.traffic import Carried, Interfaces, Traffic
from nova_migcheck.cli import prometheus
from nova_migcheck.rounds.runner import Round

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
UUID = '2f0f1c4e-5a4e-4a6e-9d7e-0123456789ab'
STATS = {
    'type': 3,
    'operation': 4,
    'time_elapsed': 3700,
    'downtime': 63,
    'data_processed': 257 * MIB,
    'memory_bps': 183 * MIB,
}


def result(direction: str = 'in', **values: Any) -> Result:
    return Result(UUID, direction, 'compute1', 1_764_000_000.6, **values)


# libvirt's statistics.


def test_each_statistic_has_its_place() -> None:
    names = (
        'memory_bps',
        'memory_iteration',
        'memory_normal_bytes',
        'memory_postcopy_requests',
        'auto_converge_throttle',
    )
    stats = {
        'type': 3,
        'operation': 4,
        'time_elapsed': 2500,
        'downtime': 30,
        'data_processed': 9,
        'memory_constant': 3,
        **{name: number for number, name in enumerate(names, 12)},
    }
    assert jobs.read(stats) == Job(
        seconds=2.5,
        downtime=30,
        data=9,
        rate=12,
        iterations=13,
        pages=14,
        zero_pages=3 * 4096,
        post_copy=15,
        throttle=16,
    )
    assert jobs.read({**stats, 'memory_page_size': 2048}).zero_pages == 3 * 2048
    assert jobs.STATS_COMPLETED | jobs.STATS_KEEP_COMPLETED == 3


def test_statistics_that_are_not_there() -> None:
    assert (
        jobs.read({'type': 3, 'time_elapsed': 0})
        == Job(seconds=0.0)
        == Job(0.0, None, 0, 0, 0, 0, 0, 0, 0, False)
    )
    assert (
        jobs.read({'type': 3, 'time_elapsed': 0, 'memory_processed': 5, 'disk_processed': 7}).data
        == 12
    )
    for value in (True, -1, 0, '5', 2.5, None):
        assert jobs.read({'type': 3, 'time_elapsed': 9, 'memory_bps': value}).rate == 0
    assert jobs.read({'type': 3, 'time_elapsed': 9, 'memory_bps': 1}).rate == 1


@pytest.mark.parametrize('changed', [{'type': 2}, {'type': 4}, {'operation': 3}, {'operation': 5}])
def test_of_another_job(changed: dict) -> None:
    assert jobs.read({**STATS, **changed}) is None


@pytest.mark.parametrize(
    'elapsed, downtime, seen, possible',
    [
        (3700, 3700, None, True),
        (3700, 3701, None, False),
        (8700, 63, 3.7, True),
        (8701, 63, 3.7, False),
        (10**9, 63, None, True),
    ],
)
def test_times_that_are_impossible(
    elapsed: int, downtime: int, seen: Optional[float], possible: bool
) -> None:
    found = jobs.read({**STATS, 'time_elapsed': elapsed, 'downtime': downtime}, seen)
    assert found.clocks_differ is not possible
    assert (found.seconds, found.downtime) == (
        (elapsed / 1000, downtime) if possible else (seen or 0.0, None)
    )


# The bounds.


def carried(total: int, strayed: int, **values: Any) -> Carried:
    return Carried(
        total,
        **{
            'intended': ('mig0',),
            'by_intended': total - strayed,
            'strayed': strayed,
            'other': 'mgmt0',
            'by_other': strayed,
            **values,
        },
    )


@pytest.mark.parametrize(
    'total, strayed, large',
    [
        (MIB, 128 * KIB, False),
        (MIB, 128 * KIB + 1, True),
        (100 * MIB, 10 * MIB, False),
        (100 * MIB, 10 * MIB + 1, True),
    ],
)
def test_a_large_part(total: int, strayed: int, large: bool) -> None:
    assert result(carried=carried(total, strayed)).strayed is large
    assert not result().strayed


@pytest.mark.parametrize(
    'downtime, limit, warned',
    [(1000, 500, False), (1001, 500, True), (None, 500, False), (2001, 1000, True)],
)
def test_a_long_downtime(downtime: Optional[int], limit: int, warned: bool) -> None:
    assert bool(result(job=Job(3.7, downtime), limits=Limits(limit)).warnings) is warned
    assert Limits() == Limits(500, None, 0)


SLOW = Job(9.0, 5, data=2 * GIB, rate=10 * MIB, pages=GIB)


@pytest.mark.parametrize(
    'changed, speed, bandwidth, warned',
    [
        ({}, 1_250_000_000, 0, True),
        ({}, None, 0, False),
        ({'rate': 0}, 1_250_000_000, 0, False),
        ({'post_copy': 1}, 1_250_000_000, 0, False),
        ({'pages': GIB - 1}, 1_250_000_000, 0, False),
        ({'zero_pages': 4 * GIB}, 1_250_000_000, 0, True),
        ({'zero_pages': 4 * GIB + 1}, 1_250_000_000, 0, False),
        ({'rate': 12_500_000}, 125_000_000, 0, False),
        ({'rate': 12_499_999}, 125_000_000, 0, True),
        ({'rate': 125_000_000}, 12_500_000_000, 0, False),
        ({'rate': 124_999_999}, 12_500_000_000, 0, True),
        ({}, 1_250_000_000, 100, False),
        ({}, 1_250_000_000, 101, True),
    ],
)
def test_a_slow_path(changed: dict, speed: Optional[int], bandwidth: int, warned: bool) -> None:
    job = dataclasses.replace(SLOW, **changed)
    assert bool(result(job=job, limits=Limits(500, speed, bandwidth)).warnings) is warned


def test_all_warnings_at_once() -> None:
    texts = result(
        job=dataclasses.replace(SLOW, downtime=5000),
        limits=Limits(500, 1_250_000_000),
        carried=carried(100 * MIB, 50 * MIB, by_other=60 * MIB),
    ).warnings
    assert len(texts) == 3
    for text, words in zip(
        texts,
        (
            [
                'at least 50 MiB of 100 MiB did not arrive on mig0',
                'mgmt0 received 60 MiB',
                'resolves on compute1',
            ],
            ['5000 ms', '500 ms'],
            ['2048 MiB', '10 MiB/s', '1192 MiB/s'],
        ),
    ):
        assert all(word in text for word in words), text


# The line of the log.


@pytest.mark.parametrize(
    'values, text',
    [
        ({'ended': 'failed', 'error': 'no route'}, 'from compute1 failed: no route'),
        (
            {'ended': 'failed', 'error': 'no route', 'seconds': 2.25, 'direction': 'out'},
            'to compute1 failed after 2.2 s: no route',
        ),
        (
            {'ended': 'failed', 'error': 'x', 'reported': ('a: b', 'c: d')},
            'failed: x; the checks had reported: a: b | c: d',
        ),
        ({'ended': 'failed', 'reported': ()}, 'failed: the checks had found nothing wrong'),
        ({'ended': 'cancelled', 'error': 'x', 'reported': ()}, 'cancelled: x'),
        ({}, 'from compute1: libvirt has no statistics for it'),
        ({'seconds': 4.0}, 'from compute1: 4.0 s, libvirt has no statistics for it'),
        ({'job': Job(3.7, 63, data=257 * MIB)}, 'from compute1: 3.7 s, downtime 63 ms, 257 MiB'),
        ({'job': Job(3.7, 63, data=257 * MIB, iterations=1)}, '257 MiB'),
        ({'job': Job(3.7, 63, data=5 * MIB, iterations=2)}, '5.0 MiB, 2 iterations'),
        (
            {'job': Job(3.7, None, data=9 * KIB, rate=MIB // 10)},
            'downtime unknown, 9 KiB at 102 KiB/s',
        ),
        (
            {'job': Job(3.7, None, clocks_differ=True)},
            "downtime unknown (the two hosts' clocks differ), 0 KiB",
        ),
        (
            {'job': Job(1.0, 5, post_copy=7, throttle=40)},
            ', post-copy (7 requests), auto-converge at 40 %',
        ),
        ({'carried': Carried(9, unknown='odd')}, 'receiving interface unknown (odd)'),
        ({'carried': Carried(9)}, 'no statistics for it'),
        (
            {'carried': Carried(9, other='eth0')},
            'most arrived on eth0 (no intended interface is configured)',
        ),
        ({'carried': carried(100 * MIB, 0)}, '100 % on mig0 (intended)'),
        (
            {'carried': carried(100 * MIB, 50 * MIB, intended=('a', 'b'))},
            '50.0 % on a or b (intended), 50.0 % on mgmt0 (not intended)',
        ),
        ({'carried': carried(100 * MIB, 0, by_other=10 * MIB)}, '100 % on mig0 (intended)'),
        (
            {'carried': carried(100 * MIB, 0, by_other=10 * MIB + 1)},
            '10 MiB on mgmt0 meanwhile, of this or other traffic',
        ),
        ({'carried': carried(MIB, 0, by_other=128 * KIB)}, '100 % on mig0 (intended)'),
        (
            {'carried': carried(MIB, 0, by_other=128 * KIB + 1)},
            '0.1 MiB on mgmt0 meanwhile, of this or other traffic',
        ),
        (
            {'carried': carried(100 * MIB, 100 * MIB)},
            '0 % on mig0 (intended), 100 % on mgmt0 (not intended)',
        ),
    ],
)
def test_lines(values: dict, text: str) -> None:
    line = result(**values).line
    assert line.startswith(f'live migration of {UUID} ')
    assert line.endswith(text) or (text.endswith('nothing wrong') and text in line), line


@pytest.mark.parametrize(
    'count, text',
    [
        (0, '0 KiB'),
        (104857, '102 KiB'),
        (104858, '0.1 MiB'),
        (MIB * 9.94, '9.9 MiB'),
        (MIB * 10, '10 MiB'),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert results._size(count) == text


@pytest.mark.parametrize('part, total, text', [(0, 8, '0 %'), (8, 8, '100 %'), (1, 8, '12.5 %')])
def test_shares(part: int, total: int, text: str) -> None:
    assert results._share(part, total) == text


# What is kept.


def test_what_is_kept() -> None:
    kept = result(
        job=Job(3.7, 63, data=9), seconds=9.0, carried=carried(MIB, 0), error='x'
    ).to_past()
    assert (kept.time, kept.direction, kept.instance, kept.peer, kept.ended) == (
        1_764_000_000,
        'in',
        '2f0f1c4e5a4e',
        'compute1',
        'completed',
    )
    assert (kept.milliseconds, kept.downtime, kept.data, kept.interface, kept.text) == (
        3700,
        63,
        9,
        'mig0',
        'x',
    )
    values = result(seconds=2.5).to_past()
    assert (values.milliseconds, values.downtime, values.data, values.interface) == (
        2500,
        None,
        None,
        '',
    )
    assert result().to_past().milliseconds is None
    strayed = result(carried=carried(MIB, MIB))
    assert (strayed.to_past().ended, strayed.to_past().interface) == ('strayed', 'mgmt0')
    assert dataclasses.replace(strayed, ended='failed').to_past().ended == 'failed'
    assert result(carried=carried(MIB, 0, unknown='odd')).to_past().interface == ''
    assert result(carried=carried(MIB, 0, intended=())).to_past().interface == ''


def test_each_migration_is_counted_once(tmp_path: pathlib.Path) -> None:
    counted = tally.Tally(7.0)
    assert set(counted.ended) == {
        f'{one} {end}' for one in ('in', 'out') for end in ('completed', 'failed', 'cancelled')
    }
    for one in (
        result(job=Job(3.5, 500, data=9)),
        result(job=Job(1.5, None, data=2)),
        result('out'),
        result('out', ended='cancelled'),
        result(carried=carried(MIB, 0)),
        result(carried=carried(MIB, MIB)),
        result(carried=carried(MIB, KIB)),
    ):
        counted.add(one)
    assert {key: count for key, count in counted.ended.items() if count} == {
        'in completed': 5,
        'out completed': 1,
        'out cancelled': 1,
    }
    assert dataclasses.astuple(counted)[2:] == (2, 5.0, 1, 0.5, 11, MIB, 1) and counted.since == 7.0
    counted.write(str(tmp_path))
    assert tally.read(str(tmp_path)) == counted and tally.read('') is None


FRESH = dataclasses.asdict(tally.Tally(7.0))


@pytest.mark.parametrize(
    'changed',
    [{name: bad} for name in FRESH if name != 'ended' for bad in (True, -1, 1e18, 'x', None)]
    + [{'ended': 3}, {'ended': {}}, {'ended': dict.fromkeys(FRESH['ended'], -1)}],
)
def test_a_file_that_holds_no_counts(tmp_path: pathlib.Path, changed: dict) -> None:
    (tmp_path / tally.NAME).write_text(json.dumps({**FRESH, **changed}))
    assert tally.read(str(tmp_path)) is None
    (tmp_path / tally.NAME).write_text(json.dumps({**FRESH, 'data': 1e17}))
    assert tally.read(str(tmp_path)).data == 10**17


def test_a_file_without_a_count(tmp_path: pathlib.Path) -> None:
    for name in FRESH:
        (tmp_path / tally.NAME).write_text(
            json.dumps({key: value for key, value in FRESH.items() if key != name})
        )
        assert tally.read(str(tmp_path)) is None, name


def test_each_counter_for_prometheus() -> None:
    counted = tally.Tally(
        1_764_000_000.6,
        timed=2,
        seconds=3.25,
        stopped=1,
        downtime=0.5,
        data=11,
        stray=12,
        strayed=13,
    )
    counted.ended['out failed'] = 4
    lines = prometheus.text(Round(started=1.0), [], counted).splitlines()
    lines = lines[lines.index(next(line for line in lines if '_migration' in line)):]
    samples = [line for line in lines if not line.startswith('#')]
    start = 'nova_migcheck_migration'
    assert samples == [
        *(
            f'{start}s_total{{direction="{one}",result="{end}"}} '
            f'{4 if (one, end) == ("out", "failed") else 0}.0'
            for one in ('in', 'out')
            for end in ('cancelled', 'completed', 'failed')
        ),
        f'{start}_seconds_count 2.0',
        f'{start}_seconds_sum 3.25',
        f'{start}_downtime_seconds_count 1.0',
        f'{start}_downtime_seconds_sum 0.5',
        f'{start}_bytes_total 11.0',
        f'{start}_stray_bytes_total 12.0',
        f'{start}_strayed_total 13.0',
        f'{start}s_since_timestamp_seconds 1.764000001e+09',
    ]
    kinds = {line.split()[2]: line.split()[3] for line in lines if line.startswith('# TYPE')}
    assert kinds == {
        f'{start}s_total': 'counter',
        f'{start}_seconds': 'summary',
        f'{start}_downtime_seconds': 'summary',
        f'{start}_bytes_total': 'counter',
        f'{start}_stray_bytes_total': 'counter',
        f'{start}_strayed_total': 'counter',
        f'{start}s_since_timestamp_seconds': 'gauge',
    }
    assert [line.split()[2] for line in lines if line.startswith('# HELP')] == list(kinds)


# The interfaces.

TWO = Interfaces({'mig0': frozenset({'10.77.0.12'}), 'mgmt0': frozenset({'10.66.0.12'})})


@pytest.mark.parametrize(
    'total, rises, intended, expected',
    [
        (100, {'mig0': 100, 'mgmt0': 7}, ('mig0',), Carried(100, ('mig0',), 100, 0, 'mgmt0', 7)),
        (100, {'mig0': 60, 'mgmt0': 40}, ('mig0',), Carried(100, ('mig0',), 60, 40, 'mgmt0', 40)),
        (100, {'mig0': 60, 'mgmt0': 20}, ('mig0',), Carried(100, ('mig0',), 60, 40, 'mgmt0', 20)),
        (
            100,
            {'mig0': 60, 'mgmt0': 19},
            ('mig0',),
            Carried(100, ('mig0',), 60, 0, 'mgmt0', 19, 'no interface received as much'),
        ),
        (100, {'a': 50, 'b': 50}, ('b', 'a'), Carried(100, ('a', 'b'), 100, 0)),
        (100, {'a': 5, 'b': 5}, (), Carried(100, (), 0, 0, 'b', 5)),
        (100, {'mig0': 100}, (), Carried(100, other='mig0', by_other=100)),
        (
            0,
            {'mgmt0': 7},
            ('mig0',),
            Carried(
                0,
                ('mig0',),
                other='mgmt0',
                by_other=7,
                unknown='libvirt does not report the amount of data',
            ),
        ),
    ],
)
def test_bounds(total: int, rises: dict, intended: Any, expected: Carried) -> None:
    assert traffic.carried(total, Traffic(rises), intended) == expected


def test_an_intended_interface_that_was_lost() -> None:
    found = traffic.carried(9, Traffic({'mgmt0': 9}, ('a', 'b', 'c')), ('a', 'b'))
    assert found.unknown.startswith('a and b disappeared') and (
        found.other,
        found.by_other,
        found.strayed,
    ) == ('mgmt0', 9, 0)
    assert not traffic.carried(9, Traffic({'mig0': 9}, ('c',)), ('mig0',)).unknown


@pytest.mark.parametrize(
    'before, after, rises, lost',
    [
        ({'mig0': 5, 'mgmt0': 5}, {'mig0': 5, 'mgmt0': 6}, {'mig0': 0, 'mgmt0': 1}, ()),
        ({'mig0': 5, 'mgmt0': 5}, {'mig0': 4, 'mgmt0': 6}, {'mgmt0': 1}, ('mig0',)),
        ({'mig0': 5}, {'mig0': 5, 'mgmt0': 6}, {'mig0': 0}, ('mgmt0',)),
        ({'mig0': 5, 'mgmt0': 0}, {'mig0': 5}, {'mig0': 0}, ('mgmt0',)),
        ({'mig0': 0, 'mgmt0': 0}, {'mig0': 0, 'mgmt0': 0, 'other': 9}, {'mig0': 0, 'mgmt0': 0}, ()),
    ],
)
def test_between_two_readings(before: dict, after: dict, rises: dict, lost: tuple) -> None:
    assert traffic.between(before, after, TWO) == Traffic(rises, lost)


def test_what_is_counted_twice() -> None:
    stacked = Interfaces(
        {'bond0': frozenset({'a'}), 'vlan0': frozenset({'b'})},
        {'vlan0': frozenset({'bond0', 'eth9'})},
    )
    before = {'bond0': 0, 'vlan0': 0}
    assert traffic.between(before, {'bond0': 5, 'vlan0': 9}, stacked).rises == {
        'bond0': 0,
        'vlan0': 9,
    }
    assert traffic.between(before, {'bond0': 9, 'vlan0': 5}, stacked).rises == {
        'bond0': 4,
        'vlan0': 5,
    }
    assert traffic.between(before, {'bond0': 9}, stacked) == Traffic({}, ('bond0', 'vlan0'))


def test_which_interfaces_hold_an_address() -> None:
    assert TWO.holding(['10.77.0.12', '10.0.0.1']) == {'mig0'} and TWO.holding([]) == frozenset()
