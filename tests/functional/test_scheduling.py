# SPDX-License-Identifier: Apache-2.0
"""Nova's decision as a dry run, beside what Nova's own scheduler then does, and nothing is written
by it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import datetime
import os
import time
import uuid
from types import SimpleNamespace
from typing import Any, Iterable, Iterator, NamedTuple, Optional

import nova.conf
import oslo_messaging
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keystoneauth1 import exceptions
from nova import exception, objects, servicegroup
from nova.conductor.tasks import live_migrate, migrate
from nova.network import model, neutron
from nova.scheduler.client import report
from nova.tests import fixtures as nova_fixtures
from oslo_utils import timeutils

from nova_migcheck.cli import decision as cli_decision
from nova_migcheck.cli import drain, explain
from nova_migcheck.finding import Finding
from nova_migcheck.novadb import fleet, placement, releases, scheduling
from nova_migcheck.report import published
from tests.functional.cloud import SMALL, TINY
from tests.functional.conftest import HOSTS, STANDARD

CONF = nova.conf.CONF
# As an operator's nova.conf has them; the endpoint is the fixture's.
CREDENTIALS = {
    'placement': {
        'auth_type': 'admin_token',
        'endpoint': 'http://placement.invalid',
        'token': 'admin',
    }
}
PORT = {
    'id': nova_fixtures.NeutronFixture.port_1['id'],
    'type': 'ovs',
    'vnic_type': 'normal',
    'network': {
        'id': nova_fixtures.NeutronFixture.network_1['id'],
        'bridge': 'br-int',
        'subnets': [],
        'meta': {},
    },
}
FILTERS = {
    'filter_scheduler': {
        'available_filters': [
            'nova.scheduler.filters.all_filters',
            'nova_migcheck.scheduler.all_filters',
        ],
        'enabled_filters': 'ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,'
        'ServerGroupAffinityFilter,MigrationTargetFilter',
    }
}
CLOUD = {**STANDARD, 'conf': {**CREDENTIALS, **FILTERS}}


@pytest.fixture
def cloud(cloud: Any) -> Any:
    """The shared one, whose placement can be asked by the credentials of nova.conf."""
    cloud.set('placement', 'endpoint_override', cloud.placement.fixture.endpoint)
    return cloud


def arguments(*hosts: str, **others: Any) -> argparse.Namespace:
    """What the command line gives."""
    return argparse.Namespace(
        **{
            'hosts': list(hosts),
            'to': [],
            'without': [],
            'at_once': None,
            'search': 5.0,
            'exclude_check': [],
            'report_only': False,
            'assume_repaired': [],
            'cell_timeout': 20.0,
            **others,
        }
    )


def plan(*hosts: str, **others: Any) -> Any:
    return drain.make(arguments(*hosts, **others), CONF, lambda _text: None)


def decision(server: str, nova: Optional[Any] = None) -> Any:
    nova = nova or scheduling.Scheduling(20)
    return nova.decide(nova.request(server), {}, lambda _state: False)


def ask(server: str) -> Any:
    """What ``explain`` says about a server."""
    found, moving = fleet.read(), fleet.server(server)
    judged = explain.judge(moving, found, found.hosts, CONF.migcheck, time.time())
    return cli_decision.ask(
        moving, {host.name: not verdict.accepted for host, verdict in judged}, 20
    )


def fail(cloud: Any, host: str, *findings: Finding) -> None:
    """What a host has published becomes this."""
    report = published.read(cloud.stats(host))
    cloud.set_stats(
        host, published.write(dataclasses.replace(report, time=int(time.time()), findings=findings))
    )


def reserve(cloud: Any, host: str, everything: bool) -> None:
    """Reserve all CPUs of a host in placement, or none."""
    provider = next(
        one['uuid']
        for one in cloud.placement.get('/resource_providers').body['resource_providers']
        if one['name'] == host
    )
    path = f'/resource_providers/{provider}/inventories/VCPU'
    inventory = cloud.placement.get(path).body
    reserved = inventory['total'] if everything else 0
    if inventory['reserved'] != reserved:
        assert (
            cloud.placement.put(path, {**inventory, 'reserved': reserved}, version='1.26').status
            == 200
        )


@contextlib.contextmanager
def node(cloud: Any, host: str, **values: Any) -> Iterator[None]:
    """What stands in the database about a host, which its nova-compute writes only when it thinks
    that something has changed.
    """

    def write(**what: Any) -> dict[str, Any]:
        with cloud.cell() as context:
            found = objects.ComputeNode.get_by_host_and_nodename(context, host, host)
            before = {name: getattr(found, name) for name in what}
            for name, value in what.items():
                setattr(found, name, value)
            found.save()
        return before

    before = write(**values)
    try:
        yield
    finally:
        write(**before)


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
        made = objects.InstanceGroup(
            context, name='group', policy=policy, user_id='u', project_id='p', members=list(servers)
        )
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
                found[engine, table] = sorted(
                    repr(
                        {
                            name: value
                            for name, value in row.items()
                            if table != 'services'
                            or name not in ('last_seen_up', 'report_count', 'updated_at')
                        }
                    )
                    for row in rows
                )
    return found


class TestOneServer:
    CLOUD = CLOUD

    def test_the_first_is_where_nova_sends_it(self, cloud: Any) -> None:
        server = cloud.server('compute1')
        decided = decision(server)
        assert (
            decided.ranked == ('compute2', 'compute3', 'compute4', 'compute5') and decided.out == {}
        )
        assert cloud.live_migrate(server).host == 'compute2'

    def test_each_host_that_is_out_names_who_says_so(
        self, cloud: Any, unreachable: Finding
    ) -> None:
        server, other = cloud.boot('compute1'), cloud.boot('compute3')
        with (
            disabled(cloud, 'compute2'),
            group(cloud, 'anti-affinity', server, other),
            node(cloud, 'compute5', hypervisor_version=1000),
        ):
            reserve(cloud, 'compute4', True)
            try:
                decided = decision(server)
                migrated = cloud.live_migrate(server)
            finally:
                reserve(cloud, 'compute4', False)
        assert decided.ranked == ()
        assert {host: by for host, (by, _text) in decided.out.items()} == {
            'compute2': 'ComputeFilter',
            'compute3': 'ServerGroupAntiAffinityFilter',
            'compute4': 'placement',
            'compute5': 'conductor',
        }
        assert migrated.host == 'compute1'

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
        assert targets[:6] == [
            'compute2',
            'compute3',
            'compute4',
            'compute5',
            'compute2',
            'compute3',
        ]
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
        assert (
            'Cannot live_migrate while the instance is in this state'
            in nova.request(server).refusal
        )
        moves = {move.server.uuid: move for move in plan('compute1').moves}
        assert moves[server].verdict == 'cannot' and moves[server].reasons[0].by == 'nova'

    def test_explain_says_it(self, cloud: Any, unreachable: Finding) -> None:
        server = cloud.server('compute1')
        fail(cloud, 'compute3', unreachable)
        with disabled(cloud, 'compute2'):
            said = ask(server)
            assert said.known and said.text == 'Nova would send it to compute4, then compute5.'
            assert said.ranks == {'compute4': 1, 'compute5': 2}
            # Ours says of compute3 itself why not.
            assert {host: (found.subject, found.code) for host, found in said.findings.items()} == {
                'compute2': ('ComputeFilter', 'nova-refuses')
            }
        cloud.set('placement', 'endpoint_override', 'http://127.0.0.1:9')
        said = ask(server)
        assert not said.known and not said.findings and 'placement cannot be asked' in said.text

    def test_a_cloud_with_more_hosts_than_placement_names(self, cloud: Any) -> None:
        server, other = cloud.boot('compute1'), cloud.boot('compute3')
        remark = 'placement names no more than 2 hosts'
        assert not any(remark in note for note in plan('compute1').notes)
        cloud.set('scheduler', 'max_placement_results', '2')
        assert len(decision(server).ranked) < 3 and any(
            remark in note for note in plan('compute1').notes
        )
        assert remark in ask(server).text
        with group(cloud, 'soft-affinity', server, other):
            assert len(decision(server).ranked) == 4 and remark not in ask(server).text

    def test_nothing_is_written(self, cloud: Any) -> None:
        for _count in range(2):
            cloud.boot('compute1')
        with engines() as asked:
            plan('compute1')
        before = contents(asked)
        assert {'instances', 'allocations', 'request_specs', 'migrations'} <= {
            table for _engine, table in before
        }
        assert len(plan('compute1').of('can')) >= 2
        assert contents(asked) == before

    def test_without_credentials_it_says_so(self, cloud: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(
            placement, 'CONF', SimpleNamespace(placement=SimpleNamespace(auth_type=None))
        )
        cloud.server('compute1')
        made = plan('compute1')
        assert not made.of('can') and not made.of('cannot') and made.of('unknown')
        assert '[placement] auth_type is not set' in made.moves[0].reasons[0].text

    def test_placement_that_is_away(self, cloud: Any) -> None:
        cloud.set('placement', 'endpoint_override', 'http://127.0.0.1:9')
        made = plan('compute1') if cloud.server('compute1') else None
        assert {move.verdict for move in made.moves} == {'unknown'}
        assert 'placement cannot be asked' in made.moves[0].reasons[0].text

    def test_a_plan_may_take_longer_than_a_host_may_be_silent(self, cloud: Any) -> None:
        """By the clock, all hosts would be down in the end."""
        server = cloud.server('compute1')
        nova = scheduling.Scheduling(20)
        request = nova.request(server)
        timeutils.set_time_override(timeutils.utcnow() + datetime.timedelta(hours=1))
        try:
            decided = nova.decide(request, {}, lambda _state: False)
        finally:
            timeutils.clear_time_override()
        assert decided.ranked[0] == 'compute2' and decided.out == {}

    def test_neutron_that_is_away(self, cloud: Any, monkeypatch: Any) -> None:
        """Nobody waits for it once more for each server, and who has no port needs none."""
        servers = [cloud.boot('compute1') for _count in range(3)]
        for server in servers[:2]:
            with cloud.cell() as context:
                cache = objects.InstanceInfoCache.get_by_instance_uuid(context, server)
                cache.network_info = model.NetworkInfo.hydrate([PORT])
                cache.save()
        asked = []

        def away(_network: Any, _context: Any, *_args: Any) -> None:
            asked.append(1)
            raise exceptions.ConnectFailure('http://192.0.2.5:9696 refuses')

        with monkeypatch.context() as patched:
            patched.setattr(neutron.API, 'instance_has_extended_resource_request', away)
            moves = {move.server.uuid: move for move in plan('compute1').moves}
        verdicts = [moves[server].verdict for server in servers]
        assert verdicts == ['unknown', 'unknown', 'can'] and len(asked) == 1
        reason = 'neutron cannot be asked: http://192.0.2.5:9696 refuses'
        assert {moves[server].reasons[0].text for server in servers[:2]} == {reason}
        assert {move.verdict for move in plan('compute1').moves} == {'can'}


class TestDrain:
    CLOUD = CLOUD

    def test_where_the_plan_says(self, cloud: Any, unreachable: Finding) -> None:
        """Executed in its order to the end, with Nova itself checking each target."""
        servers = [cloud.boot('compute1', flavor) for flavor in (TINY, SMALL, TINY, SMALL)]
        fail(cloud, 'compute2', unreachable)
        made = plan('compute1')
        planned = [(move.server.uuid, move.target) for move in made.of('can')]
        assert set(servers) <= set(dict(planned)) and len(planned) == len(made.moves)
        assert [cloud.instance(server).flavor.memory_mb for server, _target in planned][:3] == [
            2048,
            2048,
            512,
        ]
        assert 'compute2' not in dict(planned).values() and len(set(dict(planned).values())) > 1
        for server, target in planned:
            assert cloud.live_migrate(server, target).host == target

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
            return next(
                move for move in plan('compute1', **others).moves if move.server.uuid == server
            )

        assert of().target == 'compute2'
        without = of(without=['compute2'])
        assert without.verdict == 'cannot'
        assert {reason.by: reason.hosts for reason in without.reasons} == {
            'endpoint': ('compute3', 'compute4', 'compute5'),
            'plan': ('compute2',),
        }
        assert (
            without.reasons[0].code == 'endpoint-refused'
            and 'connection refused' in without.reasons[0].text
        )
        for assumed in (
            {'exclude_check': ['endpoint']},
            {'report_only': True},
            {'assume_repaired': ['endpoint-refused']},
        ):
            assert of(without=['compute2'], **assumed).target in HOSTS[2:], assumed
        assert (
            of(without=['compute2'], assume_repaired=['compute3:endpoint-refused']).target
            == 'compute3'
        )
        assert (
            of(without=['compute2'], assume_repaired=['compute4:endpoint-refused']).target
            == 'compute4'
        )
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


class _Fleet(NamedTuple):
    """One fleet.

    :ivar free: MiB of memory that are free on each host, all different
    :ivar group: policy of a group with a server on compute3, '' for none
    """

    free: tuple[int, ...]
    disabled: frozenset[str]
    failing: frozenset[str]
    older: frozenset[str]
    full: frozenset[str]
    group: str
    zone: Optional[str]


@st.composite
def _fleets(draw: Any) -> _Fleet:
    def some() -> frozenset[str]:
        return frozenset(draw(st.lists(st.sampled_from(HOSTS[1:]), unique=True, max_size=2)))

    free = draw(st.lists(st.integers(600, 15000), min_size=5, max_size=5, unique=True))
    policy = draw(
        st.sampled_from(
            ['', '', 'anti-affinity', 'affinity', 'soft-anti-affinity', 'soft-affinity']
        )
    )
    return _Fleet(
        tuple(free),
        some(),
        some(),
        some(),
        some(),
        policy,
        draw(st.sampled_from([None, None, 'zone2'])),
    )


class _Computes:
    """The RPC to nova-compute, on the only way to which nothing is refused: what it says is for
    other tests.
    """

    def check_can_live_migrate_destination(self, *_args: Any) -> Any:
        return SimpleNamespace(vifs=[])


class _Scheduler:
    """The RPC to nova-scheduler."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def select_destinations(self, context: Any, spec: Any, uuids: list[str], **kwargs: Any) -> Any:
        try:
            return self._manager.select_destinations(
                context, spec_obj=spec.obj_clone(), instance_uuids=uuids, **kwargs
            )
        except oslo_messaging.ExpectedException as e:
            raise e.exc_info[1] from None


