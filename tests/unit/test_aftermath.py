# SPDX-License-Identifier: Apache-2.0
"""What is made of libvirt's statistics and the kernel's counters; the real ones are in the lab."""
import dataclasses
import threading
import types

import hypothesis
import pytest
from hypothesis import strategies as st

from nova_migcheck.aftermath import job as jobs
from nova_migcheck.aftermath import tally, traffic, watch
from nova_migcheck.aftermath.ledger import Ledger
from nova_migcheck.aftermath.result import Limits, Result
from nova_migcheck.aftermath.traffic import Interfaces
from nova_migcheck.cli import prometheus
from nova_migcheck.report import past
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Report
from nova_migcheck.rounds.runner import Round
from tests import FUZZ
from tests.facts import facts

MIB = 1 << 20
UUID = '2f0f1c4e-5a4e-4a6e-9d7e-0123456789ab'
STATS = {
    'type': 3,
    'operation': 4,
    'time_elapsed': 3700,
    'downtime': 63,
    'data_processed': 257 * MIB,
    'memory_bps': 183 * MIB,
}
TWO = Interfaces({'mig0': frozenset({'10.77.0.12'}), 'mgmt0': frozenset({'10.66.0.12'})})


def result(rises, intended=('mig0',), lost=(), limits=None, **stats):
    job = jobs.read({**STATS, **stats}, 10.0)
    return Result(UUID, 'in', 'compute1', 1_764_000_000.0, job=job, limits=limits or Limits(),
                  carried=traffic.carried(job.data, traffic.Traffic(rises, lost), intended))


# The interfaces.

@pytest.mark.parametrize(
    'rises, strayed, words',
    [
        ({'mig0': 270 * MIB, 'mgmt0': 9000}, False, '100 % on mig0 (intended)'),
        (
            {'mig0': 9000, 'mgmt0': 270 * MIB},
            True,
            '0.0 % on mig0 (intended), 100.0 % on mgmt0 (not intended)',
        ),
        (
            {'mig0': 200 * MIB, 'mgmt0': 70 * MIB},
            True,
            '77.8 % on mig0 (intended), 22.2 % on mgmt0 (not intended)',
        ),
        ({'mig0': 250 * MIB, 'mgmt0': 20 * MIB}, False, '97.3 % on mig0 (intended)'),
        (
            {'mig0': 300 * MIB, 'mgmt0': 900 * MIB},
            False,
            '900 MiB on mgmt0 meanwhile, of this or other traffic',
        ),
        # RDMA passes every counter by: nobody is blamed.
        (
            {'mig0': 9000, 'mgmt0': 9000},
            False,
            'receiving interface unknown (no interface received as much)',
        ),
    ],
)
def test_over_which_interface(rises, strayed, words):
    found = result(rises)
    assert found.line.startswith(
        f'live migration of {UUID} from compute1: 3.7 s, downtime 63 ms, 257 MiB at 183 MiB/s, '
    )
    assert words in found.line
    assert found.strayed is strayed and bool(found.warnings) is strayed
    if strayed:
        assert 'mig0' in found.warnings[0] and 'mgmt0' in found.warnings[0]
        assert found.to_past().ended == 'strayed' and found.to_past().interface == 'mgmt0'


def test_where_nobody_has_said_what_is_meant_nothing_strays():
    found = result({'eth0': 270 * MIB}, intended=())
    assert (
        not found.warnings
        and 'most arrived on eth0 (no intended interface is configured)' in found.line
    )


def test_a_tiny_guest_does_not_stray_for_what_libvirtd_says_besides():
    assert not result({'mig0': 30_000, 'mgmt0': 90_000}, data_processed=100_000).warnings


@pytest.mark.parametrize('after', [{'mgmt0': 300 * MIB}, {'mig0': 3, 'mgmt0': 300 * MIB}])
def test_an_interface_that_vanished_or_wrapped_is_not_counted(after):
    found = traffic.between({'mig0': 2 ** 32 - 5, 'mgmt0': 0}, after, TWO, {'mig0'})
    assert found.lost == ('mig0',) and found.rises == {'mgmt0': 300 * MIB}
    told = result(found.rises, lost=found.lost)
    assert not told.warnings and 'mig0 disappeared, or its counter was reset meanwhile' in told.line


