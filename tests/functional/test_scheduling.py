# SPDX-License-Identifier: Apache-2.0
"""Nova's decision as a dry run, beside what Nova's own scheduler then does, and nothing is written by it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from types import SimpleNamespace
from typing import Any, Iterable, Iterator, Optional

import nova.conf
import pytest
import sqlalchemy
from nova import objects

from nova_migcheck.cli import drain
from nova_migcheck.finding import Finding
from nova_migcheck.novadb import fleet, placement, scheduling
from nova_migcheck.report import published
from tests.functional.cloud import SMALL, TINY
from tests.functional.conftest import HOSTS, STANDARD

CONF = nova.conf.CONF
# As an operator's nova.conf has them; the endpoint is the fixture's.
CREDENTIALS = {'placement': {'auth_type': 'admin_token', 'endpoint': 'http://placement.invalid', 'token': 'admin'}}
FILTERS = {'filter_scheduler': {
    'available_filters': ['nova.scheduler.filters.all_filters', 'nova_migcheck.scheduler.all_filters'],
    'enabled_filters': 'ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,'
                       'ServerGroupAffinityFilter,MigrationTargetFilter'}}
CLOUD = {**STANDARD, 'conf': {**CREDENTIALS, **FILTERS}}


@pytest.fixture
def cloud(cloud: Any) -> Any:
    """The shared one, whose placement can be asked by the credentials of nova.conf."""
    cloud.set('placement', 'endpoint_override', cloud.placement.fixture.endpoint)
    return cloud


def arguments(*hosts: str, **others: Any) -> argparse.Namespace:
    """What the command line gives."""
    return argparse.Namespace(**{
        'hosts': list(hosts), 'to': [], 'without': [], 'at_once': None, 'search': 5.0, 'exclude_check': [], 'report_only': False,
        'assume_repaired': [], 'cell_timeout': 20.0, **others})


def plan(*hosts: str, **others: Any) -> Any:
    return drain.make(arguments(*hosts, **others), CONF, lambda _text: None)


def decision(server: str, nova: Optional[Any] = None) -> Any:
    nova = nova or scheduling.Scheduling(20)
    return nova.decide(nova.request(server), {}, lambda _state: False)


def fail(cloud: Any, host: str, *findings: Finding) -> None:
    """What a host has published becomes this."""
    report = published.read(cloud.stats(host))
    cloud.set_stats(host, published.write(dataclasses.replace(report, time=int(time.time()), findings=findings)))


@contextlib.contextmanager
def disabled(cloud: Any, *hosts: str) -> Iterator[None]:
    """Compute services that take no new servers."""
    def switch(off: bool) -> None:
        with cloud.cell() as context:
            for host in hosts:
                service = objects.Service.get_by_compute_host(context, host)
                service.disabled = off
                service.save()
    switch(True)
    try:
        yield
    finally:
        switch(False)


@contextlib.contextmanager
def group(cloud: Any, policy: str, *servers: str) -> Iterator[None]:
    """A server group, as if the servers had been booted into it."""
    with cloud.cell() as context:
        made = objects.InstanceGroup(context, name='group', policy=policy, user_id='u', project_id='p', members=list(servers))
        made.create()
    specs = []
    for server in servers:
        spec = objects.RequestSpec.get_by_instance_uuid(context, server)
        spec.instance_group = made
        spec.scheduler_hints = {'group': [made.uuid]}
        spec.save()
        specs.append(spec)
    try:
        yield
    finally:
        for spec in specs:
            spec.instance_group, spec.scheduler_hints = None, {}
            spec.save()
        made.destroy()


@contextlib.contextmanager
def engines() -> Iterator[set[Any]]:
    """All databases that are asked something."""
    found: set[Any] = set()

    def note(connection: Any, *_args: Any) -> None:
        found.add(connection.engine)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, 'before_cursor_execute', note)
    try:
        yield found
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, 'before_cursor_execute', note)


def contents(databases: Iterable[Any]) -> dict[Any, list[str]]:
    """All rows of databases, except when a nova-compute last said that it is alive."""
    found = {}
    for engine in databases:
        with engine.connect() as connection:
            for table in sqlalchemy.inspect(engine).get_table_names():
                rows = connection.execute(sqlalchemy.text(f'SELECT * FROM "{table}"')).mappings()
                found[engine, table] = sorted(repr({name: value for name, value in row.items() if table != 'services' or name not in (
                    'last_seen_up', 'report_count', 'updated_at')}) for row in rows)
    return found


class TestOneServer:
    CLOUD = CLOUD

    def test_the_first_is_where_nova_sends_it(self, cloud: Any) -> None:
        server = cloud.server('compute1')
        decided = decision(server)
        assert decided.ranked == ('compute2', 'compute3', 'compute4', 'compute5') and decided.out == {}
        assert cloud.live_migrate(server).host == 'compute2'

    def test_each_host_that_is_out_names_who_says_so(self, cloud: Any, unreachable: Finding) -> None:
        server, other = cloud.boot('compute1'), cloud.boot('compute3')
        four = next(provider['uuid'] for provider in cloud.placement.get('/resource_providers').body['resource_providers']
                    if provider['name'] == 'compute4')
        with disabled(cloud, 'compute2'), group(cloud, 'anti-affinity', server, other):
            self._older(cloud, 'compute5')
            before = self._reserve(cloud, four)
            try:
                decided = decision(server)
                migrated = cloud.live_migrate(server)
            finally:
                self._reserve(cloud, four, before)
                cloud.publish('compute5')
        assert decided.ranked == ()
        assert {host: by for host, (by, _text) in decided.out.items()} == {
            'compute2': 'ComputeFilter', 'compute3': 'ServerGroupAntiAffinityFilter', 'compute4': 'placement',
            'compute5': 'conductor'}
        assert migrated.host == 'compute1'

    def _older(self, cloud: Any, host: str) -> None:
        with cloud.cell() as context:
            node = objects.ComputeNode.get_by_host_and_nodename(context, host, host)
            node.hypervisor_version -= 1
            node.save()

    def _reserve(self, cloud: Any, provider: str, reserved: Optional[int] = None) -> int:
        """Reserve all CPUs or so many, and return how many were before."""
        path = f'/resource_providers/{provider}/inventories/VCPU'
        inventory = cloud.placement.get(path).body
        changed = {**inventory, 'reserved': inventory['total'] if reserved is None else reserved}
        assert cloud.placement.put(path, changed, version='1.26').status == 200
        return inventory['reserved']

    def test_a_move_takes_from_its_target(self, cloud: Any) -> None:
        """Nova prefers the next host, until nothing fits anywhere."""
        server = cloud.server('compute1')
        nova = scheduling.Scheduling(20)
        request = nova.request(server)
        undos, targets = [], []
        while True:
            decided = nova.decide(request, {}, lambda _state: False)
            if not decided.ranked:
                break
            targets.append(decided.ranked[0])
            undos.append(nova.take(request, decided, decided.ranked[0]))
        assert targets[:6] == ['compute2', 'compute3', 'compute4', 'compute5', 'compute2', 'compute3']
        assert {by for by, _text in decided.out.values()} == {'placement'}
        while undos:
            undos.pop()()
        assert decision(server, nova).ranked[0] == 'compute2'

    def test_servers_that_nova_would_not_move(self, cloud: Any) -> None:
        server = cloud.boot('compute1')
        nova = scheduling.Scheduling(20)
        assert nova.request(server).refusal == ''
        cloud.api.post_server_action(server, {'os-stop': {}})
        cloud.database.wait_for(lambda: cloud.instance(server).vm_state == 'stopped', 'stopped')
        assert 'Cannot live_migrate while the instance is in this state' in nova.request(server).refusal
        moves = {move.server.uuid: move for move in plan('compute1').moves}
        assert moves[server].verdict == 'cannot' and moves[server].reasons[0].by == 'nova'

    def test_nothing_is_written(self, cloud: Any) -> None:
        for _count in range(2):
            cloud.boot('compute1')
        with engines() as asked:
            plan('compute1')
        before = contents(asked)
        assert {'instances', 'allocations', 'request_specs', 'migrations'} <= {table for _engine, table in before}
        assert len(plan('compute1').of('can')) >= 2
        assert contents(asked) == before

    def test_without_credentials_it_says_so(self, cloud: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(placement, 'CONF', SimpleNamespace(placement=SimpleNamespace(auth_type=None)))
        cloud.server('compute1')
        made = plan('compute1')
        assert not made.of('can') and not made.of('cannot') and made.of('unknown')
        assert '[placement] auth_type is not set' in made.moves[0].reasons[0].text

    def test_placement_that_is_away(self, cloud: Any) -> None:
        cloud.set('placement', 'endpoint_override', 'http://127.0.0.1:9')
        made = plan('compute1') if cloud.server('compute1') else None
        assert {move.verdict for move in made.moves} == {'unknown'}
        assert 'placement cannot be asked' in made.moves[0].reasons[0].text


class TestDrain:
    CLOUD = CLOUD

    def test_where_the_plan_says(self, cloud: Any, unreachable: Finding) -> None:
        """Executed in its order to the end, with Nova itself checking each target."""
        servers = [cloud.boot('compute1', flavor) for flavor in (TINY, SMALL, TINY, SMALL)]
        fail(cloud, 'compute2', unreachable)
        made = plan('compute1')
        planned = [(move.server.uuid, move.target) for move in made.of('can')]
        assert set(servers) <= set(dict(planned)) and len(planned) == len(made.moves)
        assert [cloud.instance(uuid).flavor.memory_mb for uuid, _target in planned][:3] == [2048, 2048, 512]
        assert 'compute2' not in dict(planned).values() and len(set(dict(planned).values())) > 1
        for uuid, target in planned:
            assert cloud.live_migrate(uuid, target).host == target

    def test_a_group_is_kept(self, cloud: Any) -> None:
        servers = [cloud.boot('compute1') for _count in range(3)]
        with group(cloud, 'anti-affinity', *servers):
            made = plan('compute1')
        targets = [move.target for move in made.of('can') if move.server.uuid in servers]
        assert len(set(targets)) == 3

    def test_what_if(self, cloud: Any, unreachable: Finding) -> None:
        server = cloud.boot('compute1')
        for host in HOSTS[2:]:
            fail(cloud, host, dataclasses.replace(unreachable, code='endpoint-refused'))

        def of(**others: Any) -> Any:
            return next(move for move in plan('compute1', **others).moves if move.server.uuid == server)
        assert of().target == 'compute2'
        without = of(without=['compute2'])
        assert without.verdict == 'cannot'
        assert {reason.by: reason.hosts for reason in without.reasons} == {
            'endpoint': ('compute3', 'compute4', 'compute5'), 'plan': ('compute2',)}
        assert without.reasons[0].code == 'endpoint-refused' and 'connection refused' in without.reasons[0].text
        for assumed in ({'exclude_check': ['endpoint']}, {'report_only': True}, {'assume_repaired': ['endpoint-refused']},
                        {'assume_repaired': ['compute3:endpoint-refused']}):
            assert of(without=['compute2'], **assumed).target == 'compute3', assumed
        assert of(without=['compute2'], assume_repaired=['compute4:endpoint-refused']).target == 'compute4'
        assert of(without=['compute2'], exclude_check=['cpu']).target is None
        assert of(to=['compute5'], report_only=True).target == 'compute5'

    def test_hosts_that_cannot_be_planned(self, cloud: Any) -> None:
        with pytest.raises(fleet.Unavailable, match="there is no compute host 'compute77'"):
            plan('compute77')
        with pytest.raises(ValueError, match='compute1 cannot be emptied and be a target'):
            plan('compute1', to=['compute1'])

    def test_a_host_with_no_server(self, cloud: Any) -> None:
        made = plan('compute5')
        assert made.moves == () and made.sentence() == 'No server is left: the host is empty.'
