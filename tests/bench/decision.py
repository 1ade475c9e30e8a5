# SPDX-License-Identifier: Apache-2.0
"""The destination hook against the whole of Nova's own check of a destination, in the Nova of the functional tests."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import os
import socket
import statistics
import time
from typing import Any, Iterator
from unittest import mock

from tests.bench.measure import Row, in_turns, tell
from tests.functional import per_host
from tests.functional.cloud import Cloud
from tests.functional.hypervisor import Cpu

# isort: split
from nova import objects
from nova.objects import base

from nova_migcheck.compute.destination import Destination
from nova_migcheck.compute.source import Source

MIGRATIONS = 12
VOLUME = '0a6de5b2-0000-4000-8000-00000000000a'
PORTALS = 4
_CHECKS = {'checks': 'cpu,attachments,files,scripted,scripted_path',
           'recheck_after': '3600'}
_SERIAL = f"""<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/sdz'/>
<target dev='vdz' bus='virtio'/><serial>{VOLUME}</serial></disk>"""


def rows() -> Iterator[Row]:
    """nova-compute is asked by the conductor, asks the database and the source's nova-compute, and answers. libvirt is a stand-in that
    answers at once, and so are the bus and the database: a real cloud takes longer for all of it, and the hook's part is smaller."""
    seconds: collections.defaultdict[str, list[float]] = collections.defaultdict(list)

    def timed(name: str, function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name].append(time.perf_counter() - begun)
        return wrapper

    begin = Source.begin

    def begun_and_decided(*args: Any) -> Any:
        """What runs between the two is Nova's own."""
        begun = time.perf_counter()
        decide = begin(*args)
        until_then = time.perf_counter() - begun
        assert decide is not None

        def decided() -> None:
            begun = time.perf_counter()
            decide()
            seconds['source'].append(until_then + time.perf_counter() - begun)
        return decided

    haswell = Cpu('Haswell')
    with (
        open(os.devnull, 'w') as nowhere,
        contextlib.redirect_stderr(nowhere),
        Cloud({'compute1': haswell, 'compute2': haswell}, conf={'migcheck': _CHECKS}) as cloud,
        mock.patch.multiple(
            Destination,
            decide=timed('destination', Destination.decide),
            tell_source=timed('destination', Destination.tell_source),
        ),
        mock.patch.object(Source, 'begin', begun_and_decided),
    ):
        for name in ('compute1', 'compute2'):
            manager = cloud.hosts[name].manager
            manager.check_can_live_migrate_destination = timed('nova', manager.check_can_live_migrate_destination)
        server = cloud.boot('compute1')
        for _ in range(MIGRATIONS):
            assert cloud.live_migrate(server).status == 'completed'
        volumes = list(_volumes(cloud, server))
    assert len(seconds['nova']) == MIGRATIONS == len(seconds['source'])
    ours = [sum(pair) for pair in zip(seconds['destination'][::2], seconds['destination'][1::2])]
    nova = [whole - mine - source for whole, mine, source in zip(seconds['nova'], ours, seconds['source'])]
    ratio = statistics.median(mine / its for mine, its in zip(ours, nova))
    yield Row("the destination hook adds, with a fresh report, to Nova's own check of the destination", ratio, '', 0.25,
              f'{statistics.median(ours) * 1e3:.2f} ms to {statistics.median(nova) * 1e3:.2f} ms, libvirt being a stand-in that answers '
              'at once')
    yield from volumes


def _volumes(cloud: Any, server: str) -> Iterator[Row]:
    """A decision about a server with a volume whose portals answer, and one without it."""
    here = cloud.hosts[cloud.host_of(server)]
    there = next(host for host in cloud.hosts.values() if host is not here)
    kind = type(here.hypervisor.lookupByUUIDString(server))
    real = kind.XMLDesc

    def decide() -> None:
        with cloud.cell() as context:
            source = base.obj_to_primitive(
                objects.ComputeNode.get_by_host_and_nodename(context, here.name, here.name))
            with per_host.running_for(there):
                there.driver._migcheck.destination.decide(context, cloud.instance(server), source)

    def without() -> None:
        none = objects.BlockDeviceMappingList(objects=[])
        with mock.patch.object(
                objects.BlockDeviceMappingList, 'get_by_instance_uuid', lambda *_: none):
            decide()

    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(socket.create_server(('127.0.0.1', 0), backlog=200))
                 .getsockname()[1] for _ in range(PORTALS)]
        stack.enter_context(mock.patch.object(
            kind, 'XMLDesc', lambda domain, flags: real(domain, flags).replace(
                '</devices>', f'{_SERIAL}</devices>', 1)))
        info = json.dumps({'driver_volume_type': 'rbd', 'data': {
            'hosts': ['127.0.0.1'] * PORTALS, 'ports': [str(port) for port in ports]}})
        with cloud.cell() as context:
            objects.BlockDeviceMapping(
                context, instance_uuid=server, source_type='volume', destination_type='volume',
                volume_id=VOLUME, connection_info=info, device_name='/dev/vdz').create()
        here.hypervisor.tell()
        here.driver._migcheck.reporter.disks_changed(server)
        cloud.check()
        needs = here.driver._migcheck.reporter.report.needs.of(server)
        assert 'attachments' in needs, needs
        for seconds, words, limit in (
                (3600, 'with a fresh report', None), (0, 'beside a round', 30.0)):
            there.set('migcheck', 'recheck_after', str(seconds))
            decide()
            plain, looked = in_turns(without, decide, times=15, clock=time.perf_counter)
            adds = (statistics.median(looked) - statistics.median(plain)) * 1e3
            yield Row(f'the destination hook adds for a volume with {PORTALS} portals that answer, '
                      f'{words}', adds, 'ms', limit, f'to {statistics.median(plain) * 1e3:.0f} ms')


if __name__ == '__main__':
    tell(rows())
