# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""One process like nova-compute, whose rounds of checks are attacked: run by test_attacks.py on each of Nova's concurrency backends.

``python -m tests.functional.attack ROUNDS``: prints as JSON what was left behind, and for how long the rest of the process stood still.
"""

import os
import sys

# Nova patches, or forbids to, before anything else of it is imported; OS_NOVA_DISABLE_EVENTLET_PATCHING says which.
from tests.functional import nova_release

nova_release.patch()

import json
import threading
import time

from nova_migcheck import published, runner
from nova_migcheck import report as reports
from nova_migcheck.bounded import Bounded
from nova_migcheck.checks.base import Settings
from tests.attack_checks import ALL

LOADED = {c.NAME: runner.Loaded(c.NAME, c, f'{c.__module__}:{c.__name__}') for c in ALL}


class Heart(threading.Thread):
    """What nova-compute's periodic task and its RPC answers would be: something that wants to run every 10 ms."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest = 0.0
        self.stopped = threading.Event()

    def run(self):
        last = time.monotonic()
        while not self.stopped.wait(0.01):
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now


def left():
    """What this process holds: open files, threads, children."""
    children = []
    for task in os.listdir('/proc/self/task'):
        with open(f'/proc/self/task/{task}/children') as file:
            children += file.read().split()
    return {'files': len(os.listdir('/proc/self/fd')), 'threads': len(os.listdir('/proc/self/task')), 'children': len(children)}


def attack(rounds):
    loop = runner.Runner(LOADED)
    all_of = {name: Settings() for name in LOADED if name != 'hangs'}
    loop.run(all_of, 20)
    Bounded().call(20, lambda: None)
    before = left()
    heart = Heart()
    heart.start()
    for number in range(rounds):
        loop.run({'well': Settings()} if number % 10 else all_of, 20)
    begun = time.monotonic()
    hung = loop.run({'hangs': Settings(), 'well': Settings(), 'many': Settings()}, 4.0)
    took = time.monotonic() - begun
    published.write(reports.build(time.time(), hung.findings, hung.facts))
    bounded = Bounded()
    gate = threading.Event()
    try:
        bounded.call(1.0, gate.wait)
    except TimeoutError:
        gate.set()
    bounded._hung.join(10)
    heart.stopped.set()
    heart.join(10)
    return {'before': before, 'after': left(), 'longest': heart.longest, 'took': took, 'patched': nova_release.is_eventlet(),
            'findings': sorted({(f.check, str(f.outcome)) for f in hung.findings}), 'many': sum(f.check == 'many' for f in hung.findings)}


if __name__ == '__main__':
    print(json.dumps(attack(int(sys.argv[1]))))
