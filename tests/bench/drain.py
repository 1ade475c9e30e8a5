# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck drain`` as a process: a host of 100 servers among 1,000 hosts, and ten of them.

The databases are SQLite's, written by Nova. placement and neutron are stand-ins that answer at
once.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from nova import context as nova_context
from nova import objects
from nova.network import model

from tests.bench.measure import Row
from tests.cli import fleet_files

_HOSTS, _SERVERS, _ELSEWHERE = 1000, 100, 20
# Well, and with the commonest CPU: see fleet_files.
_DRAINED = range(1, 100, 10)
_MEMORY, _CPUS, _DISK = 2**18, 64, 4000
# MiB, vCPUs, GiB; the last one fits nowhere.
_FLAVORS = ((1024, 1, 10), (2048, 2, 20), (4096, 2, 20), (8192, 4, 40), (16384, 8, 80),
            (2**19, 8, 80))
_PROJECTS = 40


class Took(NamedTuple):
    """What a command took.

    :ivar seconds: by the clock on the wall
    :ivar cpu: seconds
    :ivar memory: MiB at most
    """

    seconds: float
    cpu: float
    memory: float
    plan: dict[str, Any]


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory, _services(directory) as url:
        _fleet(directory, url)
        for count, limit in ((1, 10), (10, 60)):
            took = _drain(directory, [f'compute{number}' for number in _DRAINED[:count]])
            servers = count * _SERVERS
            assert (took.plan['can'], took.plan['cannot']) == (servers - count, count)
            plural = 's' if count > 1 else ''
            what = f'drain, {servers} servers of {count} host{plural} among {_HOSTS}'
            yield Row(what, took.seconds, 's', limit, f'wall clock; {took.cpu:.2f} s of CPU')
            yield Row(f'{what}: memory', took.memory, 'MiB', 1024)


def _drain(directory: str, hosts: Sequence[str]) -> Took:
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'nova_migcheck.cli.main', 'drain', *hosts,
             f'--config-file={directory}/nova.conf', '-f', 'json'], stdout=said)
        _pid, status, used = os.wait4(process.pid, 0)
        took = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return Took(took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024,
                    json.loads(said.read()))


# -- the fleet

def _fleet(directory: str, url: str) -> None:
    cells = fleet_files.make(directory, {'cell1': range(1, _HOSTS + 1)},
                             {'model': ('cell1', 1)})
    with open(f'{directory}/nova.conf', 'a', encoding='utf-8') as file:
        for group in ('placement', 'neutron'):
            file.write(f'[{group}]\nauth_type = admin_token\nendpoint = {url}\ntoken = t\n'
                       f'endpoint_override = {url}\n')
        file.write('[filter_scheduler]\n'
                   'available_filters = nova.scheduler.filters.all_filters\n'
                   'available_filters = nova_migcheck.scheduler.all_filters\n'
                   'enabled_filters = ComputeFilter,ComputeCapabilitiesFilter,'
                   'ImagePropertiesFilter,ServerGroupAntiAffinityFilter,'
                   'ServerGroupAffinityFilter,MigrationTargetFilter\n')
    _model(cells['cell1'])
    chance = random.Random(1)
    with contextlib.closing(sqlite3.connect(f'{directory}/cell1.sqlite')) as cell, cell, \
            contextlib.closing(sqlite3.connect(f'{directory}/api.sqlite')) as api, api:
        _sizes(cell, chance)
        copies = _Copies(cell, api)
        for number in range(1, _HOSTS + 1):
            if number not in _DRAINED:
                for _count in range(_ELSEWHERE):
                    copies.elsewhere(number)
                continue
            for count in range(_SERVERS):
                # One in a hundred fits nowhere.
                flavor = _FLAVORS[-1] if count == 0 else _FLAVORS[chance.randrange(5)]
                copies.server(number, count, flavor)


