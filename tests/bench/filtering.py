# SPDX-License-Identifier: Apache-2.0
"""The scheduler filter against Nova's own default chain of filters, on the same HostState objects."""

from __future__ import annotations

import datetime
import logging
import time
from typing import Any, Iterator, Optional, Sequence
from unittest import mock

from nova import exception, objects
from nova.scheduler import filters, host_manager
from oslo_utils import timeutils

from nova_migcheck import moves, published, scheduler
from tests.bench import fleet
from tests.bench.measure import Row, side_by_side

# [filter_scheduler] enabled_filters as Nova sets it.
CHAIN = ('ComputeFilter', 'ComputeCapabilitiesFilter', 'ImagePropertiesFilter',
         'ServerGroupAntiAffinityFilter', 'ServerGroupAffinityFilter')
UUID = '2f0f1c4e-0000-4000-8000-000000000001'


def chain() -> list[Any]:
    handler = filters.HostFilterHandler()
    classes = {c.__name__: c for c in handler.get_matching_classes(['nova.scheduler.filters.all_filters'])}
    return [classes[name]() for name in CHAIN]


def request(live: bool) -> objects.RequestSpec:
    """A request as a live migration (or a boot) brings it."""
    spec = objects.RequestSpec(
        context=None, instance_uuid=UUID, ignore_hosts=['compute00000'] if live else None, instance_group=None, is_bfv=False,
        force_hosts=None, force_nodes=None, retry=None, scheduler_hints={}, num_instances=1, requested_destination=None,
        flavor=objects.Flavor(extra_specs={}, vcpus=1, memory_mb=1024, root_gb=10, ephemeral_gb=0, swap=0),
        image=objects.ImageMeta(id=UUID, properties=objects.ImageMetaProps()))
    spec.obj_reset_changes(recursive=True)
    return spec


class Hosts:
    """Host states whose ``stats`` are fresh strings for each request, as Nova makes them."""

    def __init__(self, stats: list[dict[str, str]]) -> None:
        # In bytes: decoded for each request, a string's hash has to be counted anew.
        self._stats = [{key: text.encode() for key, text in one.items()} for one in stats]
        now = timeutils.utcnow(with_timezone=False) + datetime.timedelta(seconds=30)
        self._states = []
        for number in range(len(stats)):
            state = host_manager.HostState(f'compute{number:05d}', f'compute{number:05d}', UUID)
            state.service = {'host': state.host, 'disabled': False, 'last_seen_up': now, 'forced_down': False, 'topic': 'compute',
                             'updated_at': now, 'created_at': now, 'disabled_reason': None}
            state.hypervisor_type, state.hypervisor_version, state.supported_instances = 'QEMU', 9_000_000, [['x86_64', 'kvm', 'hvm']]
            self._states.append(state)

    def __call__(self) -> list[Any]:
        for state, stats in zip(self._states, self._stats):
            state.stats = {key: text.decode() for key, text in stats.items()}
        return self._states


def run(chosen: list[Any], spec: Any, hosts: list[Any]) -> list[Any]:
    """What Nova's handler makes of them, one after the other, without what it does around each (a row of its own)."""
    for one in chosen:
        try:
            hosts = list(one.filter_all(hosts, spec))
        except exception.NoValidHost:
            return []
    return hosts


class Idle(filters.BaseHostFilter):
    """What any filter costs, whatever it does: Nova copies and names all hosts around it."""

    def filter_all(self, filter_obj_list: Any, spec_obj: Any) -> Any:
        return filter_obj_list


def ratio(stats: list[dict[str, str]], live: bool = True, times: int = 7, expect: Optional[int] = None) -> tuple[float, float, float]:
    """(ratio of the filter's time to the chain's, the filter's seconds, the chain's seconds)"""
    hosts, spec = Hosts(stats), request(live)
    ours, nova = [scheduler.MigrationTargetFilter()], chain()
    source = published.read({**fleet.stats(0)})
    move = moves.Move('compute00000', moves.LIVE, 0.0)
    with mock.patch.object(scheduler.MigrationTargetFilter, '_leaving', lambda *_: (move, source)):
        kept = len(run(ours, spec, hosts()))
        assert expect is None or kept == expect, f'{kept} hosts kept, not {expect}'
        assert len(run(nova, spec, hosts())) == len(stats)
        nova_time, our_time = side_by_side(lambda h: run(nova, spec, h), lambda h: run(ours, spec, h), times=times,
                                           before=hosts)
    return our_time / nova_time, our_time, nova_time


def rows(sizes: Sequence[int] = (100, 1000, 10000)) -> Iterator[Row]:
    """The filter's rows. What it logs is part of it."""
    logging.getLogger('nova_migcheck').setLevel(logging.INFO)
    objects.register_all()
    scheduler.CONF([], project='nova', default_config_files=[])
    scheduler.CONF.set_override('enabled_filters', list(CHAIN), 'filter_scheduler')
    now = time.time()
    for count in sizes:
        times = 9 if count <= 1000 else 3
        limit = 0.05 if count >= 1000 else None
        kinds: dict[str, tuple[list[dict[str, str]], Optional[int]]] = {
            'healthy, 12 CPUs': ([fleet.stats(n, kinds=12, now=now) for n in range(count)], None),
            'healthy, 200 CPUs': ([fleet.stats(n, kinds=200, now=now) for n in range(count)], None),
            'all failing': ([fleet.stats(n, kinds=12, now=now, findings=[fleet.failure(n)]) for n in range(count)], 0),
            'all without a report': ([fleet.nova_stats(n) for n in range(count)], count),
            'all stale': ([fleet.stats(n, kinds=12, now=now - 3600) for n in range(count)], count),
        }
        for name, (stats, expect) in kinds.items():
            of_chain, ours, nova = ratio(stats, times=times, expect=expect)
            note = f'{ours / count * 1e6:.2f} µs a host; the chain {nova / count * 1e6:.1f}'
            yield Row(f'filter / chain, live migration, {count} hosts, {name}', of_chain, '', limit, note)
        of_chain, ours, nova = ratio(kinds['healthy, 12 CPUs'][0], live=False, times=times, expect=count)
        yield Row(f'filter / chain, boot, {count} hosts', of_chain, '', 0.005 if count >= 1000 else None, f'{ours * 1e6:.0f} µs in all')
