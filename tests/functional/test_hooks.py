# SPDX-License-Identifier: Apache-2.0
"""nova-compute's own part: what became wrong after the scheduler last heard of it, and the way from the source."""

from __future__ import annotations

import dataclasses
import threading

import oslo_messaging
import pytest
from nova import exception
from nova.virt.libvirt import driver

from nova_migcheck.compute import source
from nova_migcheck.compute.destination import Destination
from nova_migcheck.compute.source import Source
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging import targets
from tests.functional import nova_release
from tests.functional.conftest import HOSTS
from tests.functional.hypervisor import Cpu

LESSER = Cpu().without('hle', 'rtm')


def wrong_path(target: str) -> Finding:
    return Finding('transport', Outcome.FAILURE, target, f'{target} resolves to 10.0.0.2, which leads out of eth0 and not eth1',
                   '/etc/hosts:12', 'correct the line on the source')


@pytest.fixture
def cloud(cloud):
    """Every compute checks itself again whenever it is asked."""
    for host in cloud.hosts.values():
        host.set('migcheck', 'recheck_after', '0')
    return cloud


class TestRefusals:
    def test_refused_by_the_destination_and_by_the_source_the_server_lands_on_the_next(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.say_of_paths('compute1', {'compute3': wrong_path('compute3')})
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute4', 'ACTIVE')
        for refused in ('compute2', 'compute3'):
            assert 'check_can_live_migrate_destination' in cloud.hosts[refused].calls
            assert 'pre_live_migration' not in cloud.hosts[refused].calls
        assert set(migration.refusals) == {'compute2', 'compute3'}
        assert migration.refusals['compute2'].startswith('endpoint: http://192.0.2.5:8780: connection refused')
        assert migration.refusals['compute3'].startswith('transport: compute3 resolves to 10.0.0.2')
        assert '/etc/hosts:12' in migration.refusals['compute3']
        assert cloud.log.lines('WARNING', 'nova_migcheck.hook', 'compute2', 'is refused', 'see whether placement-api runs')

    def test_all_refused_each_keeps_its_own_reason(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.say_of_paths('compute1', {host: wrong_path(host) for host in HOSTS[2:]})
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert migration.refusals.keys() == set(HOSTS[1:])
        assert migration.refusals['compute2'].startswith('endpoint: http://192.0.2.5:8780')
        for host in HOSTS[2:]:
            assert migration.refusals[host].startswith(f'transport: {host} resolves to 10.0.0.2')
        # A member sees the names of events: they tell him no host.
        assert not any(host in event['event'] for event in migration.action['events'] for host in HOSTS)
        assert cloud.allocated_on(server) == {'compute1'}

    def test_the_path_is_looked_at_while_nova_checks_the_source_and_has_the_word_where_both_refuse(self, cloud, monkeypatch):
        server = cloud.server('compute1')
        cloud.say_of_paths('compute1', {host: wrong_path(host) for host in HOSTS[1:]})
        own, path = cloud.hosts['compute1'].driver._migcheck.source, Source._check_path
        asked, looked = threading.Event(), threading.Event()

        def path_after_nova(*args):
            assert asked.wait(30)
            try:
                return path(*args)
            finally:
                looked.set()

        def nova_refuses(*_args, **_words):
            asked.set()
            assert looked.wait(30)
            # Nova's check may hang on a share that is dead: meanwhile nobody else waits for his turn.
            assert all(own._paths.acquire(timeout=0) for _ in range(source.PATHS))
            for _ in range(source.PATHS):
                own._paths.release()  # Python 3.9 takes no number, nor does eventlet
            raise exception.MigrationPreCheckError('no word of a reason')
        monkeypatch.setattr(Source, '_check_path', path_after_nova)
        monkeypatch.setattr(driver.LibvirtDriver, 'check_can_live_migrate_source', nova_refuses)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert migration.refusals['compute2'].startswith('transport: compute2 resolves to 10.0.0.2')

    def test_a_forced_migration_is_refused(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert cloud.scheduler_queries == []
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert migration.refusals['compute2'].startswith('endpoint: http://192.0.2.5:8780')
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls

    def test_a_forced_migration_to_a_well_host_goes_on(self, cloud):
        migration = cloud.live_migrate(cloud.server('compute1'), 'compute2', force=True)
        assert (migration.status, migration.host) == ('completed', 'compute2')
        assert migration.refusals == {}

    def test_without_events_the_reason_is_in_nova_s_own(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].set('migcheck', 'events', 'false')
        cloud.say('compute2', unreachable)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('error', 'compute1')
        assert migration.refusals == {}
        assert 'endpoint: http://192.0.2.5:8780' in migration.texts


class TestCpu:
    def test_the_target_s_libvirt_names_what_it_lacks(self, cloud):
        """The target changed since its report: microcode, or another QEMU."""
        server = cloud.server('compute1')
        cloud.hosts['compute2'].hypervisor.cpu = LESSER
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert migration.refusals['compute2'].startswith('cpu: target compute2 lacks hle, rtm that the guest uses')

    def test_another_vendor(self, cloud):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].hypervisor.cpu = Cpu('EPYC')
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.status, migration.host) == ('error', 'compute1')
        assert 'AMD' in migration.refusals['compute2'] and 'Intel' in migration.refusals['compute2']

    def test_a_guest_holds_what_its_own_host_has_lost(self, cloud):
        """Microcode took TSX away from a running host: its guests still have it (C4)."""
        server = cloud.boot('compute1')
        for host in HOSTS[:3]:
            cloud.hosts[host].hypervisor.cpu = LESSER
        cloud.check(*HOSTS[:3])
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert migration.message == 'No valid host was found. migcheck rejected 1 host (cpu: 1)'
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'lacks hle, rtm that the guest uses')
        cloud.delete(server)

    def test_a_target_whose_libvirtd_does_not_answer_is_no_failure(self, cloud):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].set('libvirt', 'connection_uri', 'qemu:///system?state=/nonexistent')
        cloud.check('compute2')
        assert cloud.live_migrate(server).host == 'compute2'
        assert cloud.log.lines('nova_migcheck', 'libvirtd does not answer')

    def test_a_host_passthrough_guest_that_would_silently_lose_features(self, cloud):
        """libvirt calls any two hosts compatible for it, and QEMU takes it: only the features tell (C3)."""
        cloud.hosts['compute1'].set('libvirt', 'cpu_mode', 'host-passthrough')
        server = cloud.boot('compute1')
        cloud.hosts['compute2'].hypervisor.cpu = LESSER
        cloud.check('compute1', 'compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'lacks hle, rtm that the guest uses')
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.status, migration.host) == ('error', 'compute1')
        assert migration.refusals['compute2'].startswith('cpu: target compute2 lacks hle, rtm that the guest uses')
        # The same CPU will do.
        assert cloud.live_migrate(server, 'compute3').host == 'compute3'


    def test_what_the_source_s_report_says_of_its_cpu_is_asked_anew_before_it_speaks_against_a_target(self, cloud, monkeypatch):
        server, own, asked = cloud.server('compute1'), cloud.hosts['compute1'].driver._migcheck.source, []
        guest_cpu = own._guest_cpu

        def by_an_old_report(instance, provided):
            asked.append('libvirt' if provided is None else 'report')
            cpu = guest_cpu(instance, provided)
            return cpu if provided is None else dataclasses.replace(cpu, features=cpu.features | {'avx512er'})
        monkeypatch.setattr(own, '_guest_cpu', by_an_old_report)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert asked == ['report', 'libvirt']


