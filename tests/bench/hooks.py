# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""The hooks of nova-compute against Nova's own checks in the same calls: of the driver, on a real libvirtd with a real guest."""

from __future__ import annotations

import os
import statistics
import time
from typing import Any, Callable, Iterator, Optional
from unittest import mock

os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')

from nova import monkey_patch

monkey_patch.patch()

import fixtures
import nova.conf
from nova import context as nova_context
from nova import objects
from nova.network import model
from nova.virt import fake
from nova.virt.libvirt import driver
from oslo_serialization import jsonutils

from nova_migcheck.compute.driver import LibvirtDriver
from nova_migcheck.compute.lifecycle import Lifecycle
from tests.bench.measure import Row, in_turns, tell
from tests.lab.libvirtd import Libvirtd

CONF = nova.conf.CONF
UUID = '2f0f1c4e-0000-4000-8000-000000000001'
GUEST = f"""
<domain type='qemu'>
  <name>instance-00000001</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <cpu mode='host-model'/>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/></devices>
</domain>
"""


def _instance(path: str) -> objects.Instance:
    os.mkdir(os.path.join(path, UUID))
    return objects.Instance(
        id=1, uuid=UUID, host='compute1', node='compute1', vcpu_model=None, numa_topology=None, config_drive='', image_ref='',
        flavor=objects.Flavor(extra_specs={}, vcpus=1, memory_mb=64, root_gb=0, ephemeral_gb=0, swap=0), system_metadata={},
        display_name='one', info_cache=objects.InstanceInfoCache(network_info=model.NetworkInfo()), project_id='p', user_id='u')


def rows() -> Iterator[Row]:
    objects.register_all()
    with fixtures.TempDir() as place, Libvirtd('compute1') as libvirtd, mock.patch.object(
            driver.LibvirtDriver, '_set_host_enabled', lambda *_, **__: None):  # would write into a database
        CONF([], project='nova', default_config_files=[])
        for name, value, group in (('connection_uri', libvirtd.uri, 'libvirt'), ('virt_type', 'qemu', 'libvirt'),
                                   ('instances_path', place.path, None), ('host', 'compute1', None)):
            CONF.set_override(name, value, group)
        libvirtd.connect().createXML(GUEST)
        instance, context = _instance(place.path), nova_context.get_admin_context()
        ours, nova = LibvirtDriver(fake.FakeVirtAPI()), driver.LibvirtDriver(fake.FakeVirtAPI())
        for one in (ours, nova):
            one._host.initialize()
            # What cannot be had without a neutron: which extensions it has, which Nova asks once in a while.
            one._network_api = mock.Mock(has_port_binding_extension=lambda _: False)
        # A host as it should be: what this machine has no right answer to (its name, its clock) is not asked. That no path leads to the
        # target is told, and not acted upon.
        CONF.set_override('checks', ['cpu', 'storage', 'transport'], 'migcheck')
        CONF.set_override('mode', 'report', 'migcheck')
        CONF.set_override('recheck_after', 3600, 'migcheck')
        ours._migcheck = Lifecycle(CONF, ours._host)
        report = ours._migcheck.reporter.fresh(0)
        assert report and report.cpu, 'the report has no CPU'
        yield from _destination(ours, nova, context, instance, ours._migcheck.reporter.texts())
        yield from _source(ours, nova, context, instance, ours._migcheck.reporter.texts())


def _destination(ours: Any, nova: Any, context: Any, instance: Any, texts: dict[str, str]) -> Iterator[Row]:
    node = {'host': 'compute1', 'cpu_info': jsonutils.dumps(nova._get_cpu_info()), 'stats': texts, 'free_disk_gb': 100,
            'disk_available_least': 100}

    def ask(one: Any) -> Any:
        data = one.check_can_live_migrate_destination(context, instance, node, node)
        one.cleanup_live_migration_destination_check(context, data)
        return data
    yield _compared("the destination hook adds, with a fresh report, to what Nova's libvirt driver checks", lambda: ask(nova),
                    lambda: ask(ours), None)


def _source(ours: Any, nova: Any, context: Any, instance: Any, texts: dict[str, str]) -> Iterator[Row]:
    def ask(one: Any) -> Any:
        data = objects.LibvirtLiveMigrateData(filename='none', block_migration=True, is_volume_backed=False, image_type='default',
                                              disk_available_mb=10_000, disk_over_commit=False)
        if one is ours:
            one._migcheck.destination.tell_source(data, compared)
        return one.check_can_live_migrate_source(context, instance, data, {'block_device_mapping': []})
    node = objects.ComputeNode(stats=texts)
    # The target accepts the guest, and tells so: nothing has to be asked of a conductor.
    compared = ours._migcheck.destination.decide(context, instance, {'stats': texts})
    assert compared.comparison.compatible, compared.comparison.reason
    with mock.patch.object(objects.ComputeNode, 'get_first_node_by_host_for_old_compat', lambda *_: node):
        path = ours._migcheck.source._checks
        ours._migcheck.source._checks = {}
        yield _compared("the source hook adds to what Nova's libvirt driver checks, without the path", lambda: ask(nova),
                        lambda: ask(ours), None)
        ours._migcheck.source._checks = path
        yield _compared('the source hook adds, with the path', lambda: ask(nova), lambda: ask(ours), None, 7)


def _compared(what: str, nova: Callable[[], Any], ours: Callable[[], Any], limit: Optional[float], times: int = 41,
              before: Callable[[], None] = lambda: None) -> Row:
    nova(), ours()
    plain, checked = in_turns(nova, ours, times=times, before=before, clock=time.perf_counter)
    base, with_it = statistics.median(plain), statistics.median(checked)
    return Row(what, (with_it - base) / base, '', limit, f'adds {(with_it - base) * 1e3:.2f} ms to {base * 1e3:.2f} ms')


if __name__ == '__main__':
    tell(rows())
