# SPDX-License-Identifier: Apache-2.0
"""``./run truth``: how often the checks are right, measured."""

from __future__ import annotations

import argparse
import concurrent.futures
import pathlib
import sys
import tempfile
from typing import Iterable, Iterator

from tests.lab import libvirtd, namespaces
from tests.lab.cloud import isolation
from tests.truth import table
from tests.truth.arguments import parser
from tests.truth.explained import why
from tests.truth.host import Probes
from tests.truth.states import GROUPS
from tests.truth.trial import Trial, attempt
from tests.truth.world import World


def main() -> int:
    arguments = parser().parse_args()
    lacking = namespaces.missing() or libvirtd.missing()
    if lacking:
        sys.exit(lacking)
    return isolation.isolated('tests.truth', [sys.argv[1:]], lambda: work(arguments))


def work(arguments: argparse.Namespace) -> int:
    """Try the worlds, and say what came of it."""
    probes = Probes(pathlib.Path(tempfile.mkdtemp(prefix='probes-')))
    worlds = list(_worlds(arguments))
    attempt(World(), probes)  # what libvirt asks QEMU takes seconds, once
    trials = list(run(worlds, probes, arguments.jobs))
    print('\n' + table.text(trials))
    for trial in trials:
        if trial.kind:
            print(
                f'\n{trial}\n  {why(trial) or "not explained"}\n  again: ./run truth --world "{trial.world}"'
            )
    if arguments.rst:
        pathlib.Path(arguments.rst).write_text(table.page(trials, arguments.seed))
    return 1 if table.unexplained(trials) or not trials else 0


def run(worlds: Iterable[World], probes: Probes, jobs: int) -> Iterator[Trial]:
    """Try several at a time. A disagreement is tried again by itself, and made as small as it can
    be while it lasts.
    """
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tried = list(pool.map(lambda world: _told(attempt(world, probes)), worlds))
    for trial in tried:
        yield _settled(trial, probes) if trial.kind or trial.error else trial


def _told(trial: Trial) -> Trial:
    print(trial, flush=True)
    return trial


def _settled(trial: Trial, probes: Probes) -> Trial:
    # A machine that is busy with other things may be too slow once.
    for _ in range(2):
        again = attempt(trial.world, probes)
        if not again.kind and not again.error:
            return again
    if again.error:
        return again
    smallest = again.world.shrunk(lambda world: attempt(world, probes).kind == again.kind)
    return _told(attempt(smallest, probes)) if smallest != again.world else again


def _worlds(arguments: argparse.Namespace) -> Iterator[World]:
    if arguments.world:
        yield from map(World.of, arguments.world)
    elif arguments.singles:
        yield from (World.single(state) for states in GROUPS.values() for state in states[1:])
    else:
        yield from (
            World.draw(arguments.seed, number)
            for number in range(arguments.first, arguments.first + arguments.worlds)
        )


if __name__ == '__main__':
    sys.exit(main())
