# SPDX-License-Identifier: Apache-2.0
"""``./run peer``: Nova's own tests without the plugin and with it.

Each suite runs in a process of its own, as many at a time as there are processors.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import sys
import time
from typing import Collection

from tests import nova_releases
from tests.peer import arguments, comparing, samples, table
from tests.peer.comparing import Pair
from tests.peer.explained import EXPLAINED
from tests.peer.running import Nova, Ran, run
from tests.peer.suites import Suite, suites

# Lines of the end of a traceback that are shown.
_SHOWN = 12


def both(novas: list[Nova], named: Collection[str]) -> list[Pair]:
    """Run the suites that are named of each release on both sides."""
    def told(nova: Nova, suite: Suite, plugin: bool) -> Ran:
        ran = run(nova, suite, plugin)
        print(f'{nova.release} {suite.name}{" with the plugin" if plugin else ""}: '
              f'{table.counts(ran)} in {ran.seconds:.0f} s, {ran.cpu_seconds:.0f} s of CPU',
              flush=True)
        return ran
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [(nova, suite, [pool.submit(told, nova, suite, side) for side in (False, True)])
                   for nova in novas for suite in suites(nova.site_packages)
                   if suite.name in named]
        pairs = [Pair(nova, suite, *(side.result() for side in sides))
                 for nova, suite, sides in running]
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
    for release, name, why in wrong:
        print(f'\n{release} {name}\n  only with the plugin:')
        print('\n'.join(f'    {line}' for line in why.splitlines()[-_SHOWN:]))
    untrue = list(comparing.no_longer_true(pairs, EXPLAINED))
    for release, entry in untrue:
        print(f'\n{release} nova.tests.{entry.test}\n'
              '  ends as without the plugin: take it out of tests/peer/explained.py')
    print(f'\n{len(wrong)} fail only with the plugin and are not explained, '
          f'{len(untrue)} are explained and do not')
    return int(bool(wrong or untrue))


def main() -> int:
    given = arguments.parser().parse_args()
    begun = time.monotonic()
    novas = [Nova(release, pathlib.Path(nova_releases.venv(release))) for release in given.releases]
    for nova in novas:
        samples.install(nova)
    status = report(both(novas, given.suites))
    print(f'{(time.monotonic() - begun) / 60:.0f} minutes')
    return status


if __name__ == '__main__':
    sys.exit(main())
