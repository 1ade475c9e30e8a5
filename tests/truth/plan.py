# SPDX-License-Identifier: Apache-2.0
"""All that a world decides about two hosts and a guest, before any of it is made."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING, Any, Callable, Optional

from tests.lab import certificates

if TYPE_CHECKING:
    from tests.truth.stage import Stage

SOURCE, TARGET = 'node1', 'node2'
NAMES = (SOURCE, TARGET)
INSTANCES = '/mnt/instances'
_NETWORKS = {
    4: {'mgmt0': '10.66.0.{}', 'mig0': '10.77.0.{}'},
    6: {'mgmt0': 'fd66::{}', 'mig0': 'fd77::{}'},
}
_NUMBERS = {SOURCE: 11, TARGET: 12}

_AUTHORITY = certificates.authority()


@dataclasses.dataclass
class HostPlan:
    """One host.

    :ivar nova: options of nova.conf, without their groups
    :ivar libvirtd: what its libvirtd.conf sets
    :ivar qemu: what its qemu.conf sets
    :ivar lines: of its hosts file
    :ivar files: path -> content, below its /etc
    :ivar lacks: features that its QEMU does not have
    :ivar types_gone: machine types that its QEMU does not have
    :ivar share: what is at its instances directory: ``shared``, ``local``, ``other``, ``read-only``
    """

    name: str
    nova: dict[str, Any] = dataclasses.field(default_factory=dict)
    libvirtd: dict[str, Any] = dataclasses.field(default_factory=dict)
    qemu: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: list[str] = dataclasses.field(default_factory=list)
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    types_gone: tuple[str, ...] = ()
    share: str = 'shared'
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))


class Plan:
    """Two healthy hosts, until states change them.

    :ivar intended: the interface that the operator has said is intended, '' if none was said
    :ivar mtu: of the migration network's interfaces, by host
    :ivar largest: the largest packet that the switch of the migration network lets pass, None
    for no limit
    :ivar disk: whether the guest has a disk in the instances directory
    :ivar machine: the guest's machine type
    :ivar cpu: the guest's <cpu>
    :ivar flags: names of libvirt's flags that Nova would add
    :ivar first: done before the daemons start
    :ivar late: done when the guest runs
    :ivar last: done after all of that
    """

    def __init__(self) -> None:
        self.family = 4
        self.hosts = {name: HostPlan(name) for name in NAMES}
        self.mtu = dict.fromkeys(NAMES, 1500)
        self.largest: Optional[int] = None
        self.disk = False
        self.machine = 'pc'
        self.cpu = "<cpu mode='custom' match='exact'><model>qemu64</model></cpu>"
        self.flags: list[str] = []
        self.intended: Optional[str] = None
        self.one_subnet = False
        self.late: list[Callable[[Stage], None]] = []
        self.last: list[Callable[[Stage], None]] = []
        self.first: list[Callable[[Stage], None]] = []
        for host in self.hosts.values():
            host.libvirtd.update(listen_tcp=1, listen_tls=0, auth_tcp='none')
            host.nova.update(virt_type='qemu', live_migration_scheme='tcp')

    @property
    def source(self) -> HostPlan:
        return self.hosts[SOURCE]

    @property
    def target(self) -> HostPlan:
        return self.hosts[TARGET]

    def address(self, host: str, interface: str, family: int = 0) -> str:
        """The address of a host on an interface."""
        text = _NETWORKS[family or self.family][interface].format(_NUMBERS[host])
        return (
            text.replace('10.77.0.', '10.66.0.1')
            if self.one_subnet and interface == 'mig0'
            else text
        )

    def nobody(self) -> str:
        """An address of the migration network that no host has."""
        return _NETWORKS[self.family]['mig0'].format(99)

    def prefix(self, interface: str) -> str:
        """The network of an interface."""
        if self.family == 6:
            return _NETWORKS[6][interface].format('') + '/64'
        return self.address(SOURCE, interface).rpartition('.')[0] + '.0/24'

    @property
    def inbound(self) -> str:
        """The target's live_migration_inbound_addr."""
        return str(self.target.nova.get('live_migration_inbound_addr', ''))

    @property
    def used(self) -> str:
        """The name by which Nova on the source contacts the target."""
        return self.inbound or TARGET

    def everywhere(self, **options: Any) -> None:
        """Set options of nova.conf on both hosts."""
        for host in self.hosts.values():
            host.nova.update(options)

    def resolve_on(self, host: HostPlan, *addresses: str) -> None:
        """Let a host resolve the name of the target to these addresses, in this order."""
        host.lines = [line for line in host.lines if self.used not in line.split()[1:]]
        host.lines += [f'{address} {self.used}' for address in addresses]

    def names(self) -> None:
        """Write the hosts files: each host knows all names, and they are right."""
        lines = ['127.0.0.1 localhost', '::1 localhost']
        for name in NAMES:
            lines += [
                f'{self.address(name, "mgmt0")} {name}',
                f'{self.address(name, "mig0")} {name}-mig',
            ]
        for host in self.hosts.values():
            host.lines = list(lines)

    def certificates(
        self, host: HostPlan, end: str, names: tuple[str, ...], days: int = 30, own: bool = True
    ) -> None:
        """Give a host the certificates of libvirt and QEMU for one end.

        :param end: ``server`` or ``client``
        :param own: False for one by an authority that nobody knows
        """
        authority = _AUTHORITY if own else certificates.authority('Other CA')
        made = certificates.issue(host.name, list(names), authority, days=days)
        host.files.update(
            {
                'pki/CA/cacert.pem': _AUTHORITY.pem,
                'pki/qemu/ca-cert.pem': _AUTHORITY.pem,
                f'pki/libvirt/{end}cert.pem': made.pem,
                f'pki/libvirt/private/{end}key.pem': made.key,
                f'pki/qemu/{end}-cert.pem': made.pem,
                f'pki/qemu/{end}-key.pem': made.key,
            }
        )
