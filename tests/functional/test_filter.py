# SPDX-License-Identifier: Apache-2.0
"""The scheduler's filter: what a host has published about itself keeps live migrations away from it."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from nova import objects

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.novadb import moves
from nova_migcheck.report import published
from tests.functional import nova_release
from tests.functional.conftest import HOSTS, STANDARD
from tests.functional.hypervisor import Cpu

OFF = {'cpus': dict.fromkeys(HOSTS[:2], Cpu()), 'conf': {'migcheck': {'mode': 'off'}}}
STRICT = {
    **STANDARD,
    'conf': {
        'migcheck': {
            'on_unknown': 'reject',
            'on_missing': 'reject',
            'on_stale': 'reject',
            'on_failure': 'reject,endpoint:warn',
        }
    },
}


def make_older(cloud, host, seconds):
    """As if that host had last published a report some time ago."""
    stats = cloud.stats(host)
    main = stats[published.MAIN]
    cloud.set_stats(
        host,
        {
            **stats,
            published.MAIN: main.replace(main.split()[1], f'{int(time.time()) - seconds:010d}', 1),
        },
    )


def why(cloud, host):
    """What the one line of the scheduler's log says of the host that is none."""
    (line,) = (
        line
        for line in cloud.log.lines('INFO [nova_migcheck.scheduler]', 'rejected as target')
        if f'Host {host} is' in line or f' {host}: ' in line
    )
    return next((part for part in line.split(' | ') if f' {host}: ' in f' {part}'), line)


class TestOff:
    CLOUD = OFF

    def test_nova_behaves_as_if_it_were_not_installed(self, cloud, unreachable):
        cloud.say('compute2', unreachable)
        cloud.say_of_paths('compute1', {'compute2': unreachable})
        cloud.publish()
        server = cloud.boot('compute1')
        assert not any(
            key.startswith('migcheck') for host in cloud.hosts for key in cloud.stats(host)
        )
        assert cloud.live_migrate(server).status == 'completed'
        assert not cloud.log.lines('nova_migcheck')