def test_a_vlan_s_bytes_are_not_those_of_the_bond_below_it():
    interfaces = Interfaces(
        {'bond0': frozenset({'10.66.0.12'}), 'bond0.200': frozenset({'10.77.0.12'})},
        {'bond0': frozenset(), 'bond0.200': frozenset({'bond0'})},
    )
    found = traffic.between(
        {'bond0': 0, 'bond0.200': 0}, {'bond0': 280 * MIB, 'bond0.200': 270 * MIB}, interfaces
    )
    assert found.rises == {'bond0': 10 * MIB, 'bond0.200': 270 * MIB}
    # The other way round: the untagged network is meant, and it came by the VLAN.
    assert result(found.rises, intended=('bond0',)).strayed


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    """A directory in place of the kernel's, for interfaces that this machine has not."""
    monkeypatch.setattr(traffic, '_SYS', str(tmp_path))

    def make(name, lower=(), speed=None):
        (tmp_path / name).mkdir()
        for below in lower:
            (tmp_path / name / f'lower_{below}').mkdir()
        if speed is not None:
            (tmp_path / name / 'speed').write_text(speed)
    return make


@pytest.mark.parametrize(
    'said, bytes_a_second',
    [('10000\n', 1_250_000_000), ('-1\n', None), ('fast', None), (None, None)],
)
def test_the_speed_of_a_link(sysfs, said, bytes_a_second):
    sysfs('eth0', speed=said)
    assert traffic.speed('eth0') == bytes_a_second and traffic.speed('eth9') is None


def test_what_lies_below_an_interface(sysfs):
    """A VLAN on a bond of two ports. Interfaces without an address are skipped, and a loop ends."""
    sysfs('bond0.7', ['bond0'])
    sysfs('bond0', ['eth0', 'eth1', 'bond0.7'])
    sysfs('eth0')
    assert list(traffic._below('bond0.7', {'bond0': 1, 'eth0': 1})) == ['bond0']
    assert sorted(traffic._below('bond0.7', {'eth0': 1, 'eth1': 1})) == ['eth0', 'eth1']
    assert list(traffic._below('gone0', {'eth0': 1})) == []


@pytest.mark.parametrize(
    'text, local',
    [('127.0.0.1', True), ('fe80::1', True), ('no address', True), ('10.77.0.12', False)],
)
def test_addresses_of_no_other_host_do_not_count(text, local):
    assert traffic._local(text) == local


def test_what_this_machine_says():
    """psutil's own words, not ours."""
    first = traffic.received()
    assert first and all(isinstance(count, int) for count in first.values())
    interfaces = Interfaces.read()
    assert 'lo' not in interfaces.addresses
    assert not traffic.between(first, traffic.received(), interfaces).lost


# The times.

def test_a_long_downtime_and_a_slow_path():
    slow = {'data_processed': 2000 * MIB, 'memory_normal_bytes': 1990 * MIB, 'memory_bps': 10 * MIB}
    link = Limits(speed=1_250_000_000)
    rises = {'mig0': 2100 * MIB}
    [warning] = result(rises, downtime=1500).warnings
    assert 'was stopped for 1500 ms; [libvirt] live_migration_downtime is 500 ms' in warning
    assert not result(rises, downtime=900).warnings
    [warning] = result(rises, limits=link, **slow).warnings
    assert '2000 MiB arrived at 10 MiB/s over a link of 1192 MiB/s' in warning
    # The nearest ones that are well: limited on purpose, mostly zeros, small, fast, link unknown.
    assert not result(rises, limits=Limits(speed=1_250_000_000, bandwidth=12), **slow).warnings
    assert not result(rises, limits=link, **slow, memory_constant=3_000_000).warnings
    assert not result(rises, limits=link, **{**slow, 'memory_normal_bytes': 100 * MIB}).warnings
    assert not result(rises, limits=link, **{**slow, 'memory_bps': 200 * MIB}).warnings
    assert not result(rises, **slow).warnings


def test_clocks_that_differ_give_no_downtime():
    for stats in (
        {'downtime': 5000},
        {'time_elapsed': 3_600_000},
        {'time_elapsed': 2**63, 'downtime': 2**62},
    ):
        found = result({'mig0': 270 * MIB}, **stats)
        assert (
            "downtime unknown (the two hosts' clocks differ)" in found.line and not found.warnings
        )


@pytest.mark.parametrize(
    'stats',
    [{}, {'type': 0}, {'type': 3}, {'type': 4, 'time_elapsed': 1}, {**STATS, 'operation': 2}],
)
def test_what_is_no_completed_migration_to_here(stats):
    assert jobs.read(stats) is None


def test_postcopy_and_auto_converge_are_said():
    line = result(
        {'mig0': 270 * MIB},
        memory_postcopy_requests=7,
        auto_converge_throttle=40,
        memory_iteration=5,
    ).line
    assert '5 iterations, post-copy (7 requests), auto-converge at 40 %' in line


# What is kept.

def make(*ends, direction='in', peer='compute1', time=1000):
    return [Past(time + n, direction, '2f0f1c4e5a4e', peer, end) for n, end in enumerate(ends)]


