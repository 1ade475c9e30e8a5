# SPDX-License-Identifier: Apache-2.0
"""``./run peer``: Nova's own tests with the plugin, and without it.

Each suite runs in a process of its own, three at a time on two processors.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import signal
import sys
import time

from tests import nova_releases
from tests.peer import arguments, comparing, running, samples, table
from tests.peer.comparing import Pair
from tests.peer.explained import EXPLAINED
from tests.peer.running import Nova, Ran, assumed, run
from tests.peer.suites import Suite, suites

# Lines of the end of a traceback that are shown.
_SHOWN = 12


def both(novas: list[Nova], given: argparse.Namespace) -> list[Pair]:
    """Run the suites of each release on both sides, or what fails with the plugin."""
    def told(nova: Nova, suite: Suite, plugin: bool) -> Ran:
        ran = run(nova, suite, plugin)
        print(f'{nova.release} {suite.name}{" with the plugin" if plugin else ""}: '
              f'{table.counts(ran)} in {ran.seconds:.0f} s, {ran.cpu_seconds:.0f} s of CPU',
              flush=True)
        return ran
    # Each waits for a third of its time.
    with concurrent.futures.ThreadPoolExecutor((os.cpu_count() or 1) * 3 // 2) as pool:
        sides = (True, False) if given.both else (True,)
        begun = [(nova, suite, [pool.submit(told, nova, suite, side) for side in sides])
                 for nova in novas for suite in suites(nova.site_packages, given.all)
                 if suite.name in given.suites]
        pairs = []
        for nova, suite, ran in begun:
            plugin = ran[0].result()
            stock = ran[1].result() if given.both else assumed(plugin)
            pairs.append(Pair(nova, suite, stock, plugin))
        list(pool.map(lambda pair: pair.repeat(EXPLAINED), pairs))
    return pairs


def report(pairs: list[Pair]) -> int:
    """Print what came of them, and give the status of the command."""
    print(f'\npassed / failed / skipped\n\n{table.outcomes(pairs)}\n\n'
          f'how often the plugin was at work\n\n{table.work(pairs)}')
    for pair in pairs:
        for name in pair.flakes:
            print(f'\n{pair.nova.release} {name}\n'
                  '  failed with the plugin once; alone it ends the same way on both sides')
    wrong = list(comparing.unexplained(pairs, EXPLAINED))
    for release, name, found in wrong:
        print(f'\n{release} {name}\n  '
              f'{"fails only with the plugin" if found.fails else "the plugin logs an error"}:')
        print('\n'.join(f'    {line}' for line in found.why.splitlines()[-_SHOWN:]))
    untrue = list(comparing.no_longer_true(pairs, EXPLAINED))
    for release, entry in untrue:
        print(f'\n{release} {entry.name}\n  is not as tests/peer/explained.py has it')
    print(f'\n{len(wrong)} only with the plugin and not explained, '
          f'{len(untrue)} not as they are explained')
    return int(bool(wrong or untrue))


def main() -> int:
    def end(*_signal: object) -> None:
        running.end_all()
        os._exit(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    given = arguments.parser().parse_args()
    begun = time.monotonic()
    novas = [Nova(release, pathlib.Path(nova_releases.venv(release))) for release in given.releases]
    for nova in novas:
        samples.install(nova)
    status = report(both(novas, given))
    print(f'{(time.monotonic() - begun) / 60:.0f} minutes')
    return status


if __name__ == '__main__':
    sys.exit(main())
