# SPDX-License-Identifier: Apache-2.0
"""Names, addresses, interfaces."""

from __future__ import annotations

from tests.lab.cloud.compute_node import MANAGEMENT, MIGRATION, plug
from tests.lab.cloud.faults import TARGET, Fault


class Names(Fault):
    """A row about names: the hosts files are put back."""

    def clear(self) -> None:
        for node in self.cloud.nodes.values():
            node.hosts_file()

    def rename(self, name: str, address: str, *nodes: str) -> None:
        """Give a name another address in the hosts files of these hosts."""
        for node in nodes:
            file = self.cloud.nodes[node].host.hosts
            lines = [line for line in file.path.read_text().splitlines() if line.split()[1:] != [name]]
            file.write(*lines, *([f'{address} {name}'] if address else []))


class A1(Names):
    """The inbound address resolves to the management interface's address."""

    names = (r'10\.66\.0\.12', MANAGEMENT, r'10\.77\.0\.0/24|mig0')

    def set(self) -> None:
        self.rename(f'{TARGET}-mig', '10.66.0.12', *self.cloud.nodes)


class A2(Fault):
    """The inbound address is on no interface of the target."""

    names = (r'10\.77\.0\.99',)
    restarted = ('target',)

    def set(self) -> None:
        self.configure(self.target, {'libvirt': {'live_migration_inbound_addr': '10.77.0.99'}})

    def clear(self) -> None:
        self.configure(self.target, {})


class A3(Names):
    """The target's name stands on two lines of the source's hosts file, with different addresses."""

    names = (r'10\.66\.0\.12', r'10\.77\.0\.12', r'/etc/hosts:\d+.*/etc/hosts:\d+|lines? \d+.* \d+')

    def set(self) -> None:
        lines = self.source.host.hosts.path.read_text().splitlines()
        self.source.host.hosts.write(f'10.66.0.12 {TARGET}-mig', *lines)


class A4(Names):
    """The target's own name stands on two lines of its hosts file, and no inbound address is set."""

    names = (r'10\.66\.0\.12', r'10\.77\.0\.12', r'/etc/hosts:\d+.*/etc/hosts:\d+|lines? \d+.* \d+')
    restarted = ('target',)

    def set(self) -> None:
        self.configure(self.target, {'libvirt': {'live_migration_inbound_addr': None}})
        for node in self.cloud.nodes:
            self.rename(TARGET, '10.77.0.12', node)
        self.target.host.hosts.add(f'10.66.0.12 {TARGET}')

    def clear(self) -> None:
        super().clear()
        self.configure(self.target, {})


class A5(Names):
    """On the source, the target's name resolves to 127.0.1.1."""

    names = (f'{TARGET}-mig', r'127\.0\.1\.1')

    def set(self) -> None:
        self.rename(f'{TARGET}-mig', '127.0.1.1', self.source.name)


class A6(Names):
    """On the source, the target's name does not resolve."""

    names = (f'{TARGET}-mig',)

    def set(self) -> None:
        self.rename(f'{TARGET}-mig', '', self.source.name)


class A7(Fault):
    """The source's route to the target's address leaves by the management interface."""

    names = (MANAGEMENT, MIGRATION)

    def set(self) -> None:
        self.source.host.ip(f'route add 10.77.0.12/32 via 10.66.0.12 dev {MANAGEMENT}')

    def clear(self) -> None:
        self.source.host.ip('route del 10.77.0.12/32')


class A8(Fault):
    """The target has a second interface in the migration network, and both answer for either address."""

    names = (MIGRATION, 'mig1', r'10\.77\.0\.0/24')

    def set(self) -> None:
        plug(self.target.host, 'mig', 'mig1')
        self.target.host.address('mig1', '10.77.0.112/24')

    def clear(self) -> None:
        self.target.host.ip('link delete mig1')


class A9(Fault):
    """The target's migration interface is down."""

    names = (MIGRATION,)

    def set(self) -> None:
        self.target.host.ip(f'link set {MIGRATION} down')

    def clear(self) -> None:
        self.target.host.ip(f'link set {MIGRATION} up')


class A10(Fault):
    """The MTU of the migration network differs between the two ends."""

    names = ('1500', '1400')

    def set(self) -> None:
        self.target.host.ip(f'link set {MIGRATION} mtu 1400')

    def clear(self) -> None:
        self.target.host.ip(f'link set {MIGRATION} mtu 1500')


class A11(Names):
    """No inbound address: Nova's name and libvirt's host name lead to different networks."""

    names = (TARGET, 'other-name', r'10\.77\.0\.12', r'10\.66\.0\.12')
    restarted = ('target',)

    def set(self) -> None:
        self.configure(self.target, {'libvirt': {'live_migration_inbound_addr': None}})
        for node in self.cloud.nodes.values():
            node.host.hosts.add('10.66.0.12 other-name')
        self.rename(TARGET, '10.77.0.12', *self.cloud.nodes)

    def ready(self) -> None:
        # nova-compute would not start: it takes this for the name of its node, which may not change.
        self.target.host.run('hostname', 'other-name')

    def clear(self) -> None:
        self.target.host.run('hostname', TARGET)
        super().clear()
        self.configure(self.target, {})
