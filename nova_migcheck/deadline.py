# SPDX-License-Identifier: Apache-2.0
"""Call what may block for ever, such as a stopped libvirtd or a dead mount, under a deadline.

Plain ``threading`` is used. Under eventlet these are green threads, and Nova's own libvirt
connection hands its calls to native ones.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable, Generic, Optional, TypeVar

T = TypeVar('T')


class Call(Generic[T]):
    """``function(*args)``, begun in a daemon thread, which cannot keep the process alive."""

    def __init__(self, function: Callable[..., T], *args: Any) -> None:
        self._result: list[T] = []
        self._error: list[BaseException] = []
        # Waited for instead of the thread: under eventlet on Python 3.13 a join() that times out
        # raises eventlet's Timeout, a BaseException.
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(function, args), name='migcheck-call',
                         daemon=True).start()

    def _run(self, function: Callable[..., T], args: tuple[Any, ...]) -> None:
        try:
            self._result.append(function(*args))
        except BaseException as e:
            self._error.append(e)
        finally:
            self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether the function has come back."""
        return self._ended.is_set()

    def wait(self, seconds: float) -> T:
        """Return or raise what the function does.

        :raises TimeoutError: after ``seconds``; the call goes on, and may be waited for again
        """
        if not self._ended.wait(seconds):
            raise TimeoutError(f'no answer within {seconds:g} s')
        if self._error:
            raise self._error[0]
        return self._result[0]


class Bounded:
    """Calls that may hang. While one hangs, the others fail at once instead of piling up."""

    def __init__(self) -> None:
        self._hung: Optional[Call[Any]] = None

    @property
    def hangs(self) -> bool:
        """Whether a call that was given up has not come back yet."""
        return self._hung is not None and not self._hung.ended

    def call(self, seconds: float, function: Callable[..., T], *args: Any) -> T:
        """Return or raise what ``function(*args)`` does.

        :raises TimeoutError: after ``seconds``, or at once while an earlier call still hangs
        """
        if self.hangs:
            raise TimeoutError('an earlier call has not come back yet')
        call = Call(function, *args)
        try:
            return call.wait(seconds)
        except TimeoutError:
            # The function may raise it by itself: what counts is whether it has come back.
            if not call.ended:
                self._hung = call
            raise


def is_exit(error: BaseException) -> bool:
    """Return whether an exception is meant to end its thread or the process."""
    if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        return True
    greenlet: Any = sys.modules.get('greenlet')  # there only where eventlet is
    return greenlet is not None and isinstance(error, greenlet.GreenletExit)
