# SPDX-License-Identifier: Apache-2.0
"""What nova-compute logs of an ended live migration, and that this never affects the migration.

Nova's fake libvirt has no statistics, and its migrations no bytes: both are made up here. The real
ones are in tests/lab.
"""

from __future__ import annotations

import os
import threading

import pytest
from nova import exception
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import driver

from nova_migcheck.aftermath import accounts, ledger, tally, traffic
from nova_migcheck.cli import prometheus
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import published
from nova_migcheck.rounds.runner import Round
from tests.functional.conftest import HOSTS

MIB = 1 << 20
STATS = {
    'type': 3,
    'operation': 4,
    'time_elapsed': 3700,
    'downtime': 63,
    'setup_time': 5,
    'data_processed': 257 * MIB,
    'memory_bps': 183 * MIB,
    'memory_iteration': 3,
}
FACT = {
    'migration': {
        'host': 'compute2',
        'addresses': ['10.77.0.12'],
        'interface': 'mig0',
        'intended_by': 'migration_interface',
    }
}


class Kernel:
    """Counters that rise by what a test says between two readings."""

    def __init__(self, monkeypatch):
        self.rises = {'mig0': 260 * MIB, 'mgmt0': 20_000}
        self.before = {'mig0': 7, 'mgmt0': 9, 'lo': 5}
        self._read = 0
        monkeypatch.setattr(traffic, 'received', self.received)
        monkeypatch.setattr(traffic, 'speed', lambda name: None)
        monkeypatch.setattr(traffic.Interfaces, 'read', lambda: traffic.Interfaces({
            'mig0': frozenset({'10.77.0.12'}), 'mgmt0': frozenset({'10.66.0.12'})}))

    def received(self):
        self._read += 1
        if self._read == 1:
            return dict(self.before)
        return {
            name: self.before.get(name, 0) + rise
            for name, rise in self.rises.items()
            if rise is not None
        }


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


@pytest.fixture
def stats(monkeypatch):
    """libvirt's statistics of completed jobs, whose duration agrees with our clock."""
    stats = dict(STATS)
    running = fakelibvirt.Domain.jobStats
    monkeypatch.setattr(
        fakelibvirt.Domain,
        'jobStats',
        lambda domain, flags=0: stats if flags & 1 else running(domain, flags),
    )
    return stats


@pytest.fixture
def fails(monkeypatch):
    """Migrations fail as they do with libvirt, with these words."""
    def fail(domain, uri, params, flags):
        domain.fail_job()
        raise fakelibvirt.make_libvirtError(
            fakelibvirt.libvirtError,
            'unable to connect to server at 10.77.0.12:49152: No route to host',
            error_code=38,
            error_domain=fakelibvirt.VIR_FROM_QEMU,
        )
    monkeypatch.setattr(fakelibvirt.Domain, 'migrateToURI3', fail)


def migrate(cloud, server, target='compute2'):
    migration = cloud.live_migrate(server, target)
    for host in cloud.hosts.values():
        host.looked()
    return migration


def past(cloud, host):
    cloud.publish(host)
    return published.read(cloud.stats(host)).migrations