class TestStrictPolicies:
    """Who wants no risk at all, but for the endpoints."""

    CLOUD = STRICT

    def test_unknown_missing_and_stale_reject_and_a_failure_may_warn(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', Finding('address', Outcome.UNKNOWN, 'compute2', 'no answer'))
        cloud.say('compute5', unreachable)
        cloud.check('compute2', 'compute5')
        cloud.set_stats('compute3', {'uptime': 'up 3 days'})
        make_older(cloud, 'compute4', 3600)
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute5')
        assert not any(
            cloud.hosts[host].was_asked() for host in ('compute2', 'compute3', 'compute4')
        )
        assert 'address: compute2: no answer' in why(cloud, 'compute2')
        assert 'it has published no report' in why(cloud, 'compute3')
        assert 'its report is 36' in why(cloud, 'compute4')

    def test_a_host_with_a_stale_report_decides_itself_where_no_other_is_left(self, cloud):
        server = cloud.server('compute1')
        make_older(cloud, 'compute2', 3600)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts


class TestLastResort:
    """Hosts that only faults reject which may be gone by now decide themselves, if no other is left."""

    def test_a_requested_host_refuses_with_its_own_reason(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host, migration.state) == (
            'error',
            'compute1',
            'ACTIVE',
        )
        assert 'connection refused' in migration.refusals['compute2']
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        assert cloud.log.lines('INFO [nova_migcheck.scheduler]', 'No host is left', 'compute2')

    def test_a_repaired_host_is_a_target_before_its_next_report(self, cloud, unreachable):
        server = cloud.server('compute1')
        for host in HOSTS[1:]:
            cloud.say(host, unreachable)
        cloud.check(*HOSTS[1:])
        cloud.say('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_a_repaired_host_is_a_target_by_the_forced_way(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        cloud.say('compute2')
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_the_one_repaired_host_of_several_is_found(self, cloud, unreachable):
        server = cloud.server('compute1')
        for host in HOSTS[1:]:
            cloud.say(host, unreachable)
        cloud.check(*HOSTS[1:])
        cloud.say('compute3')
        cloud.set('migcheck', 'last_resort_hosts', '4')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts

    def test_no_more_than_so_many_in_all_retries_of_a_request(self, cloud, unreachable):
        server = cloud.server('compute1')
        for host in HOSTS[1:]:
            cloud.say(host, unreachable)
        cloud.check(*HOSTS[1:])
        cloud.set('migcheck', 'last_resort_hosts', '2')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == (
            'error',
            'compute1',
            'ACTIVE',
        )
        assert migration.message.startswith(
            'No valid host was found. migcheck rejected 2 hosts (endpoint: 2; '
        )
        assert (
            len(migration.refusals) == sum(host.was_asked() for host in cloud.hosts.values()) == 2
        )
        assert cloud.allocated_on(server) == {'compute1'}

    def test_a_fault_that_all_have_is_said_to_be_one_of_the_service(self, cloud, unreachable):
        server = cloud.server('compute1')
        for host in HOSTS:
            cloud.say(host, unreachable)
        cloud.check()
        cloud.set('migcheck', 'last_resort_hosts', '1')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == (
            'error',
            'compute1',
            'ACTIVE',
        )
        assert migration.message.startswith(
            'No valid host was found. migcheck rejected 3 hosts (endpoint: 3; '
            'endpoint: the same on the source and on 3 of 3 targets: this is the service'
        )
        (reason,) = migration.refusals.values()
        assert reason.startswith(
            'endpoint: the same on the source: this is the service, not the host; endpoint: http'
        )
        assert cloud.log.lines(
            'WARNING', 'nova_migcheck.scheduler', 'on the source and on 4 of 4 targets'
        )

    def test_never_a_host_whose_cpu_does_not_fit(self, cloud):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].hypervisor.cpu = Cpu().without('hle', 'rtm')
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert migration.message == 'No valid host was found. migcheck rejected 1 host (cpu: 1)'
        assert not cloud.hosts['compute2'].was_asked()

    def test_not_while_another_host_is_left(self, cloud, unreachable):
        server = cloud.server('compute1')
        for host in HOSTS[1:4]:
            cloud.say(host, unreachable)
        cloud.check(*HOSTS[1:])
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute5')
        assert not any(cloud.hosts[host].was_asked() for host in HOSTS[1:4])


class TestEnforce:
    def test_unsafe_targets_are_never_asked(self, cloud, unreachable):
        cloud.say('compute2', unreachable)
        cloud.hosts['compute3'].hypervisor.cpu = Cpu().without('hle', 'rtm')
        cloud.hosts['compute4'].hypervisor.cpu = Cpu('EPYC')
        cloud.hosts['compute5'].hypervisor.cpu = Cpu('Skylake-Server')
        server = cloud.server('compute1')
        cloud.check(*HOSTS[1:])
        migration = cloud.live_migrate(server)
        # To the one that has more than the guest uses.
        assert (migration.status, migration.host, migration.state) == (
            'completed',
            'compute5',
            'ACTIVE',
        )
        assert [host for host in HOSTS if cloud.hosts[host].was_asked()] == ['compute5']
        for word in (
            server,
            'endpoint: http://192.0.2.5:8780: connection refused',
            'catalog: placement',
            'see whether',
        ):
            assert word in why(cloud, 'compute2')
        assert 'lacks hle, rtm that the guest uses' in why(cloud, 'compute3')
        assert 'AMD' in why(cloud, 'compute4') and 'Intel' in why(cloud, 'compute4')

        # And back: an older guest's CPU on a newer host (K3).
        cloud.check('compute1', 'compute5')
        migration = cloud.live_migrate(server, 'compute1')
        assert (migration.status, migration.host) == ('completed', 'compute1'), migration.texts

    def test_all_bad_is_no_valid_host_with_counts_and_no_names(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].hypervisor.cpu = Cpu().without('hle', 'rtm')
        for host in HOSTS[2:]:
            cloud.say(host, unreachable)
        cloud.check(*HOSTS[1:])
        cloud.set('migcheck', 'last_resort_hosts', '0')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == (
            'error',
            'compute1',
            'ACTIVE',
        )
        assert migration.message == (
            'No valid host was found. migcheck rejected 4 hosts (cpu: 1, endpoint: 3; '
            'endpoint: the same on 3 of 4 targets: this is the service, not the host)'
        )
        assert not any(host in migration.texts for host in HOSTS)
        assert not any(host.was_asked() for host in cloud.hosts.values())
        assert cloud.allocated_on(server) == {'compute1'}
        assert cloud.allocated_on(cloud.migrations(server)[0].uuid) == set()

    @pytest.mark.parametrize('most, said', [(5, True), (6, False)])
    def test_as_many_as_placement_names(self, cloud, unreachable, most, said):
        """There may be a safe target among the hosts that the scheduler does not see."""
        server = cloud.server('compute1')
        for host in HOSTS[1:]:
            cloud.say(host, unreachable)
        cloud.check(*HOSTS[1:])
        cloud.set('migcheck', 'last_resort_hosts', '0')
        cloud.set('scheduler', 'max_placement_results', str(most))
        assert cloud.live_migrate(server).status == 'error'
        assert bool(cloud.log.lines('WARNING', 'All 4 hosts', 'max_placement_results = 5')) is said

    def test_a_host_that_two_checks_reject_counts_for_both(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.hosts['compute2'].hypervisor.cpu = Cpu().without('hle', 'rtm')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (
            migration.message
            == 'No valid host was found. migcheck rejected 1 host (cpu: 1, endpoint: 1)'
        )
        assert not cloud.hosts['compute2'].was_asked()

    def test_what_is_no_failure_of_this_server_rejects_nothing(self, cloud):
        server = cloud.server('compute1')
        cloud.say(
            'compute2',
            Finding('endpoint', Outcome.WARNING, 'http://192.0.2.5:9292', 'refused'),
            Finding('address', Outcome.UNKNOWN, 'compute2', 'no answer within 5 s'),
            Finding(
                'endpoint', Outcome.FAILURE, 'http://192.0.2.5:8776', 'refused', scope='volumes'
            ),
        )
        cloud.check('compute2')
        assert cloud.live_migrate(server).host == 'compute2'

    def test_an_old_report_is_not_believed(self, cloud, unreachable):
        """It is well by now, and says so when it is asked."""
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        make_older(cloud, 'compute2', 301)
        cloud.say('compute2')
        cloud.hosts['compute2'].set('migcheck', 'recheck_after', '0')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_mode_report_changes_nothing_and_logs_all(self, cloud, unreachable):
        cloud.set('migcheck', 'mode', 'report')
        server = cloud.server('compute1')
        for host in HOSTS[1:]:
            cloud.say(host, unreachable)
        cloud.say_of_paths('compute1', {'compute2': unreachable})
        cloud.check(*HOSTS[1:])
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == (
            'completed',
            'compute2',
            'ACTIVE',
        )
        assert migration.refusals == {}
        (line,) = cloud.log.lines('nova_migcheck.scheduler', 'would be rejected')
        assert re.search(
            r' 4 hosts would be rejected .*: compute\[\S+\]: endpoint: .* \| 1 more for endpoint: compute\d$',
            line,
        ), line
        # Once by the target and once by the source.
        assert (
            len(cloud.log.lines('nova_migcheck.hook', 'would be refused', 'compute2', 'endpoint'))
            == 2
        )

    def test_of_a_server_that_has_moved_often_the_newest_records_count(self, cloud):
        often, ways = (
            str(uuid.uuid4()),
            [('compute3', 'compute4'), *[('compute1', 'compute2'), ('compute2', 'compute1')] * 15],
        )
        with cloud.cell() as context:
            for source, target in ways:
                objects.Migration(
                    context,
                    instance_uuid=often,
                    status='completed',
                    migration_type='live-migration',
                    source_compute=source,
                    dest_compute=target,
                ).create()
            assert moves.under_way(context, often) is None
            objects.Migration(
                context,
                instance_uuid=often,
                status='accepted',
                migration_type='live-migration',
                source_compute='compute1',
            ).create()
            assert moves.under_way(context, often)[:2] == ('compute1', moves.LIVE)
            assert len(moves._records(context, often, ['completed'])) == moves._NEWEST

    def test_a_report_is_small_and_leaves_what_nova_publishes(self, cloud):
        stats = cloud.stats('compute1')
        assert {published.MAIN, *nova_release.stats_of_the_driver()} <= set(stats)
        assert sum(len(key) + len(stats[key]) for key in published.KEYS if key in stats) <= 1536
