# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck explain`` and the scheduler's filter come to the same for every server and every host."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import nova.conf
from nova import exception, objects

from nova_migcheck import scheduler
from nova_migcheck.cli import explain
from nova_migcheck.novadb import fleet
from nova_migcheck.report import published
from tests.functional.conftest import HOSTS
from tests.functional.hypervisor import Cpu


class TestAgreement:
    def test_on_every_pair(self, cloud: Any, unreachable: Any) -> None:
        cloud.hosts['compute2'].hypervisor.cpu = Cpu().without('hle', 'rtm')
        servers = {host: cloud.server(host) for host in HOSTS}
        cloud.check()
        self._publish(cloud, 'compute3', unreachable)
        self._publish(cloud, 'compute4', dataclasses.replace(unreachable, scope='volumes'))
        seen = set()
        for source, server in servers.items():
            found = fleet.read()
            explained = {host.name: verdict.accepted for host, verdict in explain.judge(
                fleet.server(server), found, found.hosts, nova.conf.CONF.migcheck, time.time())}
            assert {host.name for host in found.hosts} == set(HOSTS) and not found.unreachable
            with cloud.cell() as context:
                kept = self._filter(cloud, context, server, source)
            for host in set(HOSTS) - {source}:
                assert explained[host] == (host in kept), (source, host)
                seen.add((host, explained[host]))
        # Not all of one kind, or this would show nothing.
        assert {('compute1', True), ('compute2', False), ('compute3', False), ('compute4', True)} <= seen

    def test_a_server_by_its_name(self, cloud: Any) -> None:
        server = cloud.server('compute1')
        name = cloud.instance(server).display_name
        assert fleet.server(name).uuid == server and fleet.server(server).host == 'compute1'
        assert 'local-disk' in fleet.server(server).needs

    def _publish(self, cloud: Any, host: str, finding: Any) -> None:
        report = published.read(cloud.stats(host))
        assert report is not None
        cloud.set_stats(host, published.write(dataclasses.replace(report, time=int(time.time()), findings=(finding,))))

    def _filter(self, cloud: Any, context: Any, server: str, source: str) -> set[str]:
        migration = objects.Migration(context, instance_uuid=server, source_compute=source, status='accepted',
                                      migration_type='live-migration')
        migration.create()
        try:
            spec = objects.RequestSpec.get_by_instance_uuid(context, server)
            spec.ignore_hosts = [source]
            spec.requested_destination = objects.Destination(cell=cloud.nova.cell_mappings['cell1'])
            states = [SimpleNamespace(host=host, stats=cloud.stats(host)) for host in HOSTS if host != source]
            try:
                return {state.host for state in scheduler.MigrationTargetFilter().filter_all(states, spec)}
            except exception.NoValidHost:
                return set()
        finally:
            migration.status = 'error'
            migration.save()
