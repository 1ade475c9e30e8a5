# SPDX-License-Identifier: Apache-2.0
"""Run one check inside a namespace, in a process forked from a clean one that has the heavy imports done.

They are not only heavy: Python may lie in a home directory that the user of a check may not enter.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401
import contextlib
import ctypes
import encodings.idna  # noqa: F401
import importlib
import multiprocessing
import os
import socket
import time
from multiprocessing.connection import Connection
from typing import Any

import cryptography.hazmat.primitives.serialization
import cryptography.x509  # noqa: F401
import keystoneauth1.identity
import keystoneauth1.session  # noqa: F401
import pyroute2  # noqa: F401
import requests  # noqa: F401

from nova_migcheck.checks.base import Settings

# Seconds until a process that has said all is killed: a check may have left a thread that hangs.
ENDING = 2.0
_NAMESPACES = ('net', 'uts', 'mnt')

_clean = multiprocessing.get_context('forkserver')
_clean.set_forkserver_preload([__name__])


def run(pid: int, check: str, settings: Settings, user: int = 0, seconds: float = 60) -> tuple[list[Any], float]:
    """What a check yields in the namespaces of a process, and how many seconds it took.

    :param check: ``module:class``
    :param user: number of the user that it runs as
    """
    ours, theirs = _clean.Pipe(duplex=False)
    process = _clean.Process(target=_inside, args=(pid, check, settings, user, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise AssertionError(f'{check} did not come back within {seconds} s')
        said: tuple[list[Any], float] = ours.recv()
        # It has little left to do, but where coverage is measured, that is to write what was.
        process.join(ENDING)
        return said
    finally:
        process.kill()
        process.join()
        ours.close()


def _inside(pid: int, check: str, settings: Settings, user: int, to: Connection) -> None:
    enter(pid)
    module, _colon, name = check.partition(':')
    checked = getattr(importlib.import_module(module), name)()
    os.setuid(user)
    start = time.monotonic()
    results = list(checked.run(settings))
    to.send((results, time.monotonic() - start))


def enter(pid: int, *kinds: str) -> None:
    """Go into namespaces of another process; all that a :class:`~tests.lab.namespaces.Namespace` has, unless named.

    :raises OSError: when the kernel does not let us
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as opened_here:
        # All of them first: there is another /proc to see in another mount namespace.
        for file in [opened_here.enter_context(open(f'/proc/{pid}/ns/{kind}')) for kind in kinds or _NAMESPACES]:
            if libc.setns(file.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), f'setns {file.name}')


def opened(pid: int, family: int) -> socket.socket:
    """A TCP socket that lives in the network namespace of another process; for a thread that does nothing else."""
    enter(pid, 'net')
    return socket.socket(family, socket.SOCK_STREAM)