@pytest.mark.parametrize(
    'ends, warned',
    [
        (('failed', 'failed', 'failed'), True),
        (('failed', 'strayed', 'failed'), True),
        (('completed', 'strayed', 'strayed', 'strayed'), True),
        (('failed', 'failed', 'cancelled', 'failed'), True),
        (('failed', 'failed'), False),
        (('failed', 'failed', 'failed', 'completed'), False),
        (('failed', 'completed', 'failed', 'failed'), False),
        (('cancelled',) * 3, False),
        ((), False),
    ],
)
def test_three_bad_ones_in_a_row(ends, warned):
    for direction, peer in (('in', ''), ('out', 'compute1')):
        found = past.warn(make(*ends, direction=direction), direction, peer, 2000)
        assert bool(found) is warned
        assert not warned or (str(found[0].outcome), found[0].check) == ('warning', 'history')
    assert not past.warn(make(*ends, direction='out'), 'out', 'compute9', 2000)
    assert not past.warn(make(*ends), 'in', '', 1000 + 2 * past.REMEMBERED)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200),
    lambda c: st.lists(c, max_size=12),
    max_leaves=30,
)


@hypothesis.settings(max_examples=150 * FUZZ, deadline=None)
@hypothesis.given(
    anything
    | st.lists(
        st.lists(
            st.integers() | st.none() | st.sampled_from(['in', 'failed', '\x1b[2J']), min_size=10
        )
    )
)
def test_reading_survives_anything(value):
    for one in past.read(value):
        assert Past.from_json(one.to_json()) == one
        assert '\x1b' not in str(one)


@pytest.mark.parametrize(
    'number, instead', [(1, 'sideways'), (4, 'vanished'), (5, 'long'), (0, 'yesterday'), (9, 7)]
)
def test_one_value_that_is_none_of_ours_makes_it_unreadable(number, instead):
    [one] = make('failed')
    value = one.to_json()
    assert Past.from_json(value) == one
    value[number] = instead
    assert Past.from_json(value) is None


def test_a_stray_migration_names_its_interface():
    [one] = make('strayed')
    assert str(dataclasses.replace(one, interface='mgmt0')).endswith(
        'strayed (by mgmt0)'
    ) and '(by' not in str(one)


def test_only_the_last_few_are_published():
    pasts = [*make(*['completed'] * 9), *make('failed', 'completed', direction='out')]
    kept = past.to_publish(pasts)
    assert len(kept) == past.PUBLISHED and kept[-1].ended == 'failed'
    assert past.read([one.to_json() for one in kept]) == kept


def test_the_tally_is_left_and_read(tmp_path):
    counted = tally.Tally(1_764_000_000.0)
    counted.add(result({'mig0': 9000, 'mgmt0': 270 * MIB}))
    counted.add(Result(UUID, 'out', 'compute2', 1.0, 'failed'))
    counted.write(str(tmp_path))
    assert tally.read(str(tmp_path)) == counted
    text = prometheus.text(Round(started=1.0), [], counted)
    assert 'nova_migcheck_migrations_total{direction="in",result="completed"} 1.0' in text
    assert 'nova_migcheck_migration_downtime_seconds_sum 0.063' in text
    assert f'nova_migcheck_migration_stray_bytes_total {257 * MIB - 9000:.8e}' in text
    for nothing in ('', '[]', '{}', '{"since": "x"}', '[' * 10_000):
        (tmp_path / tally.NAME).write_text(nothing)
        assert tally.read(str(tmp_path)) is None


# The watch.

class Libvirt:
    """Nova's wrapper of a connection whose one guest answers with ``says``."""

    def __init__(self):
        self.says = lambda: dict(STATS)

    def get_connection(self):
        return types.SimpleNamespace(
            lookupByUUIDString=lambda uuid: types.SimpleNamespace(
                jobStats=lambda flags: self.says()
            )
        )


@pytest.fixture
def libvirt():
    return Libvirt()


@pytest.fixture
def watched(libvirt, tmp_path, monkeypatch):
    """A watch, and how to wait for its thread."""
    counters = iter([{'mig0': 0, 'mgmt0': 0}] + [{'mig0': 270 * MIB, 'mgmt0': 9}] * 50)
    monkeypatch.setattr(traffic, 'received', lambda: next(counters))
    monkeypatch.setattr(Interfaces, 'read', lambda: TWO)
    conf = types.SimpleNamespace(
        host='compute2',
        state_path=str(tmp_path),
        migcheck=types.SimpleNamespace(ledger_size=1, ledger_days=90),
        libvirt=types.SimpleNamespace(live_migration_downtime=500, live_migration_bandwidth=0),
    )
    report = Report(
        1, **facts(migration={'addresses': ['10.77.0.12'], 'intended_by': 'migration_networks'})
    )
    reporter = types.SimpleNamespace(report=report, migrated=lambda pasts: None)
    found = watch.Watch(conf, libvirt, reporter)
    found.start()
    yield found
    found.stop()


def looked(watched):
    done = threading.Event()
    watched._later(done.set)
    assert done.wait(30)
    return [one.ended for one in watched.pasts()]


