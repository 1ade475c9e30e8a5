# SPDX-License-Identifier: Apache-2.0
"""The scheduler filter against Nova's own default chain of filters, on the same HostState objects."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import statistics
import time
from typing import Any, Iterator, Optional, Sequence
from unittest import mock

from nova import exception, objects
from nova.objects import fields
from nova.scheduler import filters, host_manager
from oslo_utils import timeutils

from nova_migcheck import scheduler
from nova_migcheck.checks.needs import shorten
from nova_migcheck.cpu import Cpu
from nova_migcheck.novadb import moves
from nova_migcheck.report import published
from nova_migcheck.report.report import Group
from tests.bench import fleet
from tests.bench.measure import Row, in_sequence

# [filter_scheduler] enabled_filters as Nova sets it.
CHAIN = ('ComputeFilter', 'ComputeCapabilitiesFilter', 'ImagePropertiesFilter',
         'ServerGroupAntiAffinityFilter', 'ServerGroupAffinityFilter')
UUID = '2f0f1c4e-0000-4000-8000-000000000001'


# Hosts that may decide themselves when none is left: the default of [migcheck] last_resort_hosts.
LAST = 3


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
    """Host states whose ``stats`` are for each request what Nova makes of the column: a new dictionary of a class of its own, with new
    strings, whose hashes have to be counted anew."""

    def __init__(self, stats: list[dict[str, str]]) -> None:
        self._columns = [json.dumps(one) for one in stats]
        self._field = fields.DictOfNullableStringsField()
        now = timeutils.utcnow(with_timezone=False) + datetime.timedelta(seconds=30)
        self._states = []
        for number in range(len(stats)):
            state = host_manager.HostState(f'compute{number:05d}', f'compute{number:05d}', UUID)
            state.service = {'host': state.host, 'disabled': False, 'last_seen_up': now, 'forced_down': False, 'topic': 'compute',
                             'updated_at': now, 'created_at': now, 'disabled_reason': None}
            state.hypervisor_type, state.hypervisor_version, state.supported_instances = 'QEMU', 9_000_000, [['x86_64', 'kvm', 'hvm']]
            self._states.append(state)

    def __call__(self) -> list[Any]:
        node = objects.ComputeNode()
        for state, column in zip(self._states, self._columns):
            state.stats = self._field.coerce(node, 'stats', json.loads(column))
        return self._states


def run(chosen: list[Any], spec: Any, hosts: list[Any]) -> list[Any]:
    """What Nova's handler makes of them, one after the other, without what it does around each (a row of its own)."""
    for one in chosen:
        try:
            hosts = list(one.filter_all(hosts, spec))
        except exception.NoValidHost:
            return []
    return hosts


@dataclasses.dataclass
class Case:
    """One row's worth of hosts.

    :param expect: how many of them are to be kept; None for any number
    :param guest: the CPU of the server that moves
    :param forget: what is forgotten before each request: nothing, the ``guest``, whose like has then not been moved before, the
        ``verdicts`` on any, as when no other has left hosts like its own, or ``all``, as after a start of the scheduler
    """

    stats: list[dict[str, str]]
    expect: Optional[int]
    guest: Cpu
    forget: str = ''
    live: bool = True


def cost(case: Case, times: int = 7) -> tuple[float, float, float]:
    """(median of the ratios of the filter's time to the chain's, the filter's seconds, the chain's seconds)"""
    hosts, spec = Hosts(case.stats), request(case.live)
    ours, nova = scheduler.MigrationTargetFilter(), chain()
    source = published.read(published.write(dataclasses.replace(fleet.report(999_600), groups=(Group(case.guest, (shorten(UUID),)),))))
    move = moves.Move('compute00000', moves.LIVE, 0.0)

    def prepare() -> list[Any]:
        for key in list(ours._memory._of) if case.forget else ():
            if case.forget != 'guest' or key[0].cpu is not None:
                del ours._memory._of[key]
        if case.forget == 'all':
            ours._memory._kinds.clear()
            published._read_packed.cache_clear()
        return hosts()
    with mock.patch.object(scheduler.MigrationTargetFilter, '_move', lambda *_: (move, source)):
        kept = len(run([ours], spec, hosts()))
        assert case.expect in (None, kept), f'{kept} hosts kept, not {case.expect}'
        assert len(run(nova, spec, hosts())) == len(case.stats)
        taken = in_sequence(lambda h: run(nova, spec, h), lambda h: run([ours], spec, h), times=times, before=prepare)
    ratios = [our_time / nova_time for nova_time, our_time in zip(*taken)]
    return statistics.median(ratios), statistics.median(taken[1]), statistics.median(taken[0])


