# SPDX-License-Identifier: Apache-2.0
"""One decision, several faces: what the filter, ``explain`` and the matrix come to, for every pair of fleets made at random.

Nova's objects, its databases and its HostState are real; what a host has published is written as nova-compute writes it.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import time
from typing import Any, Optional

import hypothesis
from hypothesis import strategies as st
from nova import context as nova_context
from nova import exception, objects
from nova.scheduler import host_manager

from nova_migcheck import scheduler
from nova_migcheck.checks.needs import shorten
from nova_migcheck.cli import explain
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging import matrix
from nova_migcheck.novadb import fleet
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Group, Report
from tests.cli import fleet_files
from tests.facts import facts

NUMBERS = {'cell1': range(1, 6), 'cell2': range(101, 102)}
HOMES = {f'on{number}': (cell, number) for cell, numbers in NUMBERS.items() for number in numbers}

CPUS = st.sampled_from([fleet_files.SKYLAKE, fleet_files.HASWELL, fleet_files.EPYC,
                        dataclasses.replace(fleet_files.SKYLAKE, tsc_hz=2_400_000_000, tsc_scaling=False)])
FINDINGS = st.builds(Finding, st.sampled_from(['address', 'endpoint', 'storage', 'else']),
                     st.sampled_from([Outcome.WARNING, Outcome.FAILURE, Outcome.UNKNOWN]), st.sampled_from(['one', 'other']),
                     st.just('what'), scope=st.sampled_from(['', '', 'volumes', 'local-disk', 'encryption']))
STORAGE = st.sampled_from([
    {}, {'images': 'path', 'expect': 'auto', 'path': '/i', 'mount': '/', 'type': 'ext4', 'shared': False, 'free_bytes': 2},
    {'images': 'path', 'expect': 'auto', 'path': '/i', 'mount': '/i', 'type': 'nfs4', 'family': 'nfs', 'shared': True, 'source': 's:/e',
     'servers': ['s'], 'export': '/e', 'free_bytes': 1}])
NETWORKS = st.sampled_from([{}, {'networks': ['10.77.0.0/16'], 'mtu': 9000}, {'networks': ['10.78.0.0/16'], 'mtu': 1500}])
# Seconds since its time; the last ones are not believed, and one is of a clock that is ahead.
AGES = st.sampled_from([20, 20, 20, 20, 40_000, -40_000])
POLICY = st.fixed_dictionaries({f'on_{what}': st.sampled_from(['reject', 'warn', 'ignore'])
                                for what in ('failure', 'unknown', 'missing', 'stale')})


@st.composite
def said(draw: Any, number: int) -> dict[str, str]:
    """What a host has published, for the most part a report."""
    odd = draw(st.sampled_from(['', '', '', '', '', 'nothing', 'newer', 'rubbish']))
    if odd == 'nothing':
        return {}
    group = draw(st.none() | st.builds(Group, st.none() | CPUS, st.just((shorten(fleet_files.uuid_of(f'on{number}')),))))
    texts = published.write(Report(
        int(time.time()) - draw(AGES), tuple(draw(st.lists(FINDINGS, max_size=2))), draw(st.none() | CPUS), None,
        (group,) if group else (),
        **facts(migration={'host': f'compute{number}', **draw(NETWORKS)}, storage=draw(STORAGE))))
    if odd == 'newer':
        return {key: '9' + text[1:] for key, text in texts.items()}
    return {**texts, published.MAIN: texts[published.MAIN][:60]} if odd == 'rubbish' else texts


@dataclasses.dataclass(frozen=True)
class Server:
    """What of a server plays a part. ``arrived``: seconds since it came by a migration, None when it was started there."""

    from_volume: bool
    arrived: Optional[int]


SERVERS = st.builds(Server, st.booleans(), st.sampled_from([None, None, 5, 4000]))
FLEETS = st.fixed_dictionaries({number: said(number) for numbers in NUMBERS.values() for number in numbers})


class Cloud:
    """The databases, whose rows are changed from one example to the next."""

    def __init__(self, directory: str) -> None:
        self.cells = fleet_files.make(directory, NUMBERS, HOMES)
        self.admin = nova_context.get_admin_context()
        self.conf = fleet.CONF
        #: verdict -> how many pairs had it
        self.seen: collections.Counter[str] = collections.Counter()
        flavor = objects.Flavor(name='f', flavorid='1', memory_mb=1, vcpus=1, root_gb=0, ephemeral_gb=0, swap=0, rxtx_factor=1.0,
                                extra_specs={}, disabled=False, is_public=True)
        self.specs = {}
        for name in HOMES:
            self.specs[name] = objects.RequestSpec(
                self.admin, instance_uuid=fleet_files.uuid_of(name), flavor=flavor, image=None, numa_topology=None, pci_requests=None,
                num_instances=1, project_id='project', user_id='user', is_bfv=False)
            self.specs[name].create()

    def check(self, policies: dict[str, str], texts: dict[int, dict[str, str]], servers: dict[str, Server]) -> None:
        """Every server, every host of its cell: the three say the same."""
        for option, policy in policies.items():
            self.conf.set_override(option, {'': policy}, group='migcheck')
        for cell in NUMBERS:
            with nova_context.target_cell(self.admin, self.cells[cell]) as context:
                for node in objects.ComputeNodeList.get_all(context):
                    node.stats = {'uptime': '1', **texts[int(node.host[7:])]}
                    node.save()
        found = fleet.read()
        self._built = matrix.build(found.hosts, Policies.from_conf(self.conf.migcheck), self.conf.migcheck, time.time(), servers=True)
        assert len(found.hosts) == sum(map(len, NUMBERS.values())) and not found.unreachable
        for name, (cell, number) in HOMES.items():
            with nova_context.target_cell(self.admin, self.cells[cell]) as context:
                self._compare(context, cell, f'compute{number}', name, servers[name], found)

    def _compare(self, context: Any, cell: str, source: str, name: str, kind: Server, found: fleet.Fleet) -> None:
        if self.specs[name].is_bfv != kind.from_volume:
            self.specs[name].is_bfv = kind.from_volume
            self.specs[name].save()
        moved = self._migration(context, name, 'completed', 'elsewhere', source, kind.arrived) if kind.arrived is not None else None
        try:
            server = fleet.server(fleet_files.uuid_of(name))
            assert server.host == source and bool(server.arrived) is (kind.arrived is not None)
            kept = self._filter(context, cell, name, source)
            explained = {host.name: verdict for host, verdict in explain.judge(
                server, found, [host for host in found.hosts if host.cell == cell], self.conf.migcheck, time.time())}
        finally:
            if moved is not None:
                moved.status = 'error'
                moved.save()
        cells = self._matrix(server) if kind.arrived is None else {}
        for host, verdict in explained.items():
            if host != source:
                assert verdict.accepted == (host in kept), (source, host, verdict)
                assert cells.get(host, verdict.accepted) == verdict.accepted, (source, host, verdict)
                self.seen[str(matrix.state(verdict))] += 1
        assert len(explained) == len(NUMBERS[cell])

    def _filter(self, context: Any, cell: str, name: str, source: str) -> set[str]:
        """Names of the hosts that the scheduler's filter keeps when a live migration is asked for."""
        asked = self._migration(context, name, 'accepted', source)
        try:
            spec = objects.RequestSpec.get_by_instance_uuid(self.admin, fleet_files.uuid_of(name))
            spec.ignore_hosts = [source]
            spec.requested_destination = objects.Destination(cell=self.cells[cell])
            states = []
            for node in objects.ComputeNodeList.get_all(context):
                if node.host != source:
                    states.append(host_manager.HostState(node.host, node.hypervisor_hostname, self.cells[cell].uuid))
                    states[-1].stats = node.stats  # as HostState.update() takes it over
            try:
                return {state.host for state in scheduler.MigrationTargetFilter().filter_all(states, spec)}
            except exception.NoValidHost:
                return set()
        finally:
            asked.status = 'error'
            asked.save()

    def _migration(self, context: Any, name: str, status: str, source: str, to: Optional[str] = None, age: int = 0) -> Any:
        made = objects.Migration(context, instance_uuid=fleet_files.uuid_of(name), source_compute=source, dest_compute=to, status=status,
                                 migration_type='live-migration')
        made.create()
        if age:
            made.updated_at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=age)
            made.save()
        return made

    def _matrix(self, server: fleet.Server) -> dict[str, bool]:
        """host -> whether this server is accepted there. The matrix means no server: what concerns some is a warning with its scope."""
        policies, made = Policies.from_conf(self.conf.migcheck), self._built
        rows = [row for row in made.rows if made.hosts[row.host].name == server.host]
        row = next((row for row in rows if shorten(server.uuid) in row.who), rows[0])
        verdicts = {host.name: made.verdict(row, number) for number, host in enumerate(made.hosts) if host.cell == server.cell}
        return {name: verdict.accepted and not any(f.scope in server.needs and policies.of(f) == 'reject' for f in verdict.warnings)
                for name, verdict in verdicts.items()}


def check(directory: str, examples: int) -> None:
    """:raises AssertionError: when two faces differ"""
    cloud = Cloud(directory)

    # Not made smaller when one fails: that would take minutes.
    @hypothesis.settings(max_examples=examples, deadline=None, database=None, derandomize=True, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(POLICY, FLEETS, st.fixed_dictionaries(dict.fromkeys(HOMES, SERVERS)))
    def on_each(policies: dict[str, str], texts: dict[int, dict[str, str]], servers: dict[str, Server]) -> None:
        cloud.check(policies, texts, servers)

    on_each()
    # Not all of one kind, or this would show nothing.
    assert min(cloud.seen[word] for word in ('accepted', 'warned', 'rejected')) > 10, cloud.seen