INSTANCE = types.SimpleNamespace(uuid=UUID, host='compute1')


@pytest.mark.parametrize(
    'said',
    [
        None,
        7,
        [],
        {},
        {'type': 3, 'time_elapsed': 'x', 'downtime': [], 'data_processed': -1},
        {**STATS, 'time_elapsed': 2**63, 'downtime': 2**63},
    ],
)
def test_a_libvirt_that_talks_nonsense(watched, libvirt, caplog, said):
    libvirt.says = lambda: said
    watched.arriving(None, INSTANCE)
    watched.arrived(INSTANCE)
    assert looked(watched) == ['completed']
    assert 'this is a bug' not in caplog.text


def test_a_libvirt_that_hangs_holds_up_nobody(watched, libvirt, monkeypatch, caplog):
    monkeypatch.setattr(watch, 'LIBVIRT', 0.1)
    released = threading.Event()
    libvirt.says = lambda: released.wait(60)
    try:
        for _ in range(2 * watch._WAITING):
            watched.arrived(INSTANCE)  # comes back at once
        ended = threading.Event()
        monkeypatch.setattr(watched._reporter, 'migrated', lambda pasts: ended.set())
        assert ended.wait(30) and watched.pasts()[0].ended == 'completed'
    finally:
        released.set()


def test_a_restart_forgets_nothing(watched, libvirt, tmp_path):
    watched.arrived(INSTANCE)
    watched.turned_back(INSTANCE)
    assert looked(watched) == ['completed', 'failed']
    told = []
    reporter = types.SimpleNamespace(report=None, migrated=told.append)
    again = watch.Watch(watched._conf, libvirt, reporter)
    again.start()
    try:
        assert looked(again) == ['completed', 'failed']
        assert told == [again.pasts()] == [watched.pasts()]
        again.turned_back(INSTANCE)
        assert looked(again) == ['completed', 'failed', 'failed']
    finally:
        again.stop()


def test_a_rehearsal_is_published_with_what_came_before(watched, tmp_path):
    """Another process writes it; a look once a minute finds it."""
    watched.arrived(INSTANCE)
    assert looked(watched) == ['completed']
    told = []
    watched._reporter.migrated = told.append
    line = {
        'v': 1,
        'kind': 'rehearsal',
        'time': 4_000_000_000,
        'host': 'compute2',
        'instance': UUID,
        'source': 'compute2',
        'target': 'compute3',
        'direction': 'out',
        'ended': 'failed',
        'interface': '',
        'error': 'Permission denied',
    }
    Ledger(str(tmp_path), 1 << 20, 90).append(line)
    for _ in range(2):
        watched.look_after()
        assert looked(watched) == ['completed', 'failed']
    [pasts] = told
    assert pasts[1].rehearsal and pasts[1].text == 'Permission denied' and not pasts[0].rehearsal


def test_what_ends_without_having_begun(watched):
    """nova-compute was restarted during the migration."""
    watched.arrived(INSTANCE)
    watched.turned_back(INSTANCE)
    assert looked(watched) == ['completed', 'failed']
    assert watched.pasts()[0].interface == ''


def test_nova_that_fails_after_the_guest_has_moved(watched):
    departure = watch.Departure(INSTANCE, 'compute3')
    post, _recover = departure.noting(lambda x: x + 1, print)
    assert post(1) == 2
    watched.left(departure, RuntimeError('http://user:secret@10.0.0.5:9696 is away'))
    cancelled = watch.Departure(INSTANCE, 'compute3')
    _post, recover = cancelled.noting(print, lambda migration_status: None)
    recover(migration_status='cancelled')
    watched.left(cancelled, RuntimeError('operation aborted'))
    assert looked(watched) == ['failed', 'cancelled']
    text = watched.pasts()[0].text
    assert (
        text.startswith('Nova failed after the guest had moved: http://10.0.0.5:9696')
        and 'secret' not in text
    )


@pytest.mark.parametrize('ended, words', [('failed', 'unable to connect'), ('completed', '')])
def test_what_libvirt_raised_is_told_when_nova_s_driver_raises_nothing(watched, ended, words):
    """Before 2025.2."""
    departure = watch.Departure(INSTANCE, 'compute3')
    departure.error = RuntimeError('unable to connect')
    post, recover = departure.noting(lambda: None, lambda: None)
    (post if ended == 'completed' else recover)()
    watched.left(departure, None)
    assert looked(watched) == [ended] and watched.pasts()[0].text == words


def test_a_state_path_that_cannot_be_written_is_no_error(watched, caplog):
    watched._conf.state_path = '/proc/nowhere'
    watched.not_prepared(INSTANCE, RuntimeError('no space'))
    assert looked(watched) == ['failed'] and 'this is a bug' not in caplog.text
