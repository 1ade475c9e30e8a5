# SPDX-License-Identifier: Apache-2.0
"""A need that no part of the package knows refuses a target in the filter, in both hooks, and in the command line."""

from __future__ import annotations

import time

import nova.conf
import pytest

from nova_migcheck.cli import explain
from nova_migcheck.compute.destination import Destination
from nova_migcheck.judging import matrix
from nova_migcheck.novadb import fleet
from nova_migcheck.policies import Policies
from nova_migcheck.report import published

WORDS = 'the target has nothing for a guest with hvm'


class TestNeeds:
    @pytest.fixture
    def refusing(self, cloud):
        """compute2 does not offer what each guest needs, and has published that."""
        server = cloud.boot('compute1')
        cloud.check('compute1')
        cloud.say('compute2', facts={'scripted': {'refuses': 'hvm'}})
        cloud.check('compute2')
        yield cloud, server
        cloud.delete(server)

    def test_the_filter_rejects_it(self, refusing):
        cloud, server = refusing
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', WORDS)
        assert not cloud.hosts['compute2'].was_asked()

    def test_the_destination_refuses(self, refusing):
        cloud, server = refusing
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert WORDS in migration.refusals['compute2']
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls

    def test_the_source_refuses_by_the_guest_as_it_is_now(self, refusing, monkeypatch):
        cloud, server = refusing
        monkeypatch.setattr(Destination, 'decide', lambda *_args: None)
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.status, migration.host, migration.state) == ('error', 'compute1', 'ACTIVE')
        assert WORDS in migration.refusals['compute2']

    def test_a_target_that_offers_it_is_accepted(self, cloud):
        server = cloud.boot('compute1')
        cloud.check('compute1')
        cloud.say('compute2', facts={'scripted': {'refuses': 'xen'}})
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_the_command_line_says_the_same(self, refusing):
        _cloud, server = refusing
        found, conf = fleet.read(), nova.conf.CONF.migcheck
        explained = {host.name: verdict for host, verdict in explain.judge(
            fleet.server(server), found, found.hosts, conf, time.time())}
        assert WORDS in str(explained['compute2'].rejections[0]) and explained['compute3'].accepted
        built = matrix.build(found.hosts, Policies.from_conf(conf), conf, time.time())
        numbers = {host.name: number for number, host in enumerate(found.hosts)}
        row = next(row for row in built.rows if row.host == numbers['compute1'])
        assert built.state([row], [numbers['compute2']]) is matrix.State.REJECTED
        assert built.state([row], [numbers['compute3']]) is not matrix.State.REJECTED

    def test_guests_that_are_alike_are_published_once(self, refusing):
        cloud, _server = refusing
        needs = published.read(cloud.stats('compute1')).needs
        assert needs.usual == '{"scripted":{"os":"hvm"}}' and needs.others == ()
