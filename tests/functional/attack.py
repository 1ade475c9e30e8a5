# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""One process like nova-compute, whose rounds of checks are attacked, on the one of Nova's concurrency backends that the environment says.

``python -m tests.functional.attack ROUNDS [SHARE]``: prints as JSON what was left behind, what was said of each attack, and how punctual
the rest of the process was. With SHARE, a directory that never answers, the resolver does not either.
"""

import os
import sys

# Nova patches, or forbids to, before anything else of it is imported; OS_NOVA_DISABLE_EVENTLET_PATCHING says which.
from tests.functional import nova_release

nova_release.patch()

import contextlib
import json
import threading
import time

from nova_migcheck.checks.base import Settings
from nova_migcheck.checks.storage import StorageCheck
from nova_migcheck.deadline import Bounded
from nova_migcheck.report import published
from nova_migcheck.report import report as reports
from nova_migcheck.rounds import runner
from tests.attack_checks import ALL, ENDLESS
from tests.facts import BUILT_IN

LOADED = {c.NAME: runner.Loaded(c.NAME, c, f'{c.__module__}:{c.__name__}') for c in (*ALL, StorageCheck)}
# Seconds: of a round that ends by itself (and is not expected to reach it), and of one that does not.
DEADLINE, HANGING = 30.0, 1.0


class Heart(threading.Thread):
    """What nova-compute's periodic task and its RPC answers would be: something that wants to run every 10 ms."""

    def __init__(self):
        super().__init__(daemon=True)
        self.gaps = []
        self.stopped = threading.Event()

    def run(self):
        last = time.monotonic()
        while not self.stopped.wait(0.01):
            now = time.monotonic()
            self.gaps.append(now - last)
            last = now

    def stop(self):
        """How late it was: the median, the 99th percentile and the longest gap, in seconds; and how often as late as a round that hangs."""
        self.stopped.set()
        self.join(10)
        gaps = sorted(self.gaps)
        return {'median': gaps[len(gaps) // 2], 'p99': gaps[len(gaps) * 99 // 100], 'longest': gaps[-1],
                'stops': sum(gap >= HANGING for gap in gaps)}


def left():
    """What this process holds: open files, threads, children."""
    children = []
    for task in os.listdir('/proc/self/task'):
        with contextlib.suppress(FileNotFoundError), open(f'/proc/self/task/{task}/children') as file:  # it may end meanwhile
            children += file.read().split()
    return {'files': len(os.listdir('/proc/self/fd')), 'threads': len(os.listdir('/proc/self/task')), 'children': len(children)}


def left_after(before, seconds=10.0):
    """The same, once it is no more than it was before, or when it is still more after so many seconds.

    Who has joined a thread of Python's may still see it in /proc: the kernel's part of it ends a little later.
    """
    end = time.monotonic() + seconds
    while True:
        now = left()
        if time.monotonic() > end or all(now[what] <= count for what, count in before.items()):
            return now
        time.sleep(0.05)


def attack(rounds, share):
    loop = runner.Runner(LOADED)
    told = Settings(options={'DEFAULT': {'instances_path': share}} if share else {}, timeout=0.5)
    attacks = [name for name in LOADED if name not in ('well', 'storage' if not share else '') and (share or name not in ENDLESS[1:])]
    hung, hanging = None, 0
    said = {}

    def run(*names):
        nonlocal hung, hanging
        endless = set(names) & set(ENDLESS)
        outcome = loop.run(dict.fromkeys(('well', *names), told), HANGING if endless else DEADLINE)
        for name in names:
            found = said.setdefault(name, {})
            kinds = ','.join(sorted({str(f.outcome) for f in outcome.findings if f.check == name}))
            found[kinds] = found.get(kinds, 0) + 1
        found = said.setdefault('well', {})
        kinds = ','.join(str(f.outcome) for f in outcome.findings if f.check == 'well')
        found[kinds] = found.get(kinds, 0) + 1
        # What becomes of it in nova-compute's own process belongs to a round.
        published.write(reports.build(time.time(), outcome.findings, outcome.facts, BUILT_IN))
        hung, hanging = (outcome.seconds, hanging + 1) if endless else (hung, hanging)

    def call_what_hangs():
        bounded, gate = Bounded(), threading.Event()
        try:
            bounded.call(0.2, gate.wait)
        except TimeoutError:
            gate.set()
        bounded._hung.wait(10)

    run(*attacks)
    call_what_hangs()
    said.clear()
    hanging = 0
    before = left()
    heart = Heart()
    heart.start()
    for _ in range(max(10, rounds // 20)):
        run()
    healthy = heart.stop()
    heart = Heart()
    heart.start()
    begun = time.monotonic()
    for number in range(rounds):
        run(attacks[number % len(attacks)])
        if number % 50 == 0:
            call_what_hangs()
    seconds = time.monotonic() - begun
    return {'before': before, 'attacked': heart.stop(), 'after': left_after(before), 'healthy': healthy, 'hung': hung, 'hanging': hanging,
            'said': said, 'seconds': seconds, 'patched': nova_release.is_eventlet()}


if __name__ == '__main__':
    print(json.dumps(attack(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)))
