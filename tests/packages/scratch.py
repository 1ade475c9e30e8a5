# SPDX-License-Identifier: Apache-2.0
"""A Debian root in which all may be changed: what is written there goes to memory and is gone at
the end.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
from typing import Iterator

from tests import roots


class Scratch:
    """A root that is in use.

    :ivar path: where its files are seen from outside
    """

    def __init__(self, pid: int) -> None:
        self._enter = ['nsenter', '--target', str(pid), '--mount', '--pid', '--']
        self.path = pathlib.Path(f'/proc/{pid}/root')

    def run(self, *words: str, timeout: float = 900, **environment: str) -> str:
        """Run a command as root, in ``/``. What it prints; it must succeed."""
        done = self.attempt(*words, timeout=timeout, **environment)
        assert done.returncode == 0, f'{words}: {done.stdout[-6000:]}'
        return done.stdout

    def attempt(
        self, *words: str, timeout: float = 900, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail. Its two outputs are one."""
        return subprocess.run(
            [*self._enter, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
            env=_environment(environment),
        )

    def shell(self, script: str, timeout: float = 900, **environment: str) -> str:
        """Run the lines of a shell, each of which must succeed."""
        return self.run('sh', '-euc', script, timeout=timeout, **environment)

    @contextlib.contextmanager
    def begun(self, *words: str, until: str) -> Iterator[str]:
        """Begin what goes on, and wait for a line of its output. Its process, as the root sees it.
        """
        with subprocess.Popen(
            [*self._enter, 'sh', '-c', 'echo $$; exec "$@"', 'sh', *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment({}),
        ) as process:
            assert process.stdout is not None
            pid = process.stdout.readline().strip()
            said = ''
            try:
                for line in process.stdout:
                    said += line
                    if line == until:
                        break
                else:
                    raise AssertionError(f'{words} ended: {said[-6000:]}')
                yield pid
            finally:
                process.kill()

    def write(self, name: str, text: str) -> None:
        (self.path / name.lstrip('/')).write_text(text)


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**roots.passed_on(), 'DEBIAN_FRONTEND': 'noninteractive', **more}


@contextlib.contextmanager
def scratch(root: roots.Root) -> Iterator[Scratch]:
    """Begin with what the root has now."""
    words = root.inside('sh', '-c', 'echo ready; exec sleep infinity', scratch=True)
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=_environment({})
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == 'ready\n'
            child = (
                pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children')
                .read_text()
                .split()[0]
            )
            yield Scratch(int(child))
        finally:
            process.kill()
