# SPDX-License-Identifier: Apache-2.0
"""The destination hook against the whole of Nova's own check of a destination, in the Nova of the functional tests."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import statistics
import time
from typing import Any, Iterator
from unittest import mock

from tests.bench.measure import Row, tell
from tests.functional.cloud import Cloud
from tests.functional.hypervisor import Cpu

# isort: split
from nova_migcheck.compute.destination import Destination
from nova_migcheck.compute.source import Source

MIGRATIONS = 12


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
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stderr(nowhere), Cloud(
            {'compute1': haswell, 'compute2': haswell}, conf={'migcheck': {'recheck_after': '3600'}}) as cloud, mock.patch.multiple(
            Destination, decide=timed('destination', Destination.decide),
            tell_source=timed('destination', Destination.tell_source)), mock.patch.object(Source, 'begin', begun_and_decided):
        for name in ('compute1', 'compute2'):
            manager = cloud.hosts[name].manager
            manager.check_can_live_migrate_destination = timed('nova', manager.check_can_live_migrate_destination)
        server = cloud.boot('compute1')
        for _ in range(MIGRATIONS):
            assert cloud.live_migrate(server).status == 'completed'
    assert len(seconds['nova']) == MIGRATIONS == len(seconds['source'])
    ours = [sum(pair) for pair in zip(seconds['destination'][::2], seconds['destination'][1::2])]
    nova = [whole - mine - source for whole, mine, source in zip(seconds['nova'], ours, seconds['source'])]
    ratio = statistics.median(mine / its for mine, its in zip(ours, nova))
    yield Row("the destination hook adds, with a fresh report, to Nova's own check of the destination", ratio, '', 0.25,
              f'{statistics.median(ours) * 1e3:.2f} ms to {statistics.median(nova) * 1e3:.2f} ms, libvirt being a stand-in that answers '
              'at once')


if __name__ == '__main__':
    tell(rows())
