# SPDX-License-Identifier: Apache-2.0
"""Look at a file system in a process of its own, which may hang there, and never wait for it."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import Any, Callable, Mapping, Optional

from nova_migcheck.processes import start_time

# Seconds that a killed process is given to end. One in uninterruptible sleep never does.
_REAP = 0.3


class Look:
    """A process that looks at something. Nothing here waits longer than asked for.

    :param look: runs in the process, and returns a JSON object
    """

    def __init__(self, look: Callable[[], Mapping[str, Any]]) -> None:
        self._answer, end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                os.write(end, json.dumps(look()).encode())
            finally:
                os._exit(0)
        os.close(end)

    def wait(self, seconds: float) -> Optional[dict[str, Any]]:
        """Return what it found; None if it did not answer, ``stuck`` if it cannot be killed."""
        end = time.monotonic() + seconds
        text = b''
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        try:
            while poll.poll(max(0.0, end - time.monotonic()) * 1000):
                data = os.read(self._answer, 65536)
                if not data:
                    break
                text += data
        finally:
            os.close(self._answer)
        gone = self._end()
        try:
            found = json.loads(text)
        except ValueError:
            return None if gone else {'stuck': {'pid': self._pid, 'since': start_time(self._pid)}}
        return found if isinstance(found, dict) else None

    def _end(self) -> bool:
        os.kill(self._pid, signal.SIGKILL)
        end = time.monotonic() + _REAP
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True


def stuck(memory: Any) -> Optional[dict[str, Any]]:
    """Return the process of an earlier round if the kernel still holds it."""
    if not isinstance(memory, dict) or not memory.get('since'):
        return None
    return memory if start_time(memory.get('pid', 0)) == memory['since'] else None
