# SPDX-License-Identifier: Apache-2.0
"""A cloud in the middle of an upgrade: some services have the plugin, some have another version of it, some have none."""

from __future__ import annotations

import re

from nova_migcheck import scheduler
from nova_migcheck.report import published, report
from tests.facts import BUILT_IN
from tests.functional.cloud import STOCK
from tests.functional.conftest import HOSTS, STANDARD
from tests.functional.hypervisor import Cpu

WITHOUT = ('compute1', 'compute3', 'compute5')
HALF = {**STANDARD, 'host_conf': {host: {'DEFAULT': STOCK['DEFAULT']} for host in WITHOUT}}


def of_version(stats, version):
    """What a host with another version of the plugin would publish."""
    return {key: re.sub('^1 ', f'{version} ', text) if key in published.KEYS else text for key, text in stats.items()}


class TestHalfOfTheHosts:
    """Nova's own driver on three of five hosts: a rolling upgrade, or a host that was forgotten."""

    CLOUD = HALF

    def test_none_is_rejected_for_having_no_report(self, cloud, unreachable):
        assert not any(key in cloud.stats(host) for host in WITHOUT for key in published.KEYS)
        assert all(published.MAIN in cloud.stats(host) for host in HOSTS if host not in WITHOUT)
        server = cloud.server('compute1')
        # A source without the plugin, to a target with it, and back; then to another one without.
        for target in ('compute2', 'compute1', 'compute3', 'compute4', 'compute5'):
            migration = cloud.live_migrate(server, target)
            assert (migration.status, migration.host) == ('completed', target), migration.texts
        assert not cloud.log.lines('ERROR', 'nova_migcheck')

    def test_those_that_have_one_are_judged_by_it(self, cloud, unreachable):
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        server = cloud.server('compute1')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert not cloud.hosts['compute2'].was_asked()


class TestNewerComputes:
    """The scheduler and the other hosts do not know the version of what they read: it counts as missing, which warns."""

    def test_what_nobody_can_read_rejects_nothing(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        for host in HOSTS:
            cloud.set_stats(host, of_version(cloud.stats(host), 2))
        cloud.say('compute2')
        cloud.hosts['compute2'].check()
        cloud.forget_calls()
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert not cloud.log.lines('ERROR', 'nova_migcheck')
        assert cloud.log.lines('WARNING', 'nova_migcheck', 'cannot be read', 'version other than 1')

    def test_their_own_hook_still_refuses(self, cloud, unreachable):
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        cloud.set_stats('compute2', of_version(cloud.stats('compute2'), 2))
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert 'endpoint' in migration.refusals['compute2']


class TestOlderComputes:
    def test_a_report_without_what_came_later_is_read(self, cloud, unreachable):
        """Of an old version: no CPU, no site, only its findings. A failure in it counts."""
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.check('compute2')
        for host in HOSTS[1:3]:
            main = cloud.stats(host)[published.MAIN]
            time = int(main.split()[1])
            found = published.read(cloud.stats(host)).findings
            cloud.set_stats(host, published.write(report.build(time, found, {}, BUILT_IN)))
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert not cloud.hosts['compute2'].was_asked()


class TestSchedulerWithout:
    """The computes first: as the scheduler has no filter yet, the hook refuses."""

    def test_the_hook_refuses_and_nova_tries_the_next(self, cloud, unreachable, monkeypatch):
        hosts = cloud.scheduler.manager.host_manager
        without = [one for one in hosts.enabled_filters if not isinstance(one, scheduler.MigrationTargetFilter)]
        assert [type(one).__name__ for one in without] == STOCK['filter_scheduler']['enabled_filters'].split(',')
        monkeypatch.setattr(hosts, 'enabled_filters', without)
        server = cloud.server('compute1')
        cloud.say('compute2', unreachable)
        cloud.hosts['compute3'].hypervisor.cpu = Cpu().without('hle')
        cloud.check('compute2', 'compute3')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute4', 'ACTIVE'), migration.texts
        assert set(migration.refusals) == {'compute2', 'compute3'}