class TestTold:
    def test_a_migration_is_told_published_and_counted(self, cloud, kernel, stats):
        cloud.say('compute2', facts=FACT)
        cloud.check('compute2')
        server = cloud.server('compute1')
        counted = cloud.hosts['compute2'].driver._migcheck.watch.tally
        before = counted.ended['in completed'], counted.data
        assert migrate(cloud, server).status == 'completed'
        assert cloud.log.lines(
            'INFO',
            f'live migration of {server} from compute1: 3.7 s, downtime 63 ms, '
            '257 MiB at 183 MiB/s, '
            '3 iterations, 100 % on mig0 (intended)',
        )
        assert not cloud.log.lines('WARNING', 'live migration of')
        [one] = past(cloud, 'compute2')
        assert (one.ended, one.peer, one.milliseconds, one.downtime, one.data, one.interface) == (
            'completed', 'compute1', 3700, 63, 257 * MIB, 'mig0')
        assert past(cloud, 'compute1') == ()  # the target tells all about it
        assert (counted.ended['in completed'], counted.data) == (
            before[0] + 1,
            before[1] + 257 * MIB,
        )
        # As it stands in the file that nova-compute leaves (here all of them write the same one).
        left = tally.read(cloud.path)
        lines = prometheus.text(Round(started=1.0), [], left)
        assert 'nova_migcheck_migrations_total{direction="in",result="completed"} ' in lines
        assert 'nova_migcheck_migration_downtime_seconds_sum ' in lines

    def test_a_failure_is_told_with_libvirt_s_words_and_what_the_checks_had_said(
        self, cloud, fails
    ):
        cloud.say('compute2', Finding('clock', Outcome.WARNING, 'time', 'off by 3 s'))
        cloud.check('compute2')
        server = cloud.boot('compute1')
        assert migrate(cloud, server).status in ('failed', 'error')
        [line] = cloud.log.lines('WARNING', f'live migration of {server} to compute2 failed after ')
        assert 'unable to connect to server at 10.77.0.12:49152: No route to host' in line
        assert 'the checks had reported: warning: clock' in line
        [out] = past(cloud, 'compute1')
        assert (out.direction, out.ended, out.peer) == (
            'out',
            'failed',
            'compute2',
        ) and out.text.startswith('unable to connect')

    def test_a_target_that_could_not_prepare_says_so(self, cloud, monkeypatch):
        server = cloud.boot('compute1')
        def full(*_args, **_kwargs):
            raise exception.NovaException('no space left for the disk')
        monkeypatch.setattr(driver.LibvirtDriver, 'pre_live_migration', full)
        migration = migrate(cloud, server)
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE') and migration.status in (
            'failed',
            'error',
        )
        [one] = past(cloud, 'compute2')
        assert (one.direction, one.ended, one.peer) == (
            'in',
            'failed',
            'compute1',
        ) and 'no space left for the disk' in one.text

    def test_the_fourth_is_warned_about_and_goes_on(self, cloud, stats, kernel):
        cloud.say('compute2', facts=FACT)
        cloud.check('compute2')
        server = cloud.boot('compute1')
        watch = cloud.hosts['compute2'].driver._migcheck.watch
        for _ in range(3):
            watch.not_prepared(cloud.instance(server), RuntimeError('no space'))
        cloud.hosts['compute2'].looked()
        cloud.publish('compute2')
        report = published.read(cloud.stats('compute2'))
        assert [(f.check, f.outcome) for f in report.findings] == [('history', Outcome.WARNING)]
        assert migrate(cloud, server).status == 'completed'
        assert cloud.log.lines(
            'WARNING',
            'Live migration to compute2: history: the last 3 live migrations to this host',
            'no space',
        )
        # This one was as it should be: that is the end of it.
        assert [p.ended for p in past(cloud, 'compute2')] == ['failed', 'failed', 'completed']
        assert published.read(cloud.stats('compute2')).findings == ()

    def test_a_failure_that_nova_does_not_tell_the_target_of(self, cloud, fails, monkeypatch):
        """With shared storage nothing is rolled back, and Nova does not notify the target."""
        driver = cloud.hosts['compute2'].driver
        monkeypatch.setattr(driver._migcheck.watch, 'turned_back', lambda instance: None)
        monkeypatch.setattr('nova_migcheck.aftermath.watch._OVERDUE', 0.0)
        migrate(cloud, cloud.boot('compute1'))
        cloud.publish('compute2')
        cloud.hosts['compute2'].looked()
        [into] = past(cloud, 'compute2')
        assert (into.direction, into.ended) == (
            'in',
            'failed',
        ) and 'see the log of nova-compute on compute1' in into.text
        assert not driver._migcheck.watch._arrivals


def in_ledger(cloud, server):
    """All of this server; here all nova-computes write the same file."""
    return [entry for entry in ledger.read(os.path.join(cloud.path, ledger.NAME), 64 * MIB) if entry['instance'] == server]


class TestLedger:
    def test_both_decisions_and_both_ends_of_a_migration(self, cloud, kernel, stats):
        cloud.say('compute2', Finding('clock', Outcome.UNKNOWN, 'time', 'not asked', code='clock-unknown'), facts=FACT)
        cloud.check('compute2')
        server = cloud.boot('compute1')
        assert migrate(cloud, server).status == 'completed'
        entries = in_ledger(cloud, server)
        by_place = {(entry['kind'], entry['host']): entry for entry in entries}
        assert len(entries) == len(by_place) == 4
        for entry in entries:
            assert (entry['source'], entry['target']) == ('compute1', 'compute2')
        decided = by_place['decision', 'compute2']
        assert (decided['verdict'], decided['warnings'], decided['mode']) == ('unknown', ['clock clock-unknown'], 'enforce')
        assert by_place['decision', 'compute1']['verdict'] == 'accepted'
        ended = by_place['outcome', 'compute2']
        assert (ended['ended'], ended['downtime'], ended['bytes'], ended['interfaces']) == (
            'completed', 63, 257 * MIB, {'mig0': 257 * MIB, 'mgmt0': 20_000})
        [one] = accounts.moves([entries])
        assert (one.hosts, one.verdict, one.ended) == ({'compute1', 'compute2'}, 'unknown', 'completed')

    def test_a_refusal_is_a_decision_without_an_end(self, cloud):
        cloud.say('compute2', Finding('address', Outcome.FAILURE, 'mig0', 'is down', code='address-link-down'))
        cloud.check('compute2')
        server = cloud.boot('compute1')
        migrate(cloud, server)
        [one] = accounts.moves([in_ledger(cloud, server)])
        assert (one.verdict, one.rejections, one.ended) == ('rejected', ('address address-link-down',), '')

    def test_libvirt_s_words(self, cloud, fails):
        server = cloud.boot('compute1')
        migrate(cloud, server)
        [one] = accounts.moves([in_ledger(cloud, server)])
        assert (one.verdict, one.ended) == ('accepted', 'failed')
        assert one.error.startswith('unable to connect to server at 10.77.0.12:49152')

    def test_a_ledger_that_cannot_be_written_harms_nothing(self, cloud, monkeypatch):
        def full(*_args):
            raise OSError(28, 'No space left on device')
        monkeypatch.setattr(ledger.Ledger, '_append', full)
        server = cloud.boot('compute1')
        assert migrate(cloud, server).status == 'completed' and not in_ledger(cloud, server)
        assert not cloud.log.lines('ERROR', 'nova-migcheck')

    def test_a_bug_in_it_changes_no_decision(self, cloud, monkeypatch):
        monkeypatch.setattr(ledger, 'decision', lambda *_args: 1 / 0)
        cloud.say('compute2', Finding('address', Outcome.FAILURE, 'mig0', 'is down', code='address-link-down'))
        cloud.check('compute2')
        server = cloud.boot('compute1')
        assert migrate(cloud, server).host == 'compute1'
        assert cloud.log.lines('WARNING', 'Live migration to compute2 is refused', 'is down')


