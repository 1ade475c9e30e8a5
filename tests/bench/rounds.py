# SPDX-License-Identifier: Apache-2.0
"""One round of checks as nova-compute has it: what the child costs, and what its parent pays."""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Iterator

from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck import published, runner, settings
from nova_migcheck import report as reports
from tests.bench.measure import Row


def rows(rounds: int = 5) -> Iterator[Row]:
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[])
    confs.register(conf)
    reader = settings.Reader(conf)
    names = list(conf.migcheck.checks)
    loaded = {name: one for name, one in runner.load(names).items() if one.check is not None and one.check.WHEN == 'host'}
    for chosen in (['storage'], list(loaded)):
        loop = runner.Runner({name: loaded[name] for name in chosen})
        walls, children, parents = [], [], []
        for _ in range(rounds):
            before, begun, own = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), time.process_time()
            outcome = loop.run({name: reader.read(loaded[name].check) for name in chosen}, conf.migcheck.round_deadline)
            published.write(reports.build(time.time(), outcome.findings, outcome.facts))
            parents.append(time.process_time() - own)
            walls.append(time.monotonic() - begun)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            children.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        what = f'a round of {", ".join(chosen)}'
        yield Row(f'{what}: wall', statistics.median(walls), 's', None, 'as this machine is set up: no libvirtd, no endpoints')
        yield Row(f'{what}: CPU of the child', statistics.median(children), 's', 0.5)
        # A process begins with the pages of the one that started it, which therefore is a small one here.
        yield Row(f'{what}: memory of a child process', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 'MiB', 80)
        yield Row(f'{what}: CPU of nova-compute itself', statistics.median(parents) * 1000, 'ms', 5)


def rows_of_a_small_process() -> list[Row]:
    """The same, measured in a process that has not imported nova: the memory of its children is their own."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-m', __name__], stdout=subprocess.PIPE, check=True, timeout=300)
    return [Row(**row) for row in json.loads(done.stdout)]


if __name__ == '__main__':
    print(json.dumps([dataclasses.asdict(row) for row in rows()]))
