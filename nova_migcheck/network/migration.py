# SPDX-License-Identifier: Apache-2.0
"""What a host says about its migration network (the ``migration`` fact), and whether two hosts' networks meet.

Pure. The fact of another host may come from another version, or be hostile: reading it never raises.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any, Iterable, Mapping, Optional

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.network.interfaces import IPAddress, IPNetwork

CHECK = 'address'

# migration_port_min and migration_port_max of qemu.conf by default (src/qemu/qemu_conf.h).
DEFAULT_PORTS = (49152, 49215)

# The daemons of libvirt that take connections from other hosts.
LIBVIRTD, VIRTPROXYD = LISTENERS = ('libvirtd', 'virtproxyd')

# A migration host has a handful of addresses; the fact travels in a database column with each host.
MAX_ADDRESSES = 8
_MAX_READ = 32
_MAX_NAME = 255


@dataclasses.dataclass(frozen=True)
class HostMigration:
    """The ``migration`` fact of one host.

    :param host: ``[DEFAULT] host``
    :param libvirt_host: what its libvirt puts into a data URI when no inbound address is set; ''
        when unknown
    :param inbound: ``[libvirt] live_migration_inbound_addr``; '' when unset
    :param addresses: every address of the host that a migration may use
    :param others: its other addresses, each with its interface
    :param complete: whether ``addresses`` and ``others`` are all that it holds
    :param interface: the interface meant, when it is one
    :param networks: the prefixes in which ``addresses`` lie
    :param intended_by: the option that says what is meant, as in :mod:`nova_migcheck.network.intent`
    :param mtu: bytes; of the interfaces meant, when they agree
    :param option_networks: ``[migcheck] migration_networks``
    :param qemu_ports: first and last port on which its QEMU may listen for a migration
    :param daemon: the libvirt daemon that serves the port for migrations to it; '' when unknown
    :param libvirt_verifies: whether that daemon wants a certificate of its clients; None when unknown
    :param qemu_verifies: whether its QEMU does, for native TLS; None when unknown
    """

    host: str = ''
    libvirt_host: str = ''
    inbound: str = ''
    addresses: tuple[IPAddress, ...] = ()
    others: Mapping[IPAddress, str] = dataclasses.field(default_factory=dict)
    complete: bool = False
    interface: str = ''
    networks: tuple[IPNetwork, ...] = ()
    intended_by: str = ''
    mtu: int = 0
    option_networks: tuple[IPNetwork, ...] = ()
    qemu_ports: tuple[int, int] = DEFAULT_PORTS
    daemon: str = ''
    libvirt_verifies: Optional[bool] = None
    qemu_verifies: Optional[bool] = None

    @property
    def stated(self) -> bool:
        """Whether the operator of that host said what is meant; a guess from ``my_ip`` is no ground for a failure."""
        return bool(self.intended_by) and self.intended_by != 'my_ip'

    def to_json(self) -> dict[str, Any]:
        """The value of the fact."""
        return {'host': self.host, 'libvirt_host': self.libvirt_host or None, 'inbound': self.inbound or None,
                'addresses': _texts(self.addresses), 'others': {str(ip): name for ip, name in self.others.items()},
                'complete': self.complete, 'interface': self.interface or None, 'networks': _texts(self.networks),
                'intended_by': self.intended_by, 'mtu': self.mtu or None, 'option_networks': _texts(self.option_networks),
                'qemu_ports': list(self.qemu_ports), 'daemon': self.daemon or None,
                'libvirt_verifies': self.libvirt_verifies, 'qemu_verifies': self.qemu_verifies}

    @classmethod
    def from_json(cls, value: Any) -> HostMigration:
        """Read what any version wrote; what makes no sense is left out."""
        if not isinstance(value, Mapping):
            return cls()
        mtu, ports, others = value.get('mtu'), value.get('qemu_ports'), value.get('others')
        daemon = _text(value.get('daemon'))
        held = {ip: _text(name) for text, name in list(others.items())[:_MAX_READ]
                if (ip := _ip(text)) is not None} if isinstance(others, Mapping) else {}
        return cls(
            host=_text(value.get('host')), libvirt_host=_text(value.get('libvirt_host')), inbound=_text(value.get('inbound')),
            addresses=tuple(ip for text in _list(value.get('addresses')) if (ip := _ip(text)) is not None), others=held,
            complete=value.get('complete') is True, interface=_text(value.get('interface')),
            networks=_networks(value.get('networks')), intended_by=_text(value.get('intended_by')),
            mtu=mtu if isinstance(mtu, int) and 0 < mtu < 1 << 20 else 0, option_networks=_networks(value.get('option_networks')),
            qemu_ports=(ports[0], ports[1]) if isinstance(ports, (list, tuple)) and len(ports) == 2 and
            all(_is_number(port) for port in ports) and 0 < ports[0] <= ports[1] < 65536 else DEFAULT_PORTS,
            daemon=daemon if daemon in LISTENERS else '',
            libvirt_verifies=_bool(value.get('libvirt_verifies')),
            qemu_verifies=_bool(value.get('qemu_verifies')))


def compare(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """Whether two hosts' migration networks meet and their MTUs agree, from their ``migration`` facts.

    Only what the two operators *stated* can be a failure. Two different prefixes without a list of networks may be routed:
    nothing is said then, the transport check looks at the route.
    """
    here, there = HostMigration.from_json(source), HostMigration.from_json(target)
    if not here.networks or not there.networks:
        return []
    shared = [(a, b) for a in here.networks for b in there.networks if a.version == b.version and a.overlaps(b)]
    if shared:
        return _mtu(here, there, shared[0][0])
    found = _unlisted(here, there)
    if found is not None:
        return [found]
    if not {net.version for net in here.networks} & {net.version for net in there.networks} and here.stated and there.stated:
        return [Finding(CHECK, Outcome.UNKNOWN, 'migration network', f'{_describe(here, "the source")} and '
                        f'{_describe(there, "the target")} have no IP version in common',
                        remedy='give both hosts migration addresses of one IP version')]
    return []


def _mtu(here: HostMigration, there: HostMigration, segment: IPNetwork) -> list[Finding]:
    if not here.mtu or not there.mtu or here.mtu == there.mtu:
        return []
    outcome = Outcome.FAILURE if here.stated and there.stated else Outcome.WARNING
    return [Finding(
        CHECK, outcome, 'MTU', f'MTU {here.mtu} on {here.interface or "the migration interface"} of '
        f'{here.host or "the source"} but {there.mtu} on {there.interface or "the migration interface"} of '
        f'{there.host or "the target"}, both in {segment}: large packets get lost and the migration stalls',
        remedy='give both ends, and the switches between them, the same MTU')]


def _unlisted(here: HostMigration, there: HostMigration) -> Optional[Finding]:
    """Whether one host's list of migration networks leaves out all that the other one calls its own."""
    for lister, other, names in ((here, there, ('the source', 'the target')), (there, here, ('the target', 'the source'))):
        listed = lister.option_networks
        if not listed or not other.stated:
            continue
        if any(a.version == b.version and a.overlaps(b) for a in other.networks for b in listed):
            continue
        return Finding(
            CHECK, Outcome.FAILURE, 'migration network', f'{_describe(other, names[1])}, which is outside of the migration '
            f'networks of {lister.host or names[0]}: {", ".join(map(str, listed))}',
            origin=f'[migcheck] migration_networks of {lister.host or names[0]}',
            remedy='list the networks of both hosts in [migcheck] migration_networks on all of them, or correct '
                   '[libvirt] live_migration_inbound_addr')
    return None


def _describe(host: HostMigration, name: str) -> str:
    over = f' on {host.interface}' if host.interface else ''
    return f'{host.host or name} migrates over {", ".join(map(str, host.networks))}{over}'


def _texts(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]


def _list(value: Any) -> list[Any]:
    return list(value[:_MAX_READ]) if isinstance(value, (list, tuple)) else []


def _text(value: Any) -> str:
    return value[:_MAX_NAME] if isinstance(value, str) else ''


def _bool(value: Any) -> Optional[bool]:
    return value if isinstance(value, bool) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ip(value: Any) -> Optional[IPAddress]:
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _networks(value: Any) -> tuple[IPNetwork, ...]:
    found = []
    for text in _list(value):
        try:
            found.append(ipaddress.ip_network(_text(text), strict=False))
        except ValueError:
            continue
    return tuple(found)