def unsupported(domain, flags=0):
    if flags:
        raise fakelibvirt.make_libvirtError(
            fakelibvirt.libvirtError, 'unsupported flags (0x3)', error_code=8
        )
    return {'type': domain._job_type}


def gone(domain, flags=0):
    if flags:
        raise fakelibvirt.make_libvirtError(
            fakelibvirt.libvirtError, 'Domain not found', error_code=42
        )
    return {'type': domain._job_type}


class TestHarmless:
    """The migration ends well, whatever becomes of the watching of it."""

    def well(self, cloud):
        server = cloud.boot('compute1')
        migration = migrate(cloud, server)
        assert (migration.status, migration.host, migration.state) == (
            'completed',
            'compute2',
            'ACTIVE',
        )
        return server

    @pytest.mark.parametrize(
        'answers, words', [(unsupported, 'unsupported flags'), (gone, 'Domain not found')]
    )
    def test_libvirt_without_statistics(self, cloud, monkeypatch, answers, words):
        monkeypatch.setattr(fakelibvirt.Domain, 'jobStats', answers)
        server = self.well(cloud)
        assert cloud.log.lines(
            'INFO', f'libvirt gave no statistics for the live migration of {server}', words
        )
        assert cloud.log.lines(
            'INFO',
            f'live migration of {server} from compute1: ',
            'libvirt has no statistics for it',
        )
        assert [p.ended for p in past(cloud, 'compute2')] == ['completed']

    def test_libvirt_that_hangs(self, cloud, monkeypatch):
        running, released = fakelibvirt.Domain.jobStats, threading.Event()
        monkeypatch.setattr('nova_migcheck.aftermath.watch.LIBVIRT', 0.2)
        monkeypatch.setattr(
            fakelibvirt.Domain,
            'jobStats',
            lambda domain, flags=0: released.wait(60) if flags else running(domain),
        )
        try:
            server = self.well(cloud)
            assert cloud.log.lines(
                f'libvirt gave no statistics for the live migration of {server}: '
                'no answer within 0.2 s'
            )
        finally:
            released.set()

    @pytest.mark.parametrize('rises, words', [
        ({'mig0': -7, 'mgmt0': 260 * MIB}, 'mig0 disappeared, or its counter was reset'),
        ({'mig0': None, 'mgmt0': 260 * MIB}, 'mig0 disappeared, or its counter was reset'),
    ])
    def test_counters_that_do_not_tell(self, cloud, kernel, stats, rises, words):
        cloud.say('compute2', facts=FACT)
        cloud.check('compute2')
        kernel.rises = rises
        server = self.well(cloud)
        assert cloud.log.lines(
            'INFO', f'live migration of {server} from compute1: 3.7 s, downtime 63 ms', words
        )
        assert not cloud.log.lines('WARNING', 'live migration of')
        assert [p.ended for p in past(cloud, 'compute2')] == ['completed']

    @pytest.mark.parametrize(
        'methods', [('arriving', 'arrived', 'left', 'look_after'), ('_complete', '_record')]
    )
    def test_our_own_bugs(self, cloud, monkeypatch, methods):
        def bug(*args, **kwargs):
            raise RuntimeError('a bug')
        for host in HOSTS[:2]:
            for method in methods:
                monkeypatch.setattr(cloud.hosts[host].driver._migcheck.watch, method, bug)
        self.well(cloud)
        cloud.publish('compute1')
        assert cloud.log.lines('ERROR', 'this is a bug')
        assert published.read(cloud.stats('compute1')) is not None
