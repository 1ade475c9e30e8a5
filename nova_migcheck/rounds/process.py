# SPDX-License-Identifier: Apache-2.0
"""A process in which checks run, and the files in memory between it and us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Collection, Mapping, Optional

from nova_migcheck.checksettings import Settings
from nova_migcheck.rounds import child

# Seconds that a killed process is waited for; one that the kernel holds is left to it.
GRACE = 2.0
# Between two looks at it, in seconds.
_POLL = 0.003

# Names of the files beside those of the checks; no check can be called like that.
_TOLD = '<told>'
_STATUS = '<status>'


class Process:
    """One :mod:`nova_migcheck.rounds.child`. Whoever makes one ends it.

    :param names: of the checks that may run in it
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self.files = {name: os.memfd_create('migcheck') for name in (*names, _TOLD, _STATUS)}
        self._popen: Optional[subprocess.Popen[bytes]] = None

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
        self._popen = subprocess.Popen(
            [sys.executable, '-m', child.__name__], stdin=self.files[_TOLD], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=[fd for name, fd in self.files.items() if name != _TOLD],
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

    def close(self) -> None:
        """Kill it, and give back the files."""
        self.kill()
        for fd in self.files.values():
            os.close(fd)
        self.files = {}