class TestNovasOwnComparison:
    """LP#2039803: Nova compares the source's raw CPU with what the target gives to guests, and rejects identical hosts."""

    @pytest.fixture
    def cloud(self, cloud):
        cloud.hosts['compute2'].set('workarounds', 'skip_cpu_compare_on_dest', 'false')
        return cloud

    @pytest.mark.skipif(not nova_release.compares_hypervisor_cpus(), reason='LP#2039803 came with 2023.1')
    def test_kept_it_rejects_and_the_reason_is_told(self, cloud):
        migration = cloud.live_migrate(cloud.server('compute1'), 'compute2')
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert 'LP#2039803' in migration.texts
        assert cloud.log.lines('WARNING', 'nova_migcheck', 'skip_cpu_compare_on_dest', 'nova_cpu_check')

    def test_replaced_identical_hosts_are_compatible(self, cloud):
        cloud.hosts['compute2'].set('migcheck', 'nova_cpu_check', 'replace')
        migration = cloud.live_migrate(cloud.server('compute1'), 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_replaced_a_lesser_cpu_is_refused_all_the_same(self, cloud):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].set('migcheck', 'nova_cpu_check', 'replace')
        cloud.hosts['compute2'].hypervisor.cpu = LESSER
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.status, migration.host) == ('error', 'compute1')
        assert 'lacks hle, rtm that the guest uses' in migration.refusals['compute2']


