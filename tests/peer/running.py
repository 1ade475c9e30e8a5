# SPDX-License-Identifier: Apache-2.0
"""Run Nova's own tests in a process that may hang or die."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
from typing import Any, Mapping

from tests import nova_releases, roots
from tests.peer.suites import Suite

# Seconds in which a test must end.
LONGEST = 300.0
# Seconds in which a worker must come to its first test.
_BEGINNING = 300.0
# Seconds between two looks at a worker.
_POLL = 0.5
# Lines of a worker's output that tell what became of it. Of its threads, the first is the last.
_SHOWN = 40

_workers: set[Any] = set()


@dataclasses.dataclass(frozen=True)
class Nova:
    """An installed Nova.

    :ivar release: as in tests/releases/
    :ivar prefix: of the environment that it is in
    """

    release: str
    prefix: pathlib.Path

    @property
    def python(self) -> str:
        return str(self.prefix / 'bin/python')

    @property
    def site_packages(self) -> pathlib.Path:
        found, = (self.prefix / 'lib').glob('python3*/site-packages')
        return found

    @property
    def environment(self) -> dict[str, str]:
        """Its tests look for api-paste.ini where Nova's sources have it, if nothing says more."""
        threads = self.release >= nova_releases.THREADS_SINCE
        return dict(os.environ, OS_NOVA_DISABLE_EVENTLET_PATCHING=str(threads).lower(),
                    OS_WSGI__API_PASTE_CONFIG=str(self.prefix / 'etc/nova/api-paste.ini'),
                    PYTHONPATH=str(roots.CHECKOUT))


@dataclasses.dataclass(frozen=True)
class Test:
    """How a test ended.

    :ivar outcome: ``passed``, ``skipped``, ``failed``, ``hung`` when it had to be killed, or
        ``died`` when the process did
    :ivar why: a traceback, or the reason why it was skipped
    :ivar work: how often each part of the plugin was at work
    :ivar errors: what the plugin logged as an error
    """

    __test__ = False  # for pytest

    outcome: str
    why: str = ''
    seconds: float = 0.0
    work: Mapping[str, int] = dataclasses.field(default_factory=dict)
    errors: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        return self.outcome not in ('passed', 'skipped')


@dataclasses.dataclass(frozen=True)
class Ran:
    """What came of some tests.

    :ivar tests: by name, in their order
    :ivar seconds: how long it took
    :ivar cpu_seconds: of a processor, without those of a worker that was killed
    """

    tests: Mapping[str, Test]
    seconds: float
    cpu_seconds: float


def assumed(ran: Ran) -> Ran:
    """Return what the same tests come to without the plugin, if all of them pass."""
    return Ran(dict.fromkeys(ran.tests, Test('passed')), 0.0, 0.0)


def run(nova: Nova, suite: Suite, plugin: bool) -> Ran:
    """Run a suite in a process of its own; what a process that hangs or dies leaves, in another.

    :raises RuntimeError: when it ends while no test runs
    """
    begun = time.monotonic()
    mode = 'stock' if not plugin else 'hooked' if suite.hooked else 'plugin'
    with tempfile.TemporaryDirectory(prefix='migcheck-peer-') as directory:
        told = pathlib.Path(directory, 'results')
        told.touch()
        words = [nova.python, '-W', 'ignore', '-m', 'tests.peer.worker', str(told), mode,
                 suite.only, *suite.names]
        while not _once(words, told, nova.environment):
            pass
        lines = _lines(told)
    return Ran({line['test']: _test(line) for line in lines if 'test' in line},
               time.monotonic() - begun, sum(line['ended'] for line in lines if 'ended' in line))


def _test(line: Mapping[str, Any]) -> Test:
    return Test(line['outcome'], line['why'], line['seconds'], line.get('work', {}),
                tuple(line.get('errors', ())))


def _once(words: list[str], told: pathlib.Path, environment: Mapping[str, str]) -> bool:
    """Run one worker. Tell whether it came to its end.

    If it did not, the file has a result for the test that it was at.
    """
    log = told.with_name('log')
    with log.open('wb') as file, subprocess.Popen(
            words, env=environment, cwd=told.parent, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True) as worker:
        _workers.add(worker)
        try:
            hung = _watch(worker, told)
            if hung:
                worker.send_signal(signal.SIGUSR1)
                time.sleep(_POLL)
        finally:
            _kill(worker)
            _workers.discard(worker)
    lines = _lines(told)
    last = lines[-1] if lines else {}
    if 'ended' in last:
        return True
    if 'begun' not in last:
        raise RuntimeError(f'{" ".join(words)} ended while no test ran\n{_end(log)}')
    why = f'it took more than {LONGEST:g} s' if hung else f'status {worker.returncode}'
    lines.append({'test': last['begun'], 'outcome': 'hung' if hung else 'died',
                  'seconds': LONGEST if hung else 0.0, 'why': f'{why}\n{_end(log)}'})
    told.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return False


def end_all() -> None:
    """Kill the workers that run, for a process that is itself told to end."""
    for worker in list(_workers):
        _kill(worker)


def _kill(worker: Any) -> None:
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)


def _end(log: pathlib.Path) -> str:
    return '\n'.join(log.read_text(errors='replace').splitlines()[-_SHOWN:])


def _watch(worker: Any, told: pathlib.Path) -> bool:
    """Wait until it ends, or does not get on. Tell whether it was the latter."""
    before = size = told.stat().st_size
    since = time.monotonic()
    while worker.poll() is None:
        time.sleep(_POLL)
        now = told.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > (LONGEST if size > before else _BEGINNING):
            return True
    return False


def _lines(told: pathlib.Path) -> list[dict[str, Any]]:
    """Read all lines but one that was not written whole."""
    return [json.loads(line) for line in told.read_text().splitlines(keepends=True)
            if line.endswith('\n')]
