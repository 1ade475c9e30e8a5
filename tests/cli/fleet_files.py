# SPDX-License-Identifier: Apache-2.0
"""Nova's databases as files, written by Nova's own code: ``python -m tests.cli.fleet_files DIRECTORY HOSTS``.

For commands that run as processes of their own. There are two cells with hosts; with an even share of the hosts in each. What a host
publishes is written as nova-compute writes it. Every tenth host has something wrong, see :func:`report_of`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import sqlite3
import sys
import time
import uuid
from typing import Any, Mapping

from nova_migcheck.cpu import Cpu
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import published
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Group, Report
from tests.facts import facts

# A Westmere, and a little more.
_EVERYWHERE = ('aes apic avx avx2 bmi1 clflush cmov cx16 cx8 de fma fpu fxsr lahf_lm lm mca mce mmx msr mtrr nx pae pat pclmuldq pge pni '
               'popcnt pse pse36 sep sse sse2 sse4.1 sse4.2 ssse3 syscall tsc vme x2apic')


def _features(more: str) -> frozenset[str]:
    return frozenset(f'{_EVERYWHERE} {more}'.split())


SKYLAKE = Cpu('x86_64', 'kvm', 'Intel', 'Skylake-Server-noTSX-IBRS', _features(
    'avx512bw avx512cd avx512dq avx512f avx512vl bmi2 xsave'))
HASWELL = Cpu('x86_64', 'kvm', 'Intel', 'Haswell-noTSX', _features('bmi2 xsave'))
EPYC = Cpu('x86_64', 'kvm', 'AMD', 'EPYC', _features('sse4a svm'))

#: Number of a host, modulo ten -> what is the matter with it; the others are well and have a Skylake.
HASWELL_HOST, EPYC_HOST, FAILING, WARNING, MISSING, STALE = 2, 5, 3, 6, 8, 9

FAILURE = Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8780', 'connection refused',
                  'keystone catalog: placement, internal, RegionOne', 'start placement, or correct the catalog')
HOSTILE = Finding('address', Outcome.WARNING, '</script><img src=x onerror=alert(1)>', 'a name that \x1b[31mtries\x1b[0m things',
                  '/etc/hosts:12')


def uuid_of(name: str) -> str:
    """The UUID of the server of this name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


#: Servers. The first two are on compute1; the second of them has the CPU of a Haswell although its host is a Skylake.
UUIDS = {name: uuid_of(name) for name in ('web1', 'old1', 'cell2-web')}


def report_of(number: int, now: float) -> dict[str, str]:
    """What the host of this number has published."""
    kind = number % 10
    if kind == MISSING:
        return {}
    cpu = {HASWELL_HOST: HASWELL, EPYC_HOST: EPYC}.get(kind, SKYLAKE)
    findings = {FAILING: (FAILURE,), WARNING: (HOSTILE,)}.get(kind, ())
    migration = {'host': f'compute{number}', 'inbound': f'10.77.0.{number % 250}', 'networks': ['10.77.0.0/16'], 'mtu': 9000}
    groups = (Group(HASWELL, (UUIDS['old1'].replace('-', '')[:12],)),) if number == 1 else ()
    past = () if kind != FAILING else (
        Past(int(now) - 900, 'in', 'c0ffeec0ffee', 'compute1', 'completed', 3700, 63, 2 ** 28, 'mig0'),
        Past(int(now) - 600, 'out', 'c0ffeec0ffee', 'compute1', 'failed', 2400, text='\x1b[31mNo route to host'))
    rehearsals = (
        ()
        if number != 1
        else (
            Past(
                int(now) - 500,
                'out',
                'c0ffeec0ffee',
                'compute2',
                'completed',
                812,
                7,
                2**26,
                'mig0',
                rate=117 << 20,
                rehearsal=True,
            ),
            Past(
                int(now) - 400,
                'out',
                'c0ffeec0ffee',
                'compute3',
                'failed',
                9,
                text='No worthy mechs',
                rehearsal=True,
            ),
        )
    )
    return published.write(Report(
        int(now) - (40000 if kind == STALE else 20), findings, cpu, None, groups,
        **facts(migration=migration), migrations=past, rehearsals=rehearsals))