def cases(count: int, now: float) -> Iterator[tuple[str, Case, Optional[float]]]:
    """(name, case, gate) for so many hosts."""
    few = [fleet.stats(n, kinds=12, now=now) for n in range(count)]
    many = [fleet.stats(n, kinds=200, now=now) for n in range(count)]
    old = dataclasses.replace(fleet.cpu(0), features=frozenset(fleet.FEATURES[-20:]) - fleet.lost(200), tsc_hz=None)
    healthy, other = (0.04 if count > 1000 else 0.08, 0.15) if count >= 1000 else (None, None)
    yield 'healthy, 12 CPUs', Case(few, count, old), healthy
    yield 'healthy, 200 CPUs', Case(many, count, old), healthy
    yield (
        'all failing',
        Case(
            [fleet.stats(n, kinds=12, now=now, findings=[fleet.failure(n)]) for n in range(count)],
            LAST,
            old,
        ),
        other,
    )
    yield (
        'all without a report',
        Case([fleet.nova_stats(n) for n in range(count)], count, old),
        other,
    )
    yield (
        'all stale',
        Case([fleet.stats(n, kinds=12, now=now - 3600) for n in range(count)], count, old),
        other,
    )
    # Beyond what is promised: how it is at its worst.
    new = dataclasses.replace(fleet.cpu(0), tsc_hz=None)
    yield 'a guest that needs the best of 12 CPUs', Case(few, None, new), None
    yield 'first request of a guest, 12 CPUs', Case(few, count, old, 'guest'), None
    yield 'first request of a guest, 200 CPUs', Case(many, count, old, 'guest'), None
    yield 'first request from a site, 200 CPUs', Case(many, count, old, 'verdicts'), None
    yield 'first request of all, 200 CPUs', Case(many, count, old, 'all'), None
    if count <= 1000:
        yield 'a guest that needs a TSC frequency', Case(few, count, dataclasses.replace(old, tsc_hz=2_095_078_000)), None
        fixed = [fleet.stats(n, kinds=12, now=now, scaling=False) for n in range(count)]
        yield 'the same, hosts cannot scale', Case(fixed, count, dataclasses.replace(old, tsc_hz=2_095_078_000)), None


def rows(sizes: Sequence[int] = (100, 1000, 10000)) -> Iterator[Row]:
    """The filter's rows. What it logs is part of it."""
    logging.getLogger('nova_migcheck').setLevel(logging.INFO)
    objects.register_all()
    scheduler.CONF([], project='nova', default_config_files=[])
    scheduler.CONF.set_override('enabled_filters', list(CHAIN), 'filter_scheduler')
    now = time.time()
    for count in sizes:
        times = 7 if count <= 1000 else 3
        for name, case, limit in cases(count, now):
            ratio, ours, nova = cost(case, times)
            note = f'{ours / count * 1e6:.2f} µs a host; the chain {nova / count * 1e6:.1f}'
            yield Row(f'filter / chain, {count} hosts, {name}', ratio, '', limit, note)
        boot = Case([fleet.stats(n, now=now) for n in range(count)], count, fleet.cpu(0), live=False)
        ratio, ours, nova = cost(boot, times)
        yield Row(f'filter / chain, {count} hosts, boot', ratio, '', 0.005 if count >= 1000 else None, f'{ours * 1e6:.0f} µs in all')
