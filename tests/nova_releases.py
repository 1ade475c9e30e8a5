# SPDX-License-Identifier: Apache-2.0
"""The functional tests on each release of Nova, for ``./run test --releases``, which has made an
environment for each."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import subprocess
from typing import Mapping, Sequence

from tests import roots

# A file for each release: what PyPI has of it, or the packages that Debian has of it.
DIRECTORY = 'tests/releases'
#: Nova as Debian has it, with Debian's Python and all of its libraries.
DEBIANS = sorted(roots.CODENAMES)
SYSTEM_PYTHON = '/usr/bin/python3'
# From the first on, native threads or eventlet; before, eventlet only.
THREADS_SINCE = '2026.1'


def on_pypi() -> list[str]:
    """The releases that PyPI has."""
    return sorted(path.stem for path in (roots.CHECKOUT / DIRECTORY).glob('*.txt'))


def installed(version: str) -> str:
    """The release that has this version of Nova."""
    return next(release for release in on_pypi() if f'nova=={version}\n' in (
        roots.CHECKOUT / DIRECTORY / f'{release}.txt').read_text())


def chosen(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The releases that are named, else all; and what goes to pytest."""
    known = [*DEBIANS, *on_pypi()]
    others = [word for word in arguments if word not in known]
    if not any((roots.CHECKOUT / word.split('::')[0]).exists() for word in others):
        others.append('tests/functional')
    return [word for word in arguments if word in known] or known, others


def venv(release: str) -> str:
    """The directory of its environment."""
    return str(roots.CHECKOUT / f'.venv-{release}')


def run(named: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit status of all of them. Prints a table."""
    runs = [(release, threads) for release in named for threads in _threads(release)]
    # They mostly wait: two at a time.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda one: on_release(*one, arguments, environment), runs))
    print('\n{:9} {:15} {:7} {}'.format('release', 'runs on', 'result', 'tests'))
    for (release, threads), (status, last) in zip(runs, results):
        result = 'FAILED' if status else 'passed'
        print(f'{release:9} {_runs_on(threads):15} {result:7} {last}')
    return int(any(status for status, _last in results))


def _threads(release: str) -> tuple[bool, ...]:
    return (True, False) if release not in DEBIANS and release >= THREADS_SINCE else (False,)


def _runs_on(threads: bool) -> str:
    return 'native threads' if threads else 'eventlet'


def on_release(release: str, threads: bool, arguments: Sequence[str],
               environment: Mapping[str, str]) -> tuple[int, str]:
    """(pytest's status, its last line); what it prints is shown as it comes."""
    env = {**environment, 'OS_NOVA_DISABLE_EVENTLET_PATCHING': str(threads).lower()}
    python = os.path.join(venv(release), 'bin/python')
    if release in DEBIANS:
        python = SYSTEM_PYTHON
        unpacked = pathlib.Path(venv(release)) / 'usr/lib'
        env['PYTHONPATH'] = str(unpacked / 'python3/dist-packages')
        env['LD_LIBRARY_PATH'] = os.pathsep.join(map(str, unpacked.glob('*-linux-gnu*')))
    words = [python, '-m', 'pytest', '-v', '--timeout=300', '-p', 'no:warnings']
    # Neither works with locks and sockets that eventlet patched: a worker of xdist waits for ever
    # for its next test.
    words += (['-n', '2', '--dist', 'loadfile'] if threads
              else ['-p', 'no:xdist', '-p', 'no:hypothesispytest'])
    if release in DEBIANS and release != roots.this_machine():
        words, env = ['./run', 'test', '--on', release, '--releases', release], dict(environment)
    last = ''
    with subprocess.Popen([*words, *arguments], cwd=roots.CHECKOUT, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as tests:
        assert tests.stdout
        for line in tests.stdout:
            print(f'{release} {_runs_on(threads)}: {line}', end='', flush=True)
            # After it there may come what Nova logs at its end.
            found = re.search(r'[0-9]+ (passed|failed|skipped|error).* in [0-9.]+s', line)
            last = found[0] if found else last
    return tests.returncode, last
