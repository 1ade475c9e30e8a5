# SPDX-License-Identifier: Apache-2.0
"""A host of its own on this machine: network, names and resolver, reachable by nobody."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Iterator, Sequence

import fixtures

_CLONE_NEWNET = 0x40000000


class Island(fixtures.Fixture):
    """A network and mount namespace with ``addresses`` on its loopback, and hosts and resolv.conf files of its own.

    What has no route there is unreachable at once; to be refused, ask a port nobody listens on; :meth:`drop` swallows.
    """

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        super().__init__()
        self._wanted = addresses

    def _setUp(self) -> None:
        self.path = Path(self.useFixture(fixtures.TempDir()).path)
        binds = []
        for name, text in (('hosts', '127.0.0.1 localhost\n::1 localhost\n'), ('resolv.conf', ''),
                           ('nsswitch.conf', 'hosts: files dns\n')):
            (self.path / name).write_text(text)
            binds.append(f'mount --bind {self.path / name} /etc/{name}')
        addresses = [f'ip address add {address} dev lo nodad' if ':' in address else f'ip address add {address} dev lo'
                     for address in self._wanted]
        script = ' && '.join(['mount --make-rprivate /', *binds, 'ip link set lo up', *addresses,
                              'nft add table inet island',
                              "nft add chain inet island input '{ type filter hook input priority 0; }'",
                              'echo up', 'exec cat'])
        # cat ends with the pipe, and the namespaces with it, also when the tests are killed.
        # It is process 1 of a pid namespace: what was started on the island (epmd makes itself a daemon) ends too.
        self._holder = subprocess.Popen(
            ['unshare', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self._end)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == 'up\n', 'the island did not come up'
        self._first = int(Path(f'/proc/{self._holder.pid}/task/{self._holder.pid}/children').read_text())

    def _end(self) -> None:
        self._holder.communicate()

    def command(self, *args: str) -> list[str]:
        """``args`` as they are run on the island."""
        return ['nsenter', '--target', str(self._first), '--net', '--mount', '--pid', '--', *args]

    def run(self, *args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*args), check=True, text=True, capture_output=True, **kwargs)

    def drop(self, address: str, protocol: str = '') -> None:
        """Packets to ``address`` vanish."""
        family = 'ip6' if ':' in address else 'ip'
        self.run('nft', f'add rule inet island input {family} daddr {address} {protocol} drop')

    def hosts(self, text: str) -> None:
        (self.path / 'hosts').write_text('127.0.0.1 localhost\n::1 localhost\n' + text)

    def resolver(self, address: str) -> None:
        (self.path / 'resolv.conf').write_text(f'nameserver {address}\noptions timeout:30 attempts:1\n')

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the island's network; a socket made here stays there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f'/proc/self/task/{threading.get_native_id()}/ns/net') as home, \
                open(f'/proc/{self._first}/ns/net') as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            try:
                yield
            finally:
                if libc.setns(home.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