class TestAnyFleet:
    """Nova's own conductor and scheduler decide, with the claim; then it is taken back."""

    CLOUD = CLOUD

    @pytest.mark.timeout(3600)
    def test_the_first_is_always_nova_s(self, cloud: Any, unreachable: Finding) -> None:
        cloud.set('migcheck', 'last_resort_hosts', '0')
        # A host with servers stays in its zone.
        aggregate = cloud.api.post_aggregate(
            {'aggregate': {'name': 'zone2', 'availability_zone': 'zone2'}}
        )['id']
        for host in ('compute3', 'compute4', 'compute5'):
            cloud.api.add_host_to_aggregate(aggregate, host)
        server, other = cloud.boot('compute1'), cloud.boot('compute3')
        seen = collections.Counter()

        @settings(
            max_examples=int(os.environ.get('MIGCHECK_FLEETS', '10')),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(_fleets())
        def check(made: _Fleet) -> None:
            with self._as(cloud, made, server, other, unreachable):
                ranks = ask(server).ranks
                first = next((host for host, rank in ranks.items() if rank == 1), None)
                assert self._really(cloud, server) == first, made
                seen[first] += 1

        try:
            check()
        finally:
            cloud.delete(other)
            for host in ('compute3', 'compute4', 'compute5'):
                cloud.api.post_aggregate_action(aggregate, {'remove_host': {'host': host}})
                reserve(cloud, host, False)
            reserve(cloud, 'compute2', False)
            cloud.api.delete_aggregate(aggregate)
        assert len(seen) > 2, seen

    @contextlib.contextmanager
    def _as(
        self, cloud: Any, made: _Fleet, server: str, other: str, unreachable: Finding
    ) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for host, free in zip(HOSTS, made.free):
                stack.enter_context(
                    node(
                        cloud,
                        host,
                        free_ram_mb=free,
                        hypervisor_version=7002000 - (host in made.older),
                    )
                )
            with cloud.cell() as context:
                spec = objects.RequestSpec.get_by_instance_uuid(context, server)
                spec.availability_zone = made.zone
                spec.save()
            for host in HOSTS[1:]:
                fail(cloud, host, *([unreachable] if host in made.failing else []))
                reserve(cloud, host, host in made.full)
            stack.enter_context(disabled(cloud, *made.disabled))
            if made.group:
                stack.enter_context(group(cloud, made.group, server, other))
            yield

    def _really(self, cloud: Any, server: str) -> Optional[str]:
        with cloud.cell() as context:
            pass
        instance = objects.Instance.get_by_uuid(
            context, server, expected_attrs=list(releases.INSTANCE)
        )
        migration = objects.Migration(
            context,
            instance_uuid=server,
            source_compute=instance.host,
            source_node=instance.node,
            status='accepted',
            migration_type='live-migration',
            uuid=str(uuid.uuid4()),
        )
        migration.create()
        held, _allocations = migrate.replace_allocation_with_migration(context, instance, migration)
        client = report.report_client_singleton()
        task = live_migrate.LiveMigrationTask(
            context,
            instance,
            None,
            None,
            None,
            migration,
            _Computes(),
            servicegroup.API(),
            _Scheduler(cloud.scheduler.manager),
            client,
            objects.RequestSpec.get_by_instance_uuid(context, server),
        )
        try:
            return task._find_destination()[0]
        except exception.NoValidHost:
            return None
        finally:
            client.delete_allocation_for_instance(context, server, force=True)
            migrate.revert_allocation_for_migration(context, held, instance, migration)
            migration.status = 'error'
            migration.save()
            # Nova's scheduler notes a server of a group at the host that it chose, and believes it
            # until that host tells otherwise. Here the server never came.
            cloud.scheduler.manager.host_manager._instance_info.clear()
