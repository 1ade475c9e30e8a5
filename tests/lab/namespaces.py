# SPDX-License-Identifier: Apache-2.0
"""Hosts made of network, mount and UTS namespaces, joined by veth pairs: real addresses, routes, firewalls and hosts files.

Nothing outlives the fixture: the namespaces last as long as one process which ends when its standard input closes, and that closes
even when the test run is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
from typing import Any, Callable, Optional, Union

import fixtures

from nova_migcheck.checks.base import Fact, Settings
from nova_migcheck.finding import Finding, Outcome
from tests.lab import inside

_ROOT = pathlib.Path(__file__).parents[2]

#: Where a host has its own, whatever root a program in it has.
HOST_FILES = ('/etc/hosts', '/etc/resolv.conf', '/etc/nsswitch.conf')

# A fresh sysfs shows the devices of the namespace. /etc may be written to: it is an overlay in memory. The resolver is the hosts file,
# and a name server that is not there.
_HOLD = """
set -eu
hostname {name}
mount -t sysfs sysfs /sys
mkdir {files}/etc
mount -t tmpfs tmpfs {files}/etc
mkdir {files}/etc/upper {files}/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={files}/etc/upper,workdir={files}/etc/work /etc
for file in hosts resolv.conf nsswitch.conf; do mount --bind {files}/$file /etc/$file; done
ip link set lo up
echo ready
exec cat
"""


def missing() -> str:
    """What this machine lacks for :class:`Namespace`, '' when it has all."""
    if os.geteuid() != 0:
        return 'not root'
    for program in ('unshare', 'nsenter', 'ip', 'nft'):
        if shutil.which(program) is None:
            return f'no {program}'
    return ''


class HostsFile:
    """The ``/etc/hosts`` of one namespace. It is bind-mounted, so it is written in place."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.write('127.0.0.1 localhost')

    def write(self, *lines: str) -> None:
        self.path.write_text('\n'.join(lines) + '\n')

    def add(self, *lines: str) -> None:
        with open(self.path, 'a') as file:
            file.writelines(f'{line}\n' for line in lines)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a check yielded in a namespace."""

    findings: list[Finding]
    facts: dict[str, Any]
    seconds: float

    def only(self, outcome: Outcome) -> list[Finding]:
        return [finding for finding in self.findings if finding.outcome is outcome]

    @property
    def failures(self) -> list[Finding]:
        return self.only(Outcome.FAILURE)

    def one(self, outcome: Outcome) -> Finding:
        """The one finding of that outcome."""
        found = self.only(outcome)
        assert len(found) == 1, f'{len(found)} findings of outcome {outcome} instead of one:\n{self.text}'
        return found[0]

    @property
    def text(self) -> str:
        """All that is not well, for an assertion's message."""
        return '\n'.join(f'{finding.outcome}: {finding}' for finding in self.findings if finding.outcome is not Outcome.OK)


