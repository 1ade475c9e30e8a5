# SPDX-License-Identifier: Apache-2.0
"""What a healthy decision waits for: the path to the target, with all that is asked there."""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any, Iterator, Mapping

from nova_migcheck.finding import Outcome
from nova_migcheck.rounds import runner
from tests.bench.measure import Row, tell
from tests.bench.rounds import Round
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.two_hosts import TwoHosts, settings

# What runs inside a host as a process of its own; it is __main__ there.
MODULE = 'tests.bench.path'
TIMES = 21
GUEST = 'guest'
CONNECT = 'node2-mig'


def rows() -> Iterator[Row]:
    """Yield what two real libvirtd take in namespaces of one machine."""
    with TwoHosts() as hosts, LibvirtHost(hosts.source) as source:
        source.guest(GUEST)
        server = source.connect().lookupByName(GUEST).UUIDString()
        with LibvirtHost(hosts.target, cache=source.root / 'cache') as target:
            target.connect().getCapabilities()
            fact = hosts.address(live_migration_inbound_addr=CONNECT).facts['migration']
            path, cpu = _inside(hosts.source, 'look', source.uri, server, json.dumps(fact))
            own, _cpu = _inside(hosts.target, 'round', target.uri)
    median = statistics.median(path)
    yield Row('the path to a healthy target, asked by its libvirt about the guest: wall', median,
              's', 0.5, f'{min(path):.3f} to {max(path):.3f} s, of {TIMES}')
    yield Row('the same: CPU of its processes', statistics.median(cpu), 's', 0.3)
    yield Row('the same, after a round of the checks on the target: wall',
              median + statistics.median(own), 's', 0.8)


def _inside(host: Any, *words: str) -> tuple[list[float], list[float]]:
    """Return seconds by the clock on the wall, and CPU seconds, of each time."""
    done = subprocess.run(host.inside(sys.executable, '-W', 'ignore', '-m', MODULE, *words),
                          stdout=subprocess.PIPE, check=True, timeout=300)
    seconds, cpu = json.loads(done.stdout)
    return seconds, cpu


def look(uri: str, server: str, fact: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return what the check of the path takes, each time."""
    loaded = runner.load(['transport'])
    target = {'host': 'node2', 'connect': CONNECT, 'migration': fact}
    given = settings('node1', target=target, timeout=5.0, my_ip='10.66.0.11', ask_target='auto',
                     connection_uri=uri, virt_type='qemu', live_migration_inbound_addr='node1-mig')
    given = dataclasses.replace(given, server=server)
    seconds, cpu = [], []
    for _ in range(TIMES):
        begun, before = time.monotonic(), _children()
        outcome = runner.Runner(loaded).run({'transport': given}, 5.0)
        seconds.append(time.monotonic() - begun)
        cpu.append(_children() - before)
        bad = [str(one) for one in outcome.findings if one.outcome is not Outcome.OK]
        assert not bad and any('accepts the guest' in str(one) for one in outcome.findings), bad
    return seconds, cpu


def rounds(uri: str) -> tuple[list[float], list[float]]:
    """Return what a round of the checks about a host takes, each time."""
    one = Round(libvirt__connection_uri=uri)
    taken = [one.run(1) for _ in range(TIMES)]
    return [wall for wall, _cpu, _own in taken], [cpu for _wall, cpu, _own in taken]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == '__main__':
    if sys.argv[1:2] == ['look']:
        print(json.dumps(look(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))))
    elif sys.argv[1:2] == ['round']:
        print(json.dumps(rounds(sys.argv[2])))
    else:
        tell(rows())