def _sizes(cell: sqlite3.Connection, chance: random.Random) -> None:
    """Let the hosts be of a size, and differently full."""
    for (identity,) in cell.execute('SELECT id FROM compute_nodes').fetchall():
        used = chance.randrange(_MEMORY // 4)
        cell.execute(
            'UPDATE compute_nodes SET memory_mb=?, memory_mb_used=?, free_ram_mb=?, vcpus=?,'
            ' vcpus_used=?, local_gb=?, free_disk_gb=?, disk_available_least=?,'
            ' cpu_allocation_ratio=4, supported_instances=? WHERE id=?',
            (_MEMORY, used, _MEMORY - used, _CPUS, used // 2048, _DISK, _DISK, _DISK,
             '[["x86_64", "kvm", "hvm"]]', identity))


def _model(cell: Any) -> None:
    """Let Nova write the rest of the server of whose rows the others are copies."""
    admin = nova_context.get_admin_context()
    name = fleet_files.uuid_of('model')
    image = objects.ImageMeta(id=name, properties=objects.ImageMetaProps())
    with nova_context.target_cell(admin, cell) as context:
        flavor = objects.Instance.get_by_uuid(context, name, expected_attrs=['flavor']).flavor
    devices = objects.InstancePCIRequests(requests=[])
    objects.RequestSpec(admin, instance_uuid=name, flavor=flavor, image=image, num_instances=1,
                        project_id='project', user_id='user', numa_topology=None, is_bfv=False,
                        pci_requests=devices, availability_zone=None, scheduler_hints={},
                        instance_group=None, ignore_hosts=None, force_hosts=None, retry=None,
                        force_nodes=None, limits=objects.SchedulerLimits(),
                        requested_destination=None, security_groups=objects.SecurityGroupList(
                            objects=[])).create()
    with nova_context.target_cell(admin, cell) as context:
        cache = objects.InstanceInfoCache.get_by_instance_uuid(context, name)
        cache.network_info = model.NetworkInfo.hydrate(
            [{'id': name, 'vnic_type': 'normal', 'type': 'ovs', 'network': {
                'id': name, 'bridge': 'br-int', 'label': 'net', 'subnets': [], 'meta': {}}}])
        cache.save()


class _Copies:
    """Writes servers as copies of the one that Nova has written."""

    def __init__(self, cell: sqlite3.Connection, api: sqlite3.Connection) -> None:
        self._cell, self._api = cell, api
        self._model = fleet_files.uuid_of('model')
        self._rows: dict[str, dict[str, Any]] = {}
        for connection, table, column in (
                (cell, 'instances', 'uuid'), (cell, 'instance_extra', 'instance_uuid'),
                (cell, 'instance_info_caches', 'instance_uuid'),
                (api, 'instance_mappings', 'instance_uuid'),
                (api, 'request_specs', 'instance_uuid')):
            connection.row_factory = sqlite3.Row
            row = dict(connection.execute(f'SELECT * FROM {table} WHERE {column} = ?',
                                          (self._model,)).fetchone())
            del row['id']
            self._rows[table] = row
            connection.execute(f'DELETE FROM {table} WHERE {column} = ?', (self._model,))

    def elsewhere(self, host: int) -> None:
        """Write no more of a server than what the scheduler knows of it."""
        fleet_files._insert(self._cell, 'instances', {
            **self._rows['instances'], 'uuid': str(uuid.uuid4()), 'host': f'compute{host}',
            'node': f'compute{host}'})

    def server(self, host: int, number: int, flavor: tuple[int, int, int]) -> None:
        """Write a server."""
        memory, vcpus, disk = flavor
        project, name = f'project{number % _PROJECTS}', f'server{host}-{number}'
        told = {'instance_uuid': fleet_files.uuid_of(name)}

        def sized(text: str) -> str:
            for option, value in (('memory_mb', memory), ('vcpus', vcpus), ('root_gb', disk)):
                text = re.sub(rf'"{option}": \d+', f'"{option}": {value}', text)
            return text.replace(self._model, told['instance_uuid']).replace(
                '"project"', f'"{project}"')

        fleet_files._insert(self._cell, 'instances', {
            **self._rows['instances'], 'uuid': told['instance_uuid'], 'display_name': name,
            'host': f'compute{host}', 'node': f'compute{host}', 'project_id': project,
            'memory_mb': memory, 'vcpus': vcpus, 'root_gb': disk,
            'launched_at': '2026-01-01 00:00:00.000000', 'power_state': 1})
        extra, spec = self._rows['instance_extra'], self._rows['request_specs']
        fleet_files._insert(self._cell, 'instance_extra', {
            **extra, **told, 'flavor': sized(extra['flavor'])})
        cache = self._rows['instance_info_caches']
        fleet_files._insert(self._cell, 'instance_info_caches', {**cache, **told})
        fleet_files._insert(self._api, 'instance_mappings', {
            **self._rows['instance_mappings'], **told, 'project_id': project})
        fleet_files._insert(self._api, 'request_specs', {
            **spec, **told, 'spec': sized(spec['spec'])})


# -- the services

@contextlib.contextmanager
def _services(directory: str) -> Iterator[str]:
    """Yield the URL at which placement and neutron answer."""
    @functools.cache
    def candidates(resources: str) -> Mapping[str, Any]:
        return _candidates(directory, resources)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        # Headers and body in one packet: else the second waits for the first to be acknowledged.
        wbufsize = -1

        def do_GET(self) -> None:
            path, _, query = self.path.partition('?')
            asked = urllib.parse.parse_qs(query)
            if path == '/allocation_candidates':
                body = candidates(asked['resources'][0])
            elif path.endswith('/extensions'):
                body = {'extensions': []}
            else:
                port = {'id': path, 'binding:vnic_type': 'normal'}
                body = {'ports': [port]} if 'device_id' in asked else {'port': port}
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}'
        server.shutdown()


def _candidates(directory: str, resources: str) -> Mapping[str, Any]:
    """Answer as placement does, for hosts that all have room."""
    wanted = {name: int(amount) for name, amount in
              (part.split(':') for part in resources.split(','))}
    have = {'VCPU': _CPUS * 4, 'MEMORY_MB': _MEMORY, 'DISK_GB': _DISK}
    if any(amount > have[name] for name, amount in wanted.items()):
        return {'allocation_requests': [], 'provider_summaries': {}}
    with contextlib.closing(sqlite3.connect(f'{directory}/cell1.sqlite')) as cell:
        nodes = cell.execute('SELECT uuid, memory_mb_used FROM compute_nodes').fetchall()
    traits = [f'HW_CPU_X86_TRAIT{number}' for number in range(80)]
    return {
        'allocation_requests': [{'allocations': {node: {'resources': wanted}},
                                 'mappings': {'': [node]}} for node, _used in nodes],
        'provider_summaries': {node: {
            'resources': {name: {'capacity': amount, 'used': used * amount // _MEMORY}
                          for name, amount in have.items()},
            'traits': traits, 'parent_provider_uuid': None, 'root_provider_uuid': node}
            for node, used in nodes}}