class Namespace(fixtures.Fixture):
    """One host.

    :param name: its host name
    :ivar hosts: its ``/etc/hosts``
    :ivar pid: of the process that holds its namespaces
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _setUp(self) -> None:
        files = pathlib.Path(tempfile.mkdtemp(prefix='namespace-'))
        self.addCleanup(shutil.rmtree, files, ignore_errors=True)
        self.hosts = HostsFile(files / 'hosts')
        (files / 'resolv.conf').write_text('nameserver 127.0.0.1\noptions timeout:1 attempts:1\n')
        (files / 'nsswitch.conf').write_text('hosts: files dns\n')
        self.files = files
        holder = subprocess.Popen(
            ['unshare', '--net', '--mount', '--uts', '--propagation', 'private', 'sh', '-c', _HOLD.format(name=self.name, files=files)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdin is not None and holder.stdout is not None
        self.pid = holder.pid
        self.addCleanup(holder.wait, 10)
        self.addCleanup(holder.stdin.close)
        self.addCleanup(holder.stdout.close)
        if holder.stdout.readline() != b'ready\n':
            raise RuntimeError(f'namespace {self.name} could not be made')

    def inside(self, *command: str) -> list[str]:
        """The command line that runs ``command`` in this host."""
        return ['nsenter', '--target', str(self.pid), '--net', '--mount', '--uts', f'--wd={_ROOT}', '--', *command]

    def run(self, *command: str, text: Optional[str] = None) -> str:
        """Run a command to its end.

        :raises AssertionError: when it fails
        """
        done = subprocess.run(self.inside(*command), input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f'{" ".join(command)}: {done.stderr}'
        return done.stdout

    def write(self, path: str, content: Union[str, bytes], mode: str = '644') -> None:
        """Put a file somewhere under its own ``/etc``."""
        text = content if isinstance(content, str) else content.decode()
        self.run('sh', '-c', f'mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}', text=text)

    def ip(self, *commands: str) -> None:
        """Run ``ip`` commands, all in one process."""
        self.run('ip', '-batch', '-', text='\n'.join(commands) + '\n')

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface addresses, usable at once (IPv6 without duplicate address detection)."""
        self.ip(*(f'address add {address} dev {interface}' + (' nodad' if ':' in address else '') for address in addresses))

    def drop(self, rule: str, verdict: str = 'drop', hook: str = 'input') -> None:
        """Add a firewall rule for what comes in (``output``: goes out), e.g. ``tcp dport 49152-49215``."""
        self.run('nft', '-f', '-', text=f"""
            table inet test {{
              chain {hook} {{
                type filter hook {hook} priority 0;
                {rule} {verdict}
              }}
            }}""")

    def sysctl(self, name: str, value: Union[int, str]) -> None:
        self.run('sh', '-c', f'echo {value} > /proc/sys/{name.replace(".", "/")}')

    def counters(self, interface: str) -> tuple[int, int]:
        """Bytes received and sent on an interface."""
        path = f'/sys/class/net/{interface}/statistics'
        received, sent = self.run('cat', f'{path}/rx_bytes', f'{path}/tx_bytes').split()
        return int(received), int(sent)

    def check(self, path: str, settings: Settings, user: int = 0) -> Found:
        """Run a check inside.

        :param path: ``module:class``
        :param user: number of the user that it runs as
        """
        results, seconds = inside.run(self.pid, path, settings, user)
        return Found([one for one in results if isinstance(one, Finding)],
                     {one.name: one.value for one in results if isinstance(one, Fact)}, seconds)

    def listen(self, address: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        """Listen inside; each connection is handed to ``serve`` in a thread of its own, until the fixture is cleaned up."""
        listener = self._socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        self.addCleanup(listener.close)
        self.addCleanup(_quietly, lambda: listener.shutdown(socket.SHUT_RDWR))

        def accept() -> None:
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_quietly, args=(lambda: _serve(connection, serve),), daemon=True).start()  # noqa: B023

        threading.Thread(target=accept, daemon=True).start()

    def _socket(self, family: int) -> socket.socket:
        """A socket of this network namespace: a thread goes there, makes it, and is gone."""
        made: list[socket.socket] = []

        def make() -> None:
            made.append(inside.opened(self.pid, family))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]


def join(one: Namespace, other: Namespace, name: str, mtu: int = 1500, up: bool = True) -> None:
    """Join two hosts by a cable; its end is called ``name`` in both."""
    one.ip(f'link add {name} mtu {mtu} type veth peer name {name} mtu {mtu} netns {other.pid}')
    if up:
        for host in (one, other):
            host.ip(f'link set {name} up')


class Switch(Namespace):
    """A host whose bridges are other hosts' networks."""

    def plug(self, network: str, host: Namespace, interface: str) -> None:
        """Connect ``interface`` of a host, which is made, to the bridge ``network``, which is made at its first use."""
        port = f'{network}{host.pid}{len(interface)}'[-15:]
        with contextlib.suppress(AssertionError):
            self.ip(f'link add {network} type bridge', f'link set {network} up')
        self.ip(f'link add {port} type veth peer name {interface} netns {host.pid}', f'link set {port} master {network} up')
        host.ip(f'link set {interface} up')


def _serve(connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with connection:
        serve(connection)


def _quietly(call: Callable[[], Any]) -> None:
    with contextlib.suppress(OSError):
        call()


def until_closed(connection: socket.socket) -> None:
    """Accept, and never answer: what a hung daemon looks like."""
    while connection.recv(4096):
        pass


def libvirtd(connection: socket.socket) -> None:
    """Answer as libvirtd does to a client's first call, AUTH_LIST: no authentication."""
    call = connection.recv(4096)
    if call[4:8] == b'\x20\x00\x80\x86':
        connection.sendall(b'\x00\x00\x00\x24' + call[4:16] + b'\x00\x00\x00\x01' + call[20:24] + b'\x00\x00\x00\x00'
                           + b'\x00\x00\x00\x01\x00\x00\x00\x00')
    until_closed(connection)


def ssh(connection: socket.socket) -> None:
    """Greet as an ssh server does."""
    connection.sendall(b'SSH-2.0-test\r\n')
    until_closed(connection)


def taps(host: Namespace, count: int) -> None:
    """Many tap devices, as the guests of a full host have."""
    host.ip(*(f'tuntap add dev tap{number} mode tap' for number in range(count)))