def broken(*_arguments, **_words):
    raise RuntimeError('a bug of ours')


class TestOwnBugs:
    """An error of this package, wherever Nova calls it: by default it keeps nobody from migrating, and there is one ERROR line for each."""

    def test_the_migration_goes_on(self, cloud, monkeypatch):
        for owner, door in ((Destination, 'decide'), (Destination, 'tell_source'), (Source, 'begin')):
            monkeypatch.setattr(owner, door, broken)
        monkeypatch.setattr(targets.Judge, 'sift', broken)
        migration = cloud.live_migrate(cloud.server('compute1'))
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute2', 'ACTIVE')
        for doing in ('judging the targets', 'checking this host as a destination', 'telling the source', 'beginning to check the path'):
            (line,) = cloud.log.lines('ERROR', doing, 'this is a bug')
            assert 'RuntimeError: a bug of ours' in line

    def test_the_migration_goes_on_when_the_answer_about_the_path_is_lost(self, cloud, monkeypatch):
        server = cloud.server('compute1')
        monkeypatch.setattr(cloud.hosts['compute1'].driver._migcheck.source, '_guest_leaves', broken)
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute2', 'ACTIVE')
        (line,) = cloud.log.lines('ERROR', 'nova-migcheck failed while checking the path to the target')
        assert 'RuntimeError: a bug of ours' in line

    def test_with_on_error_reject_the_filter_rejects_all(self, cloud, monkeypatch):
        server = cloud.server('compute1')
        cloud.set('migcheck', 'on_error', 'reject')
        monkeypatch.setattr(targets.Judge, 'sift', broken)
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert not any(host.was_asked() for host in cloud.hosts.values())

    def test_with_on_error_reject_a_broken_destination_is_not_taken(self, cloud, monkeypatch):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].set('migcheck', 'on_error', 'reject')
        monkeypatch.setattr(cloud.hosts['compute2'].driver._migcheck.destination, 'decide', broken)
        monkeypatch.setattr(cloud.hosts['compute3'].driver._migcheck.destination, 'decide', broken)
        migration = cloud.live_migrate(server)
        # compute3 is as broken, and lets it in.
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute3', 'ACTIVE')
        assert 'it failed while checking this host as a destination: RuntimeError ([migcheck] on_error)' in migration.texts

    def test_the_path_is_checked_by_what_the_target_has_published(self, cloud):
        cloud.say('compute2', facts={'migration': {'inbound': '10.77.0.11'}})
        cloud.check('compute2')
        migration = cloud.live_migrate(cloud.server('compute1'))
        assert (migration.status, migration.host) == ('completed', 'compute2')
        assert cloud.log.lines('WARNING', 'Live migration to compute2', 'this is told of the target',
                               '{"inbound": "10.77.0.11"}')

    def test_without_a_conductor_the_path_decides(self, cloud, monkeypatch):
        def lost(*_args):
            raise oslo_messaging.MessagingTimeout('no reply from the conductor')
        cloud.say_of_paths('compute1', {'compute2': wrong_path('compute2')})
        monkeypatch.setattr(Source, '_published_by', lost)
        migration = cloud.live_migrate(cloud.server('compute1'))
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute3', 'ACTIVE')
        assert migration.refusals.keys() == {'compute2'}
        assert migration.refusals['compute2'].startswith('transport: compute2 resolves to 10.0.0.2')
        assert cloud.log.lines('WARNING', 'What compute3 has published cannot be asked for', 'MessagingTimeout: no reply')
        assert not cloud.log.lines('ERROR', 'this is a bug')

    def test_what_the_source_cannot_tell_keeps_nobody(self, cloud, monkeypatch):
        """Its libvirtd does not answer, and other migrations hold up the checks of the path."""
        server = cloud.server('compute1')
        own = cloud.hosts['compute1'].driver._migcheck.source
        busy = threading.BoundedSemaphore(1)
        busy.acquire()
        monkeypatch.setattr(own, '_paths', busy)
        monkeypatch.setattr(own, '_guest_cpu', lambda *_: (_ for _ in ()).throw(TimeoutError('no answer within 15 s')))
        cloud.hosts['compute1'].set('migcheck', 'round_deadline', '1')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2')
        assert cloud.log.lines('WARNING', 'libvirt on the source cannot say what it is: no answer within 15 s')
        assert cloud.log.lines('WARNING', '4 other migrations held up the check of the path for 1 s')


