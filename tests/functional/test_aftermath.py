# SPDX-License-Identifier: Apache-2.0
"""What nova-compute tells of a live migration that is over, and that nothing of it can touch the migration.

Nova's fake libvirt has no statistics and its migrations no bytes: both are made up here; real ones are in the lab.
"""

from __future__ import annotations

import threading
import time

import pytest
from nova.tests.fixtures import libvirt as fakelibvirt

from nova_migcheck import published
from nova_migcheck.aftermath import tally, traffic
from nova_migcheck.cli import prometheus
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.runner import Round
from tests.functional.conftest import HOSTS

MIB = 1 << 20
STATS = {'type': 3, 'operation': 4, 'time_elapsed': 3700, 'downtime': 63, 'setup_time': 5, 'data_processed': 257 * MIB,
         'memory_bps': 183 * MIB, 'memory_iteration': 3}
FACT = {'migration': {'host': 'compute2', 'addresses': ['10.77.0.12'], 'interface': 'mig0', 'intended_by': 'migration_interface'}}


class Kernel:
    """Counters that rise by what a test says between two readings."""

    def __init__(self, monkeypatch):
        self.rises = {'mig0': 260 * MIB, 'mgmt0': 20_000}
        self.before = {'mig0': 7, 'mgmt0': 9, 'lo': 5}
        self._read = 0
        monkeypatch.setattr(traffic, 'received', self.received)
        monkeypatch.setattr(traffic.Interfaces, 'read', lambda: traffic.Interfaces({
            'mig0': frozenset({'10.77.0.12'}), 'mgmt0': frozenset({'10.66.0.12'})}))

    def received(self):
        self._read += 1
        if self._read == 1:
            return dict(self.before)
        return {name: self.before.get(name, 0) + rise for name, rise in self.rises.items() if rise is not None}


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


@pytest.fixture
def stats(monkeypatch):
    """What libvirt gives of completed jobs; its clock and ours agree that it took as long as it says."""
    stats = dict(STATS)
    running = fakelibvirt.Domain.jobStats
    monkeypatch.setattr(fakelibvirt.Domain, 'jobStats', lambda domain, flags=0: stats if flags & 1 else running(domain, flags))
    return stats


