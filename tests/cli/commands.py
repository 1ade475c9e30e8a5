# SPDX-License-Identifier: Apache-2.0
"""Run ``nova-migcheck`` as processes, without the seconds that each would take to import Nova.

They are forked from a server process that has imported it. ``exec`` of the console script itself is tested once.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import multiprocessing
import os
import pathlib
import pty
import re
import struct
import sys
import termios
import threading
from typing import Any, Mapping

_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['nova_migcheck.fleet', 'nova_migcheck.cli.main', 'nova_migcheck.cli.matrix', 'nova_migcheck.cli.hosts',
                                 'nova_migcheck.cli.explain', 'nova_migcheck.cli.check', 'nova_migcheck.cli.terminal', __name__])
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


def _child(argv: list[str], out: str, err: str, environment: Mapping[str, str], powerless: bool) -> None:
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


def piped(tmp_path: Any, *argv: str, powerless: bool = False, **environment: str) -> Ran:
    """Run with output that is no terminal."""
    paths = [str(tmp_path / name) for name in ('stdout', 'stderr')]
    for path in paths:
        with open(path, 'w', encoding='utf-8'):
            os.chmod(path, 0o666)
    code = _run(argv, *paths, {'TERM': 'xterm-256color', **environment}, powerless)
    out, err = (pathlib.Path(path).read_text(encoding='utf-8') for path in paths)
    return Ran(code, out, err)


def on_terminal(*argv: str, columns: int = 100, **environment: str) -> Ran:
    """Run on a terminal of its own, with 40 rows."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, columns)) if hasattr(termios, 'tcsetwinsize') else _set_size(slave, columns)
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(master, 65536):
                seen.append(data)
        except OSError:  # the last one at the other end has gone
            pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        name = os.ttyname(slave)
        environment = {'TERM': 'xterm-256color', 'COLUMNS': str(columns), 'LINES': '40', **environment}
        code = _run(argv, name, name, environment, False)
    finally:
        os.close(slave)
        thread.join(10)
        os.close(master)
    return Ran(code, b''.join(seen).decode())


def _set_size(fd: int, columns: int) -> None:
    import fcntl
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 40, columns, 0, 0))


def _run(argv: Any, out: str, err: str, environment: Mapping[str, str], powerless: bool) -> int:
    process = _CONTEXT.Process(target=_child, args=(list(argv), out, err, dict(environment), powerless))
    process.start()
    process.join(_LIMIT)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f'{argv} did not end within {_LIMIT} s')
    return process.exitcode
