# SPDX-License-Identifier: Apache-2.0
"""Call what may block for ever (a libvirtd that was stopped, a resolver, a mount that is gone), and wait only so long."""

from __future__ import annotations

import threading
from typing import Any, Callable, Generic, Optional, TypeVar

T = TypeVar('T')


class Call(Generic[T]):
    """``function(*args)``, begun in a daemon thread, which cannot keep the process alive.

    Plain ``threading``: under eventlet these are green threads, and Nova's own libvirt connection hands its calls to native ones.
    """

    def __init__(self, function: Callable[..., T], *args: Any) -> None:
        self._result: list[T] = []
        self._error: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, args=(function, args), name='migcheck-call', daemon=True)
        self.thread.start()

    def _run(self, function: Callable[..., T], args: tuple[Any, ...]) -> None:
        try:
            self._result.append(function(*args))
        except BaseException as e:
            self._error.append(e)

    def wait(self, seconds: float) -> T:
        """What the function returns or raises.

        :raises TimeoutError: after ``seconds``; it goes on, and may be waited for again
        """
        self.thread.join(seconds)
        if self.thread.is_alive():
            raise TimeoutError(f'no answer within {seconds:g} s')
        if self._error:
            raise self._error[0]
        return self._result[0]


class Bounded:
    """One thread at a time for calls that may hang. While one hangs, the others fail at once instead of piling up."""

    def __init__(self) -> None:
        self._hung: Optional[threading.Thread] = None

    def call(self, seconds: float, function: Callable[..., T], *args: Any) -> T:
        """What ``function(*args)`` returns or raises.

        :raises TimeoutError: after ``seconds``, or at once while an earlier call still hangs
        """
        if self._hung is not None and self._hung.is_alive():
            raise TimeoutError('an earlier call has not come back yet')
        call = Call(function, *args)
        try:
            return call.wait(seconds)
        except TimeoutError:
            # The function may raise it by itself: what counts is whether it has come back.
            if call.thread.is_alive():
                self._hung = call.thread
            raise
