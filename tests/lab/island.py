# SPDX-License-Identifier: Apache-2.0
"""A cloud in one network namespace: hosts are addresses of its loopback."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from typing import Any, Iterator, Sequence

from tests.lab.namespaces import Namespace

_CLONE_NEWNET = 0x40000000


class Island(Namespace):
    """What has no route there is unreachable at once; to be refused, ask a port nobody listens on; :meth:`swallow` drops.

    :param addresses: of its loopback
    """

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        super().__init__('compute1')
        self._addresses = addresses

    def _setUp(self) -> None:
        super()._setUp()
        self.address('lo', *self._addresses)

    def swallow(self, address: str) -> None:
        """Packets to ``address`` vanish."""
        self.drop(f'ip daddr {address}')

    def resolver(self, address: str) -> None:
        """Ask this name server, for longer than any test waits."""
        (self.files / 'resolv.conf').write_text(f'nameserver {address}\noptions timeout:30 attempts:1\n')

    def popen(self, *command: str, **kwargs: Any) -> subprocess.Popen[str]:
        """Start a server, in a process group and a pid namespace of its own: what makes itself a daemon ends with it too,
        and all of it with this process, however that ends."""
        contained = self.inside('unshare', '--pid', '--fork', '--kill-child', '--mount-proc', *command)
        return subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', *contained], text=True, start_new_session=True, **kwargs)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the island's network; a socket made here stays there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f'/proc/self/task/{threading.get_native_id()}/ns/net') as home, open(f'/proc/{self.pid}/ns/net') as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            try:
                yield
            finally:
                if libc.setns(home.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
