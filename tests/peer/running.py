# SPDX-License-Identifier: Apache-2.0
"""Run Nova's own tests in workers, each a process that may hang or die without harm to the others."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
from typing import Any, Iterable, Mapping

ROOT = pathlib.Path(__file__).parents[2]

# Seconds that one test may take. The longest takes 40 on an idle machine.
LONGEST = 300.0
# Seconds that a worker may take to import Nova and find its tests.
BEGINNING = 300.0
# Seconds between two looks at a worker.
_POLL = 0.5
# Lines of a worker's log that are shown when it did not come to its tests.
_TAIL = 20

STOCK = 'stock'
PLUGIN = 'plugin'
HOOKED = 'hooked'


@dataclasses.dataclass(frozen=True)
class Nova:
    """An installed Nova.

    :ivar release: as in tests/releases/
    :ivar python: of the environment that it is in
    :ivar threads: whether it runs on native threads
    """

    release: str
    python: str
    threads: bool

    @property
    def site_packages(self) -> pathlib.Path:
        found, = (pathlib.Path(self.python).parents[1] / 'lib').glob('python3*/site-packages')
        return found


@dataclasses.dataclass(frozen=True)
class Test:
    """How a test ended.

    :ivar outcome: ``passed``, ``skipped``, ``failed``, ``hung`` (it was killed) or ``died`` (the process did, within it)
    :ivar why: a traceback, or the reason why it was skipped
    :ivar work: how often each part of the plugin was at work
    :ivar errors: what the plugin logged as an error
    """

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
    :ivar cpu_seconds: how much of a processor; without what was lost with a worker that had to be killed
    """

    tests: Mapping[str, Test]
    seconds: float
    cpu_seconds: float


def run(nova: Nova, mode: str, names: Iterable[str]) -> Ran:
    """Run tests in a process of their own; in another one what is left when it hangs or dies.

    :param mode: ``STOCK``, ``PLUGIN``, or ``HOOKED``: see :mod:`tests.peer.worker`
    :param names: modules, classes or tests
    :raises RuntimeError: when it does not come to its tests
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='migcheck-peer-') as directory:
        told = pathlib.Path(directory, 'results')
        told.touch()
        words = [nova.python, '-W', 'ignore', '-m', 'tests.peer.worker', str(told), mode, *names]
        while not _once(words, told, _environment(nova)):
            pass
        lines = _lines(told)
    tests = {line['test']: Test(line['outcome'], line['why'], line['seconds'], line.get('work', {}), tuple(line.get('errors', ())))
             for line in lines if 'test' in line}
    return Ran(tests, time.monotonic() - begun, sum(line['ended'] for line in lines if 'ended' in line))


def _environment(nova: Nova) -> dict[str, str]:
    """The tests look for api-paste.ini where Nova's sources have it."""
    return dict(os.environ, OS_NOVA_DISABLE_EVENTLET_PATCHING=str(nova.threads).lower(), PYTHONPATH=str(ROOT),
                OS_WSGI__API_PASTE_CONFIG=str(pathlib.Path(nova.python).parents[1] / 'etc/nova/api-paste.ini'))


def _once(words: list[str], told: pathlib.Path, environment: Mapping[str, str]) -> bool:
    """One worker. Whether it came to its end; if not, the test that it was at has its result now."""
    log = told.with_name('log')
    with log.open('wb') as file, subprocess.Popen(words, env=environment, cwd=told.parent, stdin=subprocess.DEVNULL, stdout=file,
                                                  stderr=subprocess.STDOUT, start_new_session=True) as worker:
        try:
            hung = _watch(worker, told)
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
    lines = _lines(told)
    last = lines[-1] if lines else {}
    if 'ended' in last:
        return True
    if 'begun' not in last:
        raise RuntimeError('\n'.join([f'{" ".join(words[2:6])} ... ended between two tests', *log.read_text().splitlines()[-_TAIL:]]))
    text = f'it took more than {LONGEST:g} s' if hung else f'the process ended with status {worker.returncode}'
    lines.append({'test': last['begun'], 'outcome': 'hung' if hung else 'died', 'why': text, 'seconds': LONGEST if hung else 0.0})
    told.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return False


def _watch(worker: Any, told: pathlib.Path) -> bool:
    """Until it ends, or does not get on. Whether it was the latter."""
    size, since = -1, time.monotonic()
    while worker.poll() is None:
        time.sleep(_POLL)
        now = told.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > (LONGEST if size else BEGINNING):
            return True
    return False


def _lines(told: pathlib.Path) -> list[dict[str, Any]]:
    """Without one that was not written whole."""
    return [json.loads(line) for line in told.read_text().splitlines(keepends=True) if line.endswith('\n')]
