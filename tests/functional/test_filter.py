# SPDX-License-Identifier: Apache-2.0
"""The scheduler's filter: what a host has published about itself keeps live migrations away from it."""

from __future__ import annotations

import time

import pytest

from nova_migcheck import published
from nova_migcheck.finding import Finding, Outcome
from tests.functional.hypervisor import Cpu

HOSTS = ('compute1', 'compute2', 'compute3')


class TestEnforce:
    CLOUD = {'cpus': dict.fromkeys(HOSTS, Cpu())}

    def test_a_target_that_published_a_failure_is_never_asked(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute3', 'ACTIVE')
        assert cloud.hosts['compute3'].was_asked()
        assert not cloud.hosts['compute2'].was_asked()
        line, = cloud.log.lines('nova_migcheck.scheduler', 'compute2')
        assert line.startswith('INFO')
        for word in (server, 'endpoint: http://192.0.2.5:8780: connection refused', 'catalog: placement', 'see whether'):
            assert word in line

    def test_a_target_with_a_lesser_cpu_is_never_asked(self, cloud):
        cloud.hosts['compute2'].hypervisor.cpu = Cpu().without('hle', 'rtm')
        server = cloud.server('compute1')
        cloud.check('compute2')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3')
        assert not cloud.hosts['compute2'].was_asked()
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'lacks hle, rtm that the guest uses')

    def test_a_target_with_a_greater_cpu_is_accepted(self, cloud):
        cloud.hosts['compute2'].hypervisor.cpu = Cpu('Skylake-Server')
        server = cloud.server('compute1')
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2')

    def test_and_back_to_the_lesser_host_where_the_guest_came_from(self, cloud):
        cloud.hosts['compute2'].hypervisor.cpu = Cpu('Skylake-Server')
        server = cloud.server('compute1')
        cloud.check('compute2')
        assert cloud.live_migrate(server, 'compute2').status == 'completed'
        cloud.check()
        migration = cloud.live_migrate(server, 'compute1')
        assert (migration.status, migration.host) == ('completed', 'compute1'), migration.texts

    def test_another_vendor(self, cloud):
        cloud.hosts['compute2'].hypervisor.cpu = Cpu('EPYC')
        server = cloud.server('compute1')
        cloud.check('compute2')
        assert cloud.live_migrate(server).host == 'compute3'
        line, = cloud.log.lines('nova_migcheck.scheduler', 'compute2')
        assert 'AMD' in line and 'Intel' in line

    def test_all_bad_is_no_valid_host_with_counts_and_no_names(self, cloud, unreachable):
        cloud.hosts['compute2'].hypervisor.cpu = Cpu().without('hle', 'rtm')
        server = cloud.server('compute1')
        cloud.say('compute3', unreachable)
        cloud.check('compute2', 'compute3')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert migration.message == 'No valid host was found. migcheck rejected 2 hosts (cpu: 1, endpoint: 1)'
        assert not any(host in migration.texts for host in HOSTS)
        assert not cloud.hosts['compute2'].was_asked() and not cloud.hosts['compute3'].was_asked()
        assert cloud.allocated_on(server) == {'compute1'}
        assert cloud.allocated_on(cloud.migrations(server)[0].uuid) == set()

    def test_a_requested_host_is_judged_too(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert migration.message == 'No valid host was found. migcheck rejected 1 host (endpoint: 1)'

    @pytest.mark.parametrize('outcome', [Outcome.WARNING, Outcome.UNKNOWN])
    def test_what_is_no_failure_rejects_nothing(self, cloud, outcome):
        server = cloud.server('compute1')
        for host in ('compute2', 'compute3'):
            cloud.say(host, Finding('endpoint', outcome, 'http://192.0.2.5:8780', 'no answer within 5 s'))
        cloud.check('compute2', 'compute3')
        assert cloud.live_migrate(server).status == 'completed'

    def test_a_failure_that_concerns_only_servers_with_volumes(self, cloud):
        server = cloud.server('compute1')
        for host in ('compute2', 'compute3'):
            cloud.say(host, Finding('endpoint', Outcome.FAILURE, 'http://192.0.2.5:8776', 'refused', scope='volumes'))
        cloud.check('compute2', 'compute3')
        assert cloud.live_migrate(server).status == 'completed'

    def test_without_reports_all_is_as_without_the_plugin(self, cloud):
        server = cloud.server('compute1')
        for host in HOSTS:
            cloud.set_stats(host, {'uptime': 'up 3 days'})
        assert cloud.live_migrate(server).status == 'completed'

    def test_an_old_report_is_not_believed(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        stats = cloud.stats('compute2')
        main = stats[published.MAIN]
        stats[published.MAIN] = main.replace(main.split()[1], f'{int(time.time()) - 301:010d}', 1)
        cloud.set_stats('compute2', stats)
        # It is well by now: the compute itself says so when it is asked.
        cloud.say('compute2')
        cloud.hosts['compute2'].set('migcheck', 'recheck_after', '0')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_uptime_that_nova_publishes_stays(self, cloud):
        stats = cloud.stats('compute1')
        assert 'uptime' in stats and published.MAIN in stats

    def test_the_report_of_a_host_is_small(self, cloud):
        stats = cloud.stats('compute1')
        assert sum(len(key) + len(stats[key]) for key in published.KEYS if key in stats) <= 1536


class TestStrictPolicies:
    """Who wants no risk at all."""

    CLOUD = {'cpus': dict.fromkeys(HOSTS, Cpu()), 'conf': {'migcheck': {
        'on_unknown': 'reject', 'on_missing': 'reject', 'on_stale': 'reject,cpu:ignore', 'on_failure': 'reject,endpoint:warn'}}}

    def test_unknown(self, cloud):
        server = cloud.server('compute1')
        cloud.say('compute2', Finding('address', Outcome.UNKNOWN, 'compute2', 'no answer'))
        cloud.check('compute2')
        assert cloud.live_migrate(server).host == 'compute3'
        assert not cloud.hosts['compute2'].was_asked()

    def test_missing(self, cloud):
        server = cloud.server('compute1')
        cloud.check()
        cloud.set_stats('compute2', {'uptime': 'up 3 days'})
        assert cloud.live_migrate(server).host == 'compute3'
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'no report')

    def test_stale(self, cloud):
        server = cloud.server('compute1')
        cloud.check()
        stats = cloud.stats('compute2')
        main = stats[published.MAIN]
        stats[published.MAIN] = main.replace(main.split()[1], f'{int(time.time()) - 3600:010d}', 1)
        cloud.set_stats('compute2', stats)
        assert cloud.live_migrate(server).host == 'compute3'
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', '3600 s old')

    def test_a_failure_that_the_operator_only_wants_to_be_warned_of(self, cloud, unreachable):
        server = cloud.server('compute1')
        for host in ('compute2', 'compute3'):
            cloud.say(host, unreachable)
        cloud.check('compute2', 'compute3')
        assert cloud.live_migrate(server).status == 'completed'


class TestReportOnly:
    CLOUD = {'cpus': dict.fromkeys(HOSTS, Cpu()), 'conf': {'migcheck': {'mode': 'report'}}}

    def test_nothing_changes_and_all_is_logged(self, cloud, unreachable):
        server = cloud.server('compute1')
        for host in ('compute2', 'compute3'):
            cloud.say(host, unreachable)
        cloud.say_of_path('compute1', 'compute2', unreachable)
        cloud.say_of_path('compute1', 'compute3', unreachable)
        cloud.check('compute2', 'compute3')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.state) == ('completed', 'ACTIVE')
        assert migration.refusals == {}
        assert len(cloud.log.lines('nova_migcheck.scheduler', 'would be rejected', 'endpoint')) == 2
        # Once by the target and once by the source.
        assert len(cloud.log.lines('nova_migcheck.hook', 'would be refused', migration.host, 'endpoint')) == 2


class TestOff:
    CLOUD = {'cpus': dict.fromkeys(HOSTS, Cpu()), 'conf': {'migcheck': {'mode': 'off'}}}

    def test_nova_behaves_as_if_it_were_not_installed(self, cloud, unreachable):
        for host in ('compute2', 'compute3'):
            cloud.say(host, unreachable)
            cloud.say_of_path('compute1', host, unreachable)
        cloud.publish()
        server = cloud.server('compute1')
        assert not any(key.startswith('migcheck') for host in HOSTS for key in cloud.stats(host))
        assert cloud.live_migrate(server).status == 'completed'
        assert not cloud.log.lines('nova_migcheck')