@pytest.fixture
def fails(monkeypatch):
    """Migrations fail as they do with libvirt, with these words."""
    def fail(domain, uri, params, flags):
        domain.fail_job()
        raise fakelibvirt.make_libvirtError(
            fakelibvirt.libvirtError, 'unable to connect to server at 10.77.0.12:49152: No route to host', error_code=38,
            error_domain=fakelibvirt.VIR_FROM_QEMU)
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
        assert cloud.log.lines('INFO', f'live migration of {server} from compute1: 3.7 s, downtime 63 ms, 257 MiB at 183 MiB/s, '
                                       '3 iterations, 100 % in by mig0 (intended)')
        assert not cloud.log.lines('WARNING', 'live migration of')
        [one] = past(cloud, 'compute2')
        assert (one.ended, one.peer, one.milliseconds, one.downtime, one.data, one.interface) == (
            'completed', 'compute1', 3700, 63, 257 * MIB, 'mig0')
        assert past(cloud, 'compute1') == ()  # the target tells all about it
        assert (counted.ended['in completed'], counted.data) == (before[0] + 1, before[1] + 257 * MIB)
        # As it stands in the file that nova-compute leaves (here all of them write the same one).
        left = tally.read(cloud.path)
        lines = prometheus.text(Round(started=1.0), [], left)
        assert 'nova_migcheck_migrations_total{direction="in",result="completed"} ' in lines
        assert 'nova_migcheck_migration_downtime_seconds_sum ' in lines

    def test_the_wrong_interface_the_long_downtime_and_the_slow_path(self, cloud, kernel, stats, monkeypatch):
        cloud.say('compute2', facts=FACT)
        cloud.check('compute2')
        kernel.rises = {'mig0': 40_000, 'mgmt0': 2100 * MIB}
        stats.update(data_processed=2000 * MIB, memory_normal_bytes=1990 * MIB, downtime=1500, memory_bps=10 * MIB)
        monkeypatch.setattr(traffic, 'speed', lambda name: {'mig0': 1_250_000_000}[name])
        server = cloud.server('compute1')
        migrate(cloud, server)
        assert cloud.log.lines('WARNING', server, '2000 MiB or more of 2000 MiB did not come in by mig0, which was intended', 'mgmt0')
        assert cloud.log.lines('WARNING', server, 'did not run for 1500 ms; [libvirt] live_migration_downtime is 500 ms')
        assert cloud.log.lines('WARNING', server, '2000 MiB came at 10 MiB/s over a link of 1192 MiB/s')
        [one] = past(cloud, 'compute2')
        assert (one.ended, one.interface) == ('strayed', 'mgmt0')

    @pytest.mark.parametrize('said', [(), ('clock',)])
    def test_a_failure_is_told_with_libvirt_s_words_and_what_the_checks_had_said(self, cloud, fails, said):
        for check in said:
            cloud.say('compute2', Finding(check, Outcome.WARNING, 'time', 'off by 3 s'))
            cloud.check('compute2')
        server = cloud.boot('compute1')
        assert migrate(cloud, server).status in ('failed', 'error')
        [line] = cloud.log.lines('WARNING', f'live migration of {server} to compute2 failed after ')
        assert 'unable to connect to server at 10.77.0.12:49152: No route to host' in line
        assert ('the checks had said: warning: clock' in line) if said else ('they miss that fault' in line)
        [out] = past(cloud, 'compute1')
        assert (out.direction, out.ended, out.peer) == ('out', 'failed', 'compute2') and out.text.startswith('unable to connect')
        [into] = past(cloud, 'compute2')
        assert (into.direction, into.ended, into.peer) == ('in', 'failed', 'compute1')

    def test_the_fourth_is_warned_about_and_goes_on(self, cloud, stats, kernel, monkeypatch):
        cloud.say('compute2', facts=FACT)
        cloud.check('compute2')
        kernel.rises = {'mig0': 40_000, 'mgmt0': 300 * MIB}
        for n in range(4):
            kernel._read = 0
            server = cloud.boot('compute1')
            cloud.log.clear()
            assert migrate(cloud, server).status == 'completed'
            warned = cloud.log.lines('WARNING', 'Live migration to compute2: history: the last 3 live migrations to this host')
            assert bool(warned) == (n == 3)
        cloud.publish('compute2')
        report = published.read(cloud.stats('compute2'))
        assert [(f.check, f.outcome) for f in report.findings] == [('history', Outcome.WARNING)]
        # One that is as it should be ends it.
        kernel.rises = {'mig0': 300 * MIB, 'mgmt0': 40_000}
        kernel._read = 0
        migrate(cloud, cloud.boot('compute1'))
        assert published.read(cloud.hosts['compute2'].driver._migcheck.reporter.texts()).findings == ()

    def test_a_failure_that_nova_does_not_tell_the_target_of(self, cloud, fails, monkeypatch):
        """With shared storage there is nothing to roll back there, and Nova leaves the target alone."""
        driver = cloud.hosts['compute2'].driver
        monkeypatch.setattr(driver._migcheck.watch, 'turned_back', lambda instance: None)
        monkeypatch.setattr('nova_migcheck.aftermath.watch._OVERDUE', 0.0)
        migrate(cloud, cloud.boot('compute1'))
        cloud.publish('compute2')
        cloud.hosts['compute2'].looked()
        [into] = past(cloud, 'compute2')
        assert (into.direction, into.ended) == ('in', 'failed') and 'compute1 says why' in into.text
        assert not driver._migcheck.watch._arrivals


def unsupported(domain, flags=0):
    if flags:
        raise fakelibvirt.make_libvirtError(fakelibvirt.libvirtError, 'unsupported flags (0x3)', error_code=8)
    return {'type': domain._job_type}


def gone(domain, flags=0):
    if flags:
        raise fakelibvirt.make_libvirtError(fakelibvirt.libvirtError, 'Domain not found', error_code=42)
    return {'type': domain._job_type}


