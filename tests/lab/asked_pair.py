# SPDX-License-Identifier: Apache-2.0
"""A source with a guest, and a target that a test starts: what our check says, and libvirt itself.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
from typing import Any, Callable, Iterator, Optional

from nova_migcheck.finding import Finding, Outcome
from tests.lab import sshd
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.two_hosts import TwoHosts

NOBODY = 65534
# Options of a target that wants a login.
SASL: Any = {'mechanisms': 'digest-md5', 'users': {'nova': 'good'}}
GUEST = """<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/>
<video><model type='{video}'/></video><graphics type='vnc' listen='127.0.0.1'/><memballoon model='none'/></devices></domain>"""


class Cloud:
    """A source with a running guest, and a target that a test starts.

    :ivar guest: UUID of the guest
    """

    def __init__(self, hosts: TwoHosts, cleanup: contextlib.ExitStack, cache: pathlib.Path) -> None:
        self.hosts, self._cleanup, self.cache = hosts, cleanup, cache
        # The user of libvirtd has keys and passwords there.
        for directory in ('/root/.ssh', '/root/.config'):
            hosts.source.run('mkdir', '-p', '-m', '700', directory)
            hosts.source.run('mount', '-t', 'tmpfs', '-o', 'mode=700', 'none', directory)
        self.source = cleanup.enter_context(LibvirtHost(hosts.source, cache=cache))
        self.guest = ''
        self.target: Optional[LibvirtHost] = None

    def start(self, video: str = 'vga') -> None:
        self.guest = self.source.connect().createXML(GUEST.format(video=video)).UUIDString()

    def listen(self, change: Callable[[str], str] = str, **options: Any) -> LibvirtHost:
        """Start the target.

        :param change: what its libvirt believes of its QEMU
        :param options: of :class:`LibvirtHost`
        """
        known = self.cache.with_name('changed')
        if change is not str:
            subprocess.run(['cp', '-a', str(self.source.root / 'cache'), str(known)], check=True)
            for file in known.glob('qemu/capabilities/*.xml'):
                file.write_text(change(file.read_text()))
        self.target = LibvirtHost(
            self.hosts.target,
            cache=known if known.exists() else self.source.root / 'cache',
            **options,
        )
        return self._cleanup.enter_context(self.target)

    def ask(self, user: int = 0, **options: Any) -> list[Finding]:
        """What the transport check says, without what is well of names and ports."""
        found = self.hosts.transport(
            '10.66.0.12',
            server=self.guest,
            user=user,
            timeout=5.0,
            ask_target='auto',
            connection_uri=self.source.uri,
            virt_type='qemu',
            **options,
        )
        return [
            one
            for one in found.findings
            if one.outcome is not Outcome.OK or one.detail.startswith('libvirt ')
        ]

    def migrate(self, uri: str = 'qemu+tcp://10.66.0.12/system') -> str:
        """What libvirt says of the migration; '' when it arrives."""
        import libvirt

        try:
            self.source.connect().lookupByUUIDString(self.guest).migrateToURI3(
                uri,
                {libvirt.VIR_MIGRATE_PARAM_URI: 'tcp://10.66.0.12'},
                libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER,
            )
        except libvirt.libvirtError as error:
            return str(error)
        return ''


def assert_refused(findings: list[Finding], code: str, said: str, *words: str) -> None:
    """One failure, in libvirt's words; libvirt says the same of the migration."""
    (failure,) = findings
    assert (failure.outcome, failure.code) == (Outcome.FAILURE, code)
    assert said
    for word in words:
        assert word in failure.detail and word in said, (failure.detail, said)


def password_of(
    cloud: Cloud, password: str, section: str = '10.66.0.12', user: str = 'nova'
) -> None:
    """Give the libvirtd of the source a login."""
    cloud.hosts.source.write(
        '/root/.config/libvirt/auth.conf',
        f"""
[credentials-nova]
authname={user}
password={password}

[auth-libvirt-{section}]
credentials=nova
""",
        '600',
    )


class Sshd(sshd.Sshd):
    """An sshd beside the target's libvirtd, for root with the source's key."""

    def __init__(self, cloud: Cloud, target: LibvirtHost) -> None:
        pid = (target.root / 'libvirtd.pid').read_text().strip()
        inside = ['nsenter', '--target', pid, '--net', '--mount', '--uts', '--']
        super().__init__(target.root, '0.0.0.0', inside=inside)
        self.cloud = cloud

    def _setUp(self) -> None:
        super()._setUp()
        self.trust('host')
        self.use('user')

    def trust(self, name: str = '', hashed: bool = False) -> None:
        """Put a host key for the target into known_hosts; none if it has no name."""
        self.cloud.hosts.source.write(
            '/root/.ssh/known_hosts', f'10.66.0.12 {self.keys[name]}\n' if name else ''
        )
        if hashed:
            self.cloud.hosts.source.run('ssh-keygen', '-q', '-H', '-f', '/root/.ssh/known_hosts')

    def use(self, key: str) -> None:
        assert self.cloud.target is not None
        self.cloud.hosts.source.write(
            '/root/.ssh/id_ed25519', (self.cloud.target.root / key).read_text(), '600'
        )


_HOLD = """
import socket, sys
held = [socket.create_connection(('10.66.0.12', 16509)) for _ in range(int(sys.argv[1]))]
print('held', flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def clients(cloud: Cloud, count: int) -> Iterator[None]:
    """Clients of the target that say nothing."""
    process = subprocess.Popen(
        cloud.hosts.source.inside(sys.executable, '-c', _HOLD, str(count)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b'held\n'
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(20)
