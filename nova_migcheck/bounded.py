# SPDX-License-Identifier: Apache-2.0
"""Call what may block for ever (a libvirtd that was stopped, a mount that is gone), and wait only so long."""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional, TypeVar

T = TypeVar('T')


class Bounded:
    """One thread at a time for calls that may hang. While one hangs, the others fail at once instead of piling up.

    Plain ``threading``: under eventlet these are green threads, and Nova's own libvirt connection hands its calls to native ones.
    """

    def __init__(self) -> None:
        self._hung: Optional[threading.Thread] = None

    def call(self, seconds: float, function: Callable[..., T], *args: Any) -> T:
        """What ``function(*args)`` returns or raises.

        :raises TimeoutError: after ``seconds``, or at once while an earlier call still hangs
        """
        if self._hung is not None and self._hung.is_alive():
            raise TimeoutError('an earlier call has not come back yet')
        result: list[T] = []
        error: list[BaseException] = []

        def run() -> None:
            try:
                result.append(function(*args))
            except BaseException as e:
                error.append(e)

        thread = threading.Thread(target=run, name='migcheck-call', daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self._hung = thread
            raise TimeoutError(f'no answer within {seconds:g} s')
        if error:
            raise error[0]
        return result[0]
