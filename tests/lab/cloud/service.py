# SPDX-License-Identifier: Apache-2.0
"""A service of the lab: a process group with a log, started, stopped and waited for."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from typing import Callable, Optional, Sequence, TypeVar

import fixtures

from tests.lab.cloud import STATE
from tests.lab.namespaces import Namespace

_T = TypeVar('_T')


def until(seconds: float, what: str, ask: Callable[[], _T], pause: float = 0.1) -> _T:
    """Ask until the answer is true, and return it.

    :raises TimeoutError: when it is not within ``seconds``
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f'after {seconds:g} s still not: {what}')
        time.sleep(pause)


def listens(address: str, port: int) -> bool:
    """Whether somebody accepts connections there, seen from the control plane."""
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


class Service(fixtures.Fixture):
    """One service.

    :param name: of its log
    :param command: what it is; may be changed before a :meth:`start`
    :param host: where it runs; the control plane when None
    :param environment: added to ours
    :ivar began: the place in the log where the last :meth:`start` was
    """

    def __init__(self, name: str, command: Sequence[str], host: Optional[Namespace] = None, **environment: str) -> None:
        super().__init__()
        self.name, self.command, self.host, self.environment = name, list(command), host, environment
        self.log = STATE / 'log' / f'{name}.log'
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.began = 0

    def _setUp(self) -> None:
        self.start()
        # At the end nothing is worth waiting for: what it wrote goes with the lab.
        self.addCleanup(self.stop, 0.5)

    def start(self) -> None:
        command = self.host.inside(*self.command) if self.host else self.command
        self.began = self.mark()
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=STATE,
                                            env={**os.environ, **self.environment})

    def stop(self, seconds: float = 10) -> None:
        """End it; the whole group by force when it does not go within ``seconds``, at once for 0."""
        if self.process is None:
            return
        if seconds and self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        self._signal(signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def _signal(self, number: int) -> None:
        assert self.process is not None
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def alive(self) -> None:
        """:raises RuntimeError: with the end of its log, when it has ended"""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f'{self.name} ended:\n' + self.log.read_text(errors='replace')[-3000:])

    def mark(self) -> int:
        """The place in the log where the next line will come."""
        return self.log.stat().st_size if self.log.exists() else 0

    def logged(self, since: int = 0) -> str:
        """The log from a place on."""
        with open(self.log, 'rb') as log:
            log.seek(since)
            return log.read().decode(errors='replace')

    def wait_logged(self, pattern: str, since: int = 0, seconds: float = 60) -> str:
        """Wait for a line of the log that matches.

        :raises TimeoutError: when there is none
        :raises RuntimeError: when the service ended
        """
        wanted = re.compile(f'.*{pattern}.*')

        def look() -> Optional[re.Match[str]]:
            found = wanted.search(self.logged(since))
            if not found:
                self.alive()
            return found
        found = until(seconds, f'{self.name} logs {pattern!r}', look, 0.3)
        assert found is not None
        return found.group()

    def wait_listening(self, address: str, port: int, seconds: float = 90) -> None:
        """Wait until it accepts connections.

        :raises TimeoutError: when it does not
        :raises RuntimeError: when it ended
        """
        def ask() -> bool:
            self.alive()
            return listens(address, port)
        until(seconds, f'{self.name} listens on {address}:{port}', ask)
