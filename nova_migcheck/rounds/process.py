# SPDX-License-Identifier: Apache-2.0
"""Start and end the process in which checks run, and hold the memory files shared with it."""

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

# Seconds to wait for a killed process. One in uninterruptible sleep is left alone after that.
GRACE = 2.0
# Seconds between two polls of a killed process.
_POLL = 0.003

# Names of the files other than those of the checks; not valid names for a check.
_INPUT = '<input>'
_STATUS = '<status>'


class Process:
    """Run a :mod:`nova_migcheck.rounds.child`. Whoever creates it must close it.

    :param names: names of the checks that may run in it
    """

    def __init__(self, names: Collection[str]) -> None:
        self.files = {name: os.memfd_create('migcheck') for name in (*names, _INPUT, _STATUS)}
        self._popen: Optional[subprocess.Popen[bytes]] = None

    def begin(self, entries: Mapping[str, str], settings: Mapping[str, Settings],
              deadline: float) -> None:
        """Start the process, which runs the checks that ``settings`` names.

        :param entries: check -> its entry point
        :param settings: check -> its settings
        :param deadline: in seconds
        """
        checks = {name: {'entry': entries[name], 'out': self.files[name], 'settings': vars(value)}
                  for name, value in settings.items()}
        task = {'deadline': deadline, 'status': self.files[_STATUS], 'checks': checks}
        os.write(self.files[_INPUT], json.dumps(task, default=str).encode())
        os.lseek(self.files[_INPUT], 0, os.SEEK_SET)
        self._popen = subprocess.Popen(
            [sys.executable, '-m', child.__name__],
            stdin=self.files[_INPUT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=[fd for name, fd in self.files.items() if name != _INPUT],
            start_new_session=True, cwd='/')

    @property
    def runs(self) -> bool:
        """Return whether it still runs."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def ended(self) -> bytes:
        """Return what it wrote about how its checks ended."""
        return os.pread(self.files[_STATUS], child.MAX_BYTES, 0)

    def kill(self) -> None:
        """Kill its whole session and reap it; give up after :data:`GRACE`.

        Safe from any thread.
        """
        process = self._popen
        if process is None:
            return
        if process.returncode is None:
            try:
                # It has not been reaped yet, so the process ID is still its own.
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        end = time.monotonic() + GRACE
        while process.poll() is None and time.monotonic() < end:
            time.sleep(_POLL)

    def close(self) -> None:
        """Kill it, and close its files."""
        self.kill()
        for fd in self.files.values():
            os.close(fd)
        self.files = {}