def main(directory: str, count: int) -> None:
    """``count`` hosts. With a few there is one more in the second cell; many are shared between the cells."""
    numbers = {'cell1': range(1, (count if count < 10 else count // 2) + 1),
               'cell2': range(count // 2 + 1, count + 1) if count >= 10 else range(101, 102)}
    make(directory, numbers, {'web1': ('cell1', 1), 'old1': ('cell1', 1), 'cell2-web': ('cell2', numbers['cell2'][-1])})


def make(directory: str, numbers: Mapping[str, range], homes: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """The databases and the configuration that names them.

    :param numbers: name of a cell -> numbers of its hosts
    :param homes: name of a server -> its cell, the number of its host
    :returns: name of a cell -> its CellMapping
    """
    from nova import context, objects, rpc
    from nova.db import migration

    from nova_migcheck.novadb import fleet

    files = {name: os.path.join(directory, f'{name}.sqlite') for name in ('api', 'cell0', 'cell1', 'cell2')}
    path = os.path.join(directory, 'nova.conf')
    with open(path, 'w', encoding='utf-8') as file:
        file.write('[DEFAULT]\ntransport_url = fake:/\nservice_down_time = 3600\n[migcheck]\nstale_after = 3600\n'
                   f'[api_database]\nconnection = sqlite:///{files["api"]}\nsqlite_synchronous = false\n'
                   f'[database]\nconnection = sqlite:///{files["cell0"]}\nsqlite_synchronous = false\n')
    rpc.init(fleet.configure([path]))
    migration.db_sync(database='api')
    admin = context.get_admin_context()
    migration.db_sync(database='main')
    for name in ('cell1', 'cell2'):
        shutil.copy(files['cell0'], files[name])
    cells = {}
    for name in ('cell0', 'cell1', 'cell2'):
        cells[name] = objects.CellMapping(
            admin, uuid=objects.CellMapping.CELL0_UUID if name == 'cell0' else str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), name=name,
            transport_url='none:///', database_connection=f'sqlite:///{files[name]}')
        cells[name].create()
    for cell, hosts in numbers.items():
        with context.target_cell(admin, cells[cell]) as cell_context:
            _host(cell_context, hosts[0])
            _more_hosts(files[cell], hosts)
            for server, (home, number) in homes.items():
                if home == cell:
                    _server(admin, cell_context, cells[cell], server, number)
    return cells


def _host(context: Any, number: int) -> None:
    from nova import objects
    name = f'compute{number}'
    service = objects.Service(context, host=name, binary='nova-compute', topic='compute')
    service.create()
    service.last_seen_up = datetime.datetime.now(datetime.timezone.utc)
    service.save()
    objects.ComputeNode(
        context, uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), host=name, service_id=service.id, hypervisor_hostname=name,
        hypervisor_type='QEMU', hypervisor_version=7002000, vcpus=8, vcpus_used=0, memory_mb=1, memory_mb_used=0, local_gb=1,
        local_gb_used=0, cpu_info='', mapped=1, stats={'uptime': '1', **report_of(number, time.time())}).create()


def _more_hosts(path: str, numbers: range) -> None:
    """Copy the rows of the first host, which Nova wrote: a thousand by Nova's objects would take half a minute."""
    now = time.time()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.row_factory = sqlite3.Row
        service, node = (dict(connection.execute(f'SELECT * FROM {name}').fetchone()) for name in ('services', 'compute_nodes'))
        for number in numbers[1:]:
            name, identity = f'compute{number}', service['id'] + number
            seen = service['last_seen_up'] if number % 10 != STALE else '2020-01-01 00:00:00.000000'
            _insert(connection, 'services', {**service, 'id': identity, 'uuid': str(uuid.uuid4()), 'host': name, 'last_seen_up': seen,
                                             'disabled': number % 10 == 7})
            _insert(connection, 'compute_nodes', {
                **node, 'id': identity, 'uuid': str(uuid.uuid4()), 'host': name, 'hypervisor_hostname': name, 'service_id': identity,
                'stats': json.dumps({'uptime': '1', **report_of(number, now)})})


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    connection.execute(f'INSERT INTO {table} ({",".join(row)}) VALUES ({",".join("?" * len(row))})', tuple(row.values()))


def _server(admin: Any, context: Any, cell: Any, name: str, number: int) -> None:
    from nova import objects
    node = objects.ComputeNode.get_first_node_by_host_for_old_compat(context, f'compute{number}')
    objects.InstanceMapping(admin, instance_uuid=uuid_of(name), project_id='project', user_id='user', cell_mapping=cell).create()
    flavor = objects.Flavor(name='f', flavorid='1', memory_mb=1, vcpus=1, root_gb=0, ephemeral_gb=0, swap=0, rxtx_factor=1.0,
                            extra_specs={})
    objects.Instance(context, uuid=uuid_of(name), display_name=name, host=node.host, node=node.hypervisor_hostname, compute_id=node.id,
                     project_id='project', user_id='user', vm_state='active', flavor=flavor, old_flavor=None, new_flavor=None).create()


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
