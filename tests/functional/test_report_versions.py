# SPDX-License-Identifier: Apache-2.0
"""Hosts that report in other versions than the scheduler and the computes read: a cloud in the middle of an upgrade, or of a way back.

There has been one version so far: a later one and an earlier one are made up. That Nova itself is of several releases is tested elsewhere.
"""

from __future__ import annotations

import json
import time

import pytest

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import published, report
from tests.facts import BUILT_IN

DEAD = Finding('endpoint', Outcome.FAILURE, 'http://192.0.2.5:8780', 'connection refused')


def other_version(version, texts):
    """The same stats with the report as another version would publish it. What is Nova's own is left: the scheduler weighs hosts by it."""
    return {key: f'{version} {text[2:]}' if key in published.KEYS else text for key, text in texts.items()}


def with_more(texts):
    """The same report by a later release that says more within this version."""
    main = texts[published.MAIN]
    head, own = main[:main.index('{')], json.loads(published._exchange_quotes(main[main.index('{'):]))
    more = json.dumps({**own, 'later': {'a': [1]}, 'f': [{**f, 'later': 1} for f in own.get('f', ())]})
    return {**texts, published.MAIN: head + published._exchange_quotes(more), 'migcheck_later': '1 {}'}


@pytest.fixture
def mixed(cloud):
    """compute1, the source, and compute3 are later ones, compute4 is an earlier one; compute2 says in a later release that it is unfit."""
    unfit = published.write(report.build(time.time(), [DEAD], {'storage': {'images': 'path', 'later': 5}}, BUILT_IN))
    cloud.set_stats('compute2', with_more(unfit))
    for host, version in (('compute1', '2'), ('compute3', '2'), ('compute4', '0')):
        cloud.set_stats(host, other_version(version, cloud.stats(host)))
    return cloud


class TestReportVersions:
    def test_a_host_of_another_version_counts_as_one_without_a_report(self, mixed):
        server = mixed.server('compute1')
        migration = mixed.live_migrate(server)
        # What compute2 says was understood, what it says beyond that was left alone; compute3 was let through and looked at itself.
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert not mixed.hosts['compute2'].was_asked()
        assert mixed.log.lines('INFO', 'Host compute2 is rejected', 'connection refused')
        assert mixed.log.lines('WARNING', 'The report of', 'cannot be read', 'version other than 1')
        assert not mixed.log.lines('ERROR', 'nova_migcheck')

    def test_a_host_of_another_version_is_refused_where_a_missing_report_is(self, mixed):
        mixed.scheduler.manager.host_manager.enabled_filters[-1]._policies.on_missing.update({'': 'reject'})
        try:
            migration = mixed.live_migrate(mixed.server('compute1'))
        finally:
            mixed.scheduler.manager.host_manager.enabled_filters[-1]._policies.on_missing.update({'': 'warn'})
        assert (migration.status, migration.host) == ('completed', 'compute5'), migration.texts
        for host in ('compute2', 'compute3', 'compute4'):
            assert not mixed.hosts[host].was_asked()

    def test_a_forced_migration_to_a_host_of_another_version_is_judged_by_that_host(self, mixed):
        mixed.say('compute4', DEAD)
        mixed.hosts['compute4'].check()
        migration = mixed.live_migrate(mixed.server('compute1'), 'compute4', force=True)
        assert migration.status == 'error' and 'connection refused' in migration.refusals['compute4']
        # Its twin.
        mixed.say('compute4')
        mixed.hosts['compute4'].check()
        assert mixed.live_migrate(mixed.server('compute1'), 'compute4', force=True).host == 'compute4'