class TestHarmless:
    """The migration ends well, whatever becomes of the watching of it."""

    def well(self, cloud):
        server = cloud.boot('compute1')
        migration = migrate(cloud, server)
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute2', 'ACTIVE')
        return server

    @pytest.mark.parametrize('answers, words', [(unsupported, 'unsupported flags'), (gone, 'Domain not found')])
    def test_libvirt_without_statistics(self, cloud, monkeypatch, answers, words):
        monkeypatch.setattr(fakelibvirt.Domain, 'jobStats', answers)
        server = self.well(cloud)
        assert cloud.log.lines('INFO', f'libvirt gave no statistics of the live migration of {server}', words)
        assert cloud.log.lines('INFO', f'live migration of {server} from compute1: ', 'libvirt has no statistics of it')
        assert [p.ended for p in past(cloud, 'compute2')] == ['completed']

    @pytest.mark.parametrize('said', [None, 7, [], {}, {'type': 3}, {'type': 3, 'time_elapsed': 'x', 'downtime': [], 'data_processed': -1},
                                      {**STATS, 'time_elapsed': 2 ** 63, 'downtime': 2 ** 63}])
    def test_libvirt_that_talks_nonsense(self, cloud, kernel, monkeypatch, said):
        running = fakelibvirt.Domain.jobStats
        monkeypatch.setattr(fakelibvirt.Domain, 'jobStats', lambda domain, flags=0: said if flags else running(domain))
        server = self.well(cloud)
        assert cloud.log.lines('INFO', f'live migration of {server} from compute1: ')
        assert not cloud.log.lines('this is a bug')

    def test_libvirt_that_hangs(self, cloud, monkeypatch):
        running, released = fakelibvirt.Domain.jobStats, threading.Event()
        monkeypatch.setattr('nova_migcheck.aftermath.watch.LIBVIRT', 0.2)
        monkeypatch.setattr(fakelibvirt.Domain, 'jobStats', lambda domain, flags=0: released.wait(60) if flags else running(domain))
        try:
            server = self.well(cloud)
            assert cloud.log.lines(f'libvirt gave no statistics of the live migration of {server}: no answer within 0.2 s')
            other = self.well(cloud)
            assert cloud.log.lines(f'libvirt gave no statistics of the live migration of {other}: an earlier call has not come back yet')
        finally:
            released.set()

    @pytest.mark.parametrize('rises, words', [
        ({'mig0': -7, 'mgmt0': 260 * MIB}, 'mig0 vanished or had its counter set back'),
        ({'mig0': None, 'mgmt0': 260 * MIB}, 'mig0 vanished or had its counter set back'),
        ({'mig0': 9, 'mgmt0': 9}, 'no interface took in as much'),
        ({'mig0': 300 * MIB, 'mgmt0': 900 * MIB}, '900 MiB by mgmt0 meanwhile, of this or of anything else'),
    ])
    def test_counters_that_do_not_tell(self, cloud, kernel, stats, rises, words):
        cloud.say('compute2', facts=FACT)
        cloud.check('compute2')
        kernel.rises = rises
        server = self.well(cloud)
        assert cloud.log.lines('INFO', f'live migration of {server} from compute1: 3.7 s, downtime 63 ms', words)
        assert not cloud.log.lines('WARNING', 'live migration of')
        assert [p.ended for p in past(cloud, 'compute2')] == ['completed']

    def test_no_counters(self, cloud, stats, monkeypatch):
        def broken():
            raise OSError('no /proc/net/dev')
        monkeypatch.setattr(traffic, 'received', broken)
        assert cloud.log.lines('INFO', f'live migration of {self.well(cloud)} from compute1: 3.7 s, downtime 63 ms')

    @pytest.mark.parametrize('method', ['arriving', 'arrived', 'left', 'look_after', '_look', '_record'])
    def test_our_own_bugs(self, cloud, monkeypatch, method):
        def bug(*args, **kwargs):
            raise RuntimeError('a bug')
        for host in HOSTS[:2]:
            monkeypatch.setattr(cloud.hosts[host].driver._migcheck.watch, method, bug)
        self.well(cloud)
        cloud.publish('compute1')
        assert cloud.log.lines('ERROR', 'this is a bug')
        assert time.time() - published.read(cloud.stats('compute1')).time < 10_000
