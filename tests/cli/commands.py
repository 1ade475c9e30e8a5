# SPDX-License-Identifier: Apache-2.0
"""Run ``nova-migcheck`` as processes, without the seconds that each would take to import Nova.

They are forked from a server process that has imported it. ``exec`` of the console script itself is tested once.
"""

from __future__ import annotations

import ctypes
import dataclasses
import fcntl
import json
import multiprocessing
import os
import pty
import re
import struct
import sys
import tempfile
import termios
import threading
import time
import traceback
from typing import Any, Callable, Mapping

import pyte

_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['tests.cli.preloaded', __name__])
# Seconds that a command may take on a busy machine.
_LIMIT = 120

ESCAPE = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')


@dataclasses.dataclass(frozen=True)
class Ran:
    """How a command ended. On a terminal ``out`` holds both streams, as a person sees them."""

    code: int
    out: str
    err: str = ''

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """What is on the terminal, without colours."""
        return ESCAPE.sub('', self.out).replace('\r\n', '\n')


def in_nova(function: Callable[..., Any], *args: Any) -> None:
    """Call a function of a module in a process of its own that has imported Nova.

    :raises AssertionError: with its traceback, when it raises
    """
    with tempfile.NamedTemporaryFile('r') as told:
        process = _CONTEXT.Process(target=_call, args=(told.name, function, args))
        process.start()
        if _ended(process, str(function)):
            raise AssertionError(told.read() or f'{function} died')


def _call(told: str, function: Callable[..., Any], args: Any) -> None:
    try:
        function(*args)
    except BaseException:
        with open(told, 'w', encoding='utf-8') as file:
            traceback.print_exc(file=file)
        raise


def _ended(process: Any, what: str) -> int:
    process.join(_LIMIT)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f'{what} did not end within {_LIMIT} s')
    return process.exitcode


def _child(argv: list[str], out: str, err: str, environment: Mapping[str, str], powerless: bool) -> None:
    for name in ('COLUMNS', 'LINES'):  # which readline, that pytest imports, gives to every child; a shell does not
        os.environ.pop(name, None)
    os.environ.update(environment)
    if out == err:
        os.setsid()
    for path, streams in ((out, (0, 1, 2) if out == err else (1,)), (err, () if out == err else (2,))):
        if streams:
            fd = os.open(path, os.O_RDWR)
            for stream in streams:
                os.dup2(fd, stream)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, 'w', encoding='utf-8'), os.fdopen(2, 'w', encoding='utf-8')
    # Root without its capabilities, who may read only what belongs to root (capset(2), version 3).
    if powerless and ctypes.CDLL(None).capset(struct.pack('Ii', 0x20080522, 0), bytes(24)):
        raise OSError('capset')
    from nova_migcheck.cli import main
    code = main.main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _start(argv: Any, out: str, err: str, environment: Mapping[str, str], powerless: bool = False) -> Any:
    process = _CONTEXT.Process(target=_child, args=(list(argv), out, err, {'TERM': 'xterm-256color', **environment}, powerless))
    process.start()
    return process


class Piped:
    """A command whose output is no terminal, while it runs."""

    def __init__(self, tmp_path: Any, *argv: str, powerless: bool = False, **environment: str) -> None:
        self._paths = [tmp_path / name for name in ('stdout', 'stderr')]
        for path in self._paths:
            path.write_text('')
            path.chmod(0o666)
        self._what = str(argv)
        self._process = _start(argv, *map(str, self._paths), environment, powerless)

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """:raises TimeoutError: when it never comes to be"""
        _wait_for(condition, self._what)

    def signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def end(self) -> Ran:
        """Wait for its end."""
        code = _ended(self._process, self._what)
        out, err = (path.read_text(encoding='utf-8') for path in self._paths)
        return Ran(code, out, err)


def piped(tmp_path: Any, *argv: str, powerless: bool = False, **environment: str) -> Ran:
    """Run with output that is no terminal."""
    return Piped(tmp_path, *argv, powerless=powerless, **environment).end()


class Terminal:
    """A command on a terminal of its own, while it runs. ``screen`` is that of a terminal emulator when ``lines`` was last asked for."""

    def __init__(self, *argv: str, columns: int = 100, rows: int = 40, **environment: str) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        self._seen: list[bytes] = []
        self._drawn = 0
        self._lock = threading.Lock()
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self._what = str(argv)
        name = os.ttyname(self._slave)
        self._process = _start(argv, name, name, environment)

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                with self._lock:
                    self._seen.append(data)
        except OSError:  # the last one at the other end has gone
            pass

    @property
    def lines(self) -> list[str]:
        """What can be seen, with what has scrolled away above, without trailing blanks."""
        with self._lock:
            # Only when it is looked at: the emulator takes a second for every few hundred lines.
            for data in self._seen[self._drawn:]:
                self._stream.feed(data)
            self._drawn = len(self._seen)
            above = [''.join(line[x].data for x in range(self.screen.columns)) for line in self.screen.history.top]
            return [line.rstrip() for line in (*above, *self.screen.display)]

    def wait_for(self, text: str) -> None:
        """:raises TimeoutError: when it is never seen"""
        _wait_for(lambda: any(text in line for line in self.lines), f'{text!r} of {self._what}')

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> Ran:
        """Wait for its end."""
        try:
            code = _ended(self._process, self._what)
        finally:
            os.close(self._slave)
            self._thread.join(10)
            os.close(self._master)
        return Ran(code, b''.join(self._seen).decode())


def on_terminal(*argv: str, columns: int = 100, **environment: str) -> Ran:
    """Run on a terminal of its own, with 40 rows."""
    return Terminal(*argv, columns=columns, **environment).end()


def _wait_for(condition: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + _LIMIT
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f'not seen within {_LIMIT} s: {what}')
        time.sleep(0.02)