class TestJustBroken:
    """The fault is younger than the target's last report, which says that all is well."""

    SHARED = {'storage': {'images': 'path', 'expect': 'auto', 'path': '/instances', 'mount': '/instances', 'type': 'nfs4',
                          'family': 'nfs', 'shared': True, 'source': 'nfs1:/export', 'servers': ['nfs1'],
                          'export': '/export', 'inode': 128}}
    LOCAL = {'storage': {'images': 'path', 'expect': 'auto', 'path': '/instances', 'mount': '/', 'type': 'ext4',
                         'shared': False}}

    @pytest.fixture
    def cloud(self, shared_cloud):
        """As an operator has it: recheck_after is the default."""
        shared_cloud.restore()
        for name in ('compute1', 'compute2'):
            shared_cloud.say(name, facts=self.SHARED)
        shared_cloud.check('compute1', 'compute2')
        return shared_cloud

    def refused(self, cloud):
        migration = cloud.live_migrate(cloud.server('compute1'), 'compute2')
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        return migration.refusals['compute2']

    def test_the_share_was_unmounted_a_moment_ago(self, cloud, monkeypatch):
        cloud.say('compute2', facts=self.LOCAL)
        own = cloud.hosts['compute2'].driver._migcheck.reporter
        monkeypatch.setattr(own, '_mounts', own._mounts + b'1 2 0:3 / /instances rw - nfs4 nfs1:/export rw\n')
        assert self.refused(cloud).startswith('storage: /instances is on ext4')

    def test_a_report_that_is_older_than_ten_seconds_is_made_again(self, cloud, monkeypatch, unreachable):
        cloud.say('compute2', unreachable, facts=self.SHARED)
        own = cloud.hosts['compute2'].driver._migcheck.reporter
        monkeypatch.setattr(own, '_at', own._at - 10)
        assert self.refused(cloud).startswith('endpoint: http://192.0.2.5:8780')

    def test_the_same_share_is_accepted(self, cloud, monkeypatch):
        own = cloud.hosts['compute2'].driver._migcheck.reporter
        monkeypatch.setattr(own, '_mounts', own._mounts + b'1 2 0:3 / /elsewhere rw - tmpfs tmpfs rw\n')
        migration = cloud.live_migrate(cloud.server('compute1'), 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
