# SPDX-License-Identifier: Apache-2.0
"""What is no live migration goes on as if the plugin were not there, to hosts that no live migration may go to."""

from __future__ import annotations

import pytest

from nova_migcheck.finding import Finding, Outcome
from tests.functional.cloud import Cloud
from tests.functional.conftest import HOSTS
from tests.functional.hypervisor import Cpu


@pytest.fixture(scope='class')
def made_bad(shared_cloud):
    """Every host has published a failure, and another CPU than the guests' is on the targets."""
    for host in HOSTS:
        shared_cloud.say(host, Finding('endpoint', Outcome.FAILURE, 'http://192.0.2.5:8780', 'connection refused'))
        shared_cloud.hosts[host].set('migcheck', 'recheck_after', '0')
    for host in HOSTS[1:]:
        shared_cloud.hosts[host].hypervisor.cpu = Cpu('EPYC')
    shared_cloud.check()
    return shared_cloud


@pytest.fixture
def all_bad(made_bad):
    """Nothing that is done here makes it well again."""
    made_bad.forget_calls()
    return made_bad


class TestUntouched:
    def test_boot(self, all_bad):
        assert all_bad.host_of(all_bad.boot()) in HOSTS
        assert not all_bad.log.lines('nova_migcheck')

    def test_cold_migrate(self, all_bad):
        server = all_bad.server('compute1')
        assert all_bad.cold_migrate(server) != 'compute1'
        all_bad.confirm_resize(server)
        assert not all_bad.log.lines('nova_migcheck')

    def test_resize(self, all_bad):
        server = all_bad.server('compute1')
        assert all_bad.resize(server) in HOSTS
        all_bad.confirm_resize(server)
        assert not all_bad.log.lines('nova_migcheck')

    def test_rebuild(self, all_bad):
        assert all_bad.rebuild(all_bad.server('compute1')) == 'compute1'
        assert not all_bad.log.lines('nova_migcheck')

    def test_unshelve(self, all_bad):
        server = all_bad.boot('compute1')
        all_bad.shelve(server)
        assert all_bad.unshelve(server) in HOSTS
        assert not all_bad.log.lines('nova_migcheck')

    def test_evacuate(self, all_bad):
        server = all_bad.boot('compute1')
        assert all_bad.evacuate(server) in HOSTS[1:]
        assert not all_bad.log.lines('nova_migcheck')

    def test_a_live_migration_of_the_same_server_has_no_target(self, all_bad):
        """That the hosts really are as bad as the other tests here believe."""
        migration = all_bad.live_migrate(all_bad.server('compute1'))
        assert migration.message.startswith('No valid host was found. migcheck rejected 4 hosts')


class TestAlsoFor:
    def test_cold_migration_and_evacuation_go_to_the_well_host_whatever_its_cpu(self, cloud, unreachable):
        cloud.set('migcheck', 'also_for', 'migration,evacuation')
        cloud.hosts['compute3'].hypervisor.cpu = Cpu('EPYC')
        for host in ('compute2', 'compute4', 'compute5'):
            cloud.say(host, unreachable)
        cloud.check(*HOSTS[1:])
        server = cloud.boot('compute1')
        assert cloud.cold_migrate(server) == 'compute3'
        cloud.confirm_resize(server)
        assert cloud.evacuate(cloud.boot('compute1')) == 'compute3'
        # What is not listed is not judged.
        assert cloud.resize(server) in HOSTS
        assert not cloud.log.lines('nova_migcheck.scheduler', 'resize')


class TestQueries:
    """The scheduler's own database queries for one request, with the plugin and without."""

    def test_a_boot_costs_no_query_and_a_live_migration_two(self, no_cloud):
        boots, live_migrations = [], []
        for plugin in (False, True):
            with Cloud(dict.fromkeys(HOSTS[:2], Cpu()), plugin=plugin) as cloud:
                cloud.boot('compute1')  # what is read once only
                cloud.forget_calls()
                server = cloud.boot('compute1')
                boots.append([len(queries) for queries in cloud.scheduler_queries])
                cloud.forget_calls()
                assert cloud.live_migrate(server).status == 'completed'
                live_migrations.append([len(queries) for queries in cloud.scheduler_queries])
        stock, ours = boots
        assert len(stock) == 1 and stock[0] > 0
        assert ours == stock
        (stock_queries,), (our_queries,) = live_migrations
        assert our_queries - stock_queries == 2
