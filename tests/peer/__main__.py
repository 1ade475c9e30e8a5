# SPDX-License-Identifier: Apache-2.0
"""Run Nova's own tests without the plugin and with it, and tell what fails only with it.

One suite is one process, as many at a time as there are cores. What fails only with the plugin is run once more alone, without it
and with it, before it counts.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import sys
import time
from typing import Optional

from tests.peer import comparing
from tests.peer.comparing import Pair
from tests.peer.explained import EXPLAINED
from tests.peer.running import HOOKED, PLUGIN, ROOT, STOCK, Nova, Ran, Test, run
from tests.peer.suites import Suite, suites

# From the first on, Nova's own tests run on native threads here; before, there is nothing but eventlet.
THREADS_SINCE = '2026.1'
# Lines of the end of a traceback that are shown.
_SHOWN = 12


def mode(suite: Suite) -> str:
    """How its tests are run with the plugin."""
    return HOOKED if suite.hooked else PLUGIN


def installed(release: str) -> Nova:
    """The Nova of a release, in the environment that ./run made for it."""
    return Nova(release, str(ROOT / f'.venv-{release}/bin/python'), release >= THREADS_SINCE)


def alone(nova: Nova, how: str, name: str) -> Optional[Test]:
    """One test, in a process of its own."""
    return run(nova, how, [name]).tests.get(name)


def both(novas: list[Nova], named: list[str]) -> list[Pair]:
    """Each suite (or those that are named) of each release, without the plugin and with it."""
    of = [(nova, suite) for nova in novas for suite in suites(nova.site_packages) if not named or suite.name in named]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        def told(nova: Nova, suite: Suite, how: str) -> Ran:
            ran = run(nova, how, suite.names)
            print(f'{nova.release} {suite.name}, {how}: {comparing.counts(ran.tests)} in {ran.seconds:.0f} s ({ran.cpu_seconds:.0f} s of CPU)', flush=True)
            return ran
        running = [[pool.submit(told, nova, suite, how) for how in (STOCK, mode(suite))] for nova, suite in of]
        pairs = [Pair(nova.release, suite.name, stock.result(), plugin.result())
                 for (nova, suite), (stock, plugin) in zip(of, running)]
        again = [(pair, name, [pool.submit(alone, nova, how, name) for how in (STOCK, mode(suite))])
                 for pair, (nova, suite) in zip(pairs, of) for name in pair.suspects
                 if not any(entry.concerns(nova.release, name) for entry in EXPLAINED)]
        for pair, name, (stock, plugin) in again:
            pair.again[name] = stock.result(), plugin.result()
    return pairs


def report(pairs: list[Pair]) -> int:
    """Print what came of them. The status of the command."""
    print(f'\npassed / failed / skipped, without the plugin and with it\n\n{comparing.table(pairs)}\n\n'
          f'how often the plugin was at work\n\n{comparing.work(pairs)}')
    for pair in pairs:
        for name in pair.flakes:
            print(f'\n{pair.release} {name}\n  failed with the plugin once, and alone is the same with it and without it')
    wrong = list(comparing.unexplained(pairs, EXPLAINED))
    for pair, name, why in wrong:
        print(f'\n{pair.release} {name}\n  only with the plugin:\n' + '\n'.join(f'    {line}' for line in why.splitlines()[-_SHOWN:]))
    untrue = list(comparing.no_longer_true(pairs, EXPLAINED))
    for release, entry in untrue:
        print(f'\n{release} {entry.test}\n  is as without the plugin; take it out of tests/peer/explained.py')
    print(f'\n{len(wrong)} fail only with the plugin and are not explained, {len(untrue)} are explained and do not')
    return int(bool(wrong or untrue))


def main() -> int:
    parser = argparse.ArgumentParser(prog='./run peer', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--release', action='append', help='of Nova (2024.1 and 2026.2)', dest='releases', required=True)
    parser.add_argument('--suite', action='append', help='only this one, as the table names it', dest='suites', default=[])
    given = parser.parse_args()
    begun = time.monotonic()
    status = report(both([installed(release) for release in given.releases], given.suites))
    print(f'in {(time.monotonic() - begun) / 60:.0f} minutes')
    return status


if __name__ == '__main__':
    sys.exit(main())
