# SPDX-License-Identifier: Apache-2.0
"""A process in which checks run, the files in memory between it and us, and one that has its imports behind it before it is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Collection, Mapping, Optional, Sequence

from nova_migcheck import child
from nova_migcheck.checks.base import Settings

# Seconds that a killed process is waited for; one that the kernel holds is left to it.
GRACE = 2.0
# Between two looks at it, in seconds.
_POLL = 0.003

# Names of the files beside those of the checks; no check can be called like that.
_TOLD = '<told>'
_STATUS = '<status>'


class Process:
    """One :mod:`nova_migcheck.child`. Whoever makes one ends it.

    :param names: of the checks that may run in it
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self.files = {name: os.memfd_create('migcheck') for name in (*names, _TOLD, _STATUS)}
        self._popen: Optional[subprocess.Popen[bytes]] = None
        self._turn: Optional[int] = None

    def wait_for_turn(self, entries: Mapping[str, str], modules: Sequence[str]) -> None:
        """Start it. It imports ``modules``, rehearses the checks, and does nothing until :meth:`begin`; when we end before, so does it.

        :param entries: check -> its entry point
        """
        turn, self._turn = os.pipe()
        try:
            self._start(turn, json.dumps({'turn': turn, 'modules': modules, 'status': self.files[_STATUS], 'checks': {
                name: {'entry': entry, 'out': self.files[name]} for name, entry in entries.items()}}))
        finally:
            os.close(turn)

    def begin(self, entries: Mapping[str, str], settings: Mapping[str, Settings], deadline: float) -> None:
        """Let it run checks.

        :param entries: check -> its entry point
        :param settings: check -> what it is told
        :param deadline: seconds
        """
        told = {'deadline': deadline, 'status': self.files[_STATUS], 'checks': {
            name: {'entry': entries[name], 'out': self.files[name], 'settings': vars(value)}
            for name, value in settings.items()}}
        os.write(self.files[_TOLD], json.dumps(told, default=str).encode())
        os.lseek(self.files[_TOLD], 0, os.SEEK_SET)
        if self._turn is not None:
            try:
                os.write(self._turn, b'.')
                return
            except BrokenPipeError:
                self.kill()  # somebody has done so while it waited: a new one begins with its imports
        self._start()

    def _start(self, turn: Optional[int] = None, *words: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, '-m', child.__name__, *words], stdin=self.files[_TOLD], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(*(fd for name, fd in self.files.items() if name != _TOLD), *(() if turn is None else (turn,))),
            start_new_session=True, cwd='/')

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def ended(self) -> bytes:
        """How its checks ended, as it wrote it."""
        return os.pread(self.files[_STATUS], child.MAX_BYTES, 0)

    def kill(self) -> None:
        """End it and its whole session, and reap it; give up on one that the kernel does not let go. Safe from any thread."""
        process = self._popen
        if process is None:
            return
        if process.returncode is None:
            try:
                # Not reaped yet, so this number is still its own.
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        end = time.monotonic() + GRACE
        while process.poll() is None and time.monotonic() < end:
            time.sleep(_POLL)

    def leave(self) -> None:
        """Close it when it has ended, without waiting for that: its checks have, and there is not much left to do for it."""
        def see_it_end() -> None:
            end = time.monotonic() + GRACE
            while self.runs and time.monotonic() < end:
                time.sleep(_POLL)
            self.close()

        threading.Thread(target=see_it_end, name='migcheck-leave', daemon=True).start()

    def close(self) -> None:
        """Kill it, and give back the files."""
        self.kill()
        for fd in (*self.files.values(), *(() if self._turn is None else (self._turn,))):
            os.close(fd)
        self.files, self._turn = {}, None


class Spare:
    """Keeps one process that waits for its turn: what runs while somebody waits for the answer does not begin with 0.2 s of imports.

    :param entries: check that may run in it -> its entry point
    :param modules: that are imported there before
    """

    def __init__(self, entries: Mapping[str, str], modules: Sequence[str]) -> None:
        self._entries, self._modules = entries, modules
        self._waiting: Optional[Process] = None
        self._stopped = False
        self._lock = threading.Lock()

    def take(self) -> Optional[Process]:
        """The one that waits, which is then the caller's; None when there is none, or when it has been killed."""
        with self._lock:
            process, self._waiting = self._waiting, None
        if process is not None and not process.runs:
            process.close()
            return None
        return process

    def refill(self) -> None:
        """See that there is one."""
        with self._lock:
            if self._waiting is None and not self._stopped and self._entries:
                process = Process(self._entries)
                try:
                    process.wait_for_turn(self._entries, self._modules)
                except BaseException:
                    process.close()
                    raise
                self._waiting = process

    def stop(self) -> None:
        """End it, and keep no other."""
        self._stopped = True
        process = self.take()
        if process is not None:
            process.close()
