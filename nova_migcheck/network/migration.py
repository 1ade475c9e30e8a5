# SPDX-License-Identifier: Apache-2.0
"""Read and write the ``migration`` fact of a host, and compare those of two hosts.

Everything here is pure. Another host's fact may come from another version, or be malicious, so
reading it never raises.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any, Iterable, Mapping, Optional

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.network.interfaces import IPAddress, IPNetwork

CHECK = 'address'
#: Code of each finding about two hosts -> what it means.
CODES = {
    'address-ip-version': 'The source and the target have no IP version in common.',
    'address-mtu': 'The source and the target have different MTUs in one subnet.',
    'address-unlisted-network': 'One host lists the migration networks; the other is outside.',
}

# migration_port_min and migration_port_max of qemu.conf by default (src/qemu/qemu_conf.h).
DEFAULT_PORTS = (49152, 49215)

# libvirt's daemons that accept connections from other hosts.
LIBVIRTD, VIRTPROXYD = LISTENERS = ('libvirtd', 'virtproxyd')

# A host has a few addresses for migrations, and every host's fact is in a database column.
MAX_ADDRESSES = 8
_MAX_READ = 32
_MAX_NAME = 255


@dataclasses.dataclass(frozen=True)
class HostMigration:
    """Hold the ``migration`` fact of one host.

    :param host: ``[DEFAULT] host``
    :param libvirt_host: the host name that its libvirt puts into a data URI if no inbound address
        is set; '' if unknown
    :param inbound: ``[libvirt] live_migration_inbound_addr``; '' if unset
    :param addresses: every address of the host that a migration may use
    :param others: its other addresses, each with its interface
    :param complete: whether ``addresses`` and ``others`` are all its addresses
    :param interface: the intended interface, if there is exactly one
    :param networks: the prefixes of ``addresses``
    :param intended_by: the option that decided, as in :mod:`nova_migcheck.network.intent`
    :param mtu: in bytes, of the intended interfaces, if it is the same on all
    :param option_networks: ``[migcheck] migration_networks``
    :param qemu_ports: first and last port on which its QEMU may listen for a migration
    :param qemu_listens: the only addresses at which its QEMU waits for a migration; none for all
    :param daemon: the libvirt daemon that serves the port for migrations to it; '' if unknown
    :param libvirt_verifies: whether that daemon requires client certificates; None if unknown
    :param qemu_verifies: whether its QEMU requires them for native TLS; None if unknown
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
    qemu_listens: tuple[IPAddress, ...] = ()
    daemon: str = ''
    libvirt_verifies: Optional[bool] = None
    qemu_verifies: Optional[bool] = None

    @property
    def stated(self) -> bool:
        """Return whether an operator set ``intended_by``.

        ``my_ip`` is only a guess, so it never causes a failure.
        """
        return bool(self.intended_by) and self.intended_by != 'my_ip'

    def qemu_waits_at(self, ip: IPAddress) -> bool:
        """Return whether its QEMU accepts a migration at one of its addresses.

        ``::`` stands for all addresses, ``0.0.0.0`` for all of IPv4.
        """
        return not self.qemu_listens or any(
            ip == one or (one.is_unspecified and one.version in (6, ip.version))
            for one in self.qemu_listens)

    def to_json(self) -> dict[str, Any]:
        """Return the value of the fact."""
        return {
            'host': self.host, 'libvirt_host': self.libvirt_host or None,
            'inbound': self.inbound or None, 'addresses': _texts(self.addresses),
            'others': {str(ip): name for ip, name in self.others.items()},
            'complete': self.complete, 'interface': self.interface or None,
            'networks': _texts(self.networks), 'intended_by': self.intended_by,
            'mtu': self.mtu or None, 'option_networks': _texts(self.option_networks),
            'qemu_ports': list(self.qemu_ports), 'daemon': self.daemon or None,
            'libvirt_verifies': self.libvirt_verifies, 'qemu_verifies': self.qemu_verifies,
            **({'qemu_listens': _texts(self.qemu_listens)} if self.qemu_listens else {})}

    @classmethod
    def from_json(cls, value: Any) -> HostMigration:
        """Read a fact that any version wrote. Values that make no sense are dropped."""
        if not isinstance(value, Mapping):
            return cls()
        mtu, daemon = value.get('mtu'), _text(value.get('daemon'))
        return cls(
            host=_text(value.get('host')), libvirt_host=_text(value.get('libvirt_host')),
            inbound=_text(value.get('inbound')),
            addresses=_ips(value.get('addresses')),
            others=_interfaces(value.get('others')), complete=value.get('complete') is True,
            interface=_text(value.get('interface')), networks=_networks(value.get('networks')),
            intended_by=_text(value.get('intended_by')),
            mtu=mtu if isinstance(mtu, int) and 0 < mtu < 1 << 20 else 0,
            option_networks=_networks(value.get('option_networks')),
            qemu_ports=_ports(value.get('qemu_ports')),
            qemu_listens=_ips(value.get('qemu_listens')),
            daemon=daemon if daemon in LISTENERS else '',
            libvirt_verifies=_bool(value.get('libvirt_verifies')),
            qemu_verifies=_bool(value.get('qemu_verifies')))


def compare(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """Compare the migration networks and the MTUs of two hosts, from their ``migration`` facts.

    Only what both operators configured can be a failure. Two different prefixes without a list of
    networks may be routed, so they cause no finding: the transport check looks at the route.
    """
    here, there = HostMigration.from_json(source), HostMigration.from_json(target)
    if not here.networks or not there.networks:
        return []
    shared = [net for net in here.networks if _overlaps(net, there.networks)]
    if shared:
        return _mtu(here, there, shared[0])
    found = _unlisted(here, there)
    if found is not None:
        return [found]
    versions = [{net.version for net in host.networks} for host in (here, there)]
    if here.stated and there.stated and not versions[0] & versions[1]:
        detail = (f'{_describe(here, "the source")} and {_describe(there, "the target")} have no '
                  'IP version in common')
        return [Finding(CHECK, Outcome.UNKNOWN, 'migration network', detail,
                        remedy='give both hosts migration addresses of the same IP version',
                        code='address-ip-version')]
    return []


def _mtu(here: HostMigration, there: HostMigration, segment: IPNetwork) -> list[Finding]:
    if not here.mtu or not there.mtu or here.mtu == there.mtu:
        return []
    outcome = Outcome.FAILURE if here.stated and there.stated else Outcome.WARNING
    interfaces = [host.interface or 'the migration interface' for host in (here, there)]
    return [Finding(
        CHECK, outcome, 'MTU',
        f'MTU {here.mtu} on {interfaces[0]} of {here.host or "the source"} but {there.mtu} on '
        f'{interfaces[1]} of {there.host or "the target"}, both in {segment}: large packets may '
        'get lost between them, and a migration then stalls',
        remedy='give both ends, and the switches between them, the same MTU',
        code='address-mtu')]


def _unlisted(here: HostMigration, there: HostMigration) -> Optional[Finding]:
    """Return a finding if one host's list of migration networks has none of the other's."""
    names = here.host or 'the source', there.host or 'the target'
    for lister, name, other, other_name in (
            (here, names[0], there, 'the target'), (there, names[1], here, 'the source')):
        listed = lister.option_networks
        if not listed or not other.stated:
            continue
        if any(_overlaps(net, listed) for net in other.networks):
            continue
        return Finding(
            CHECK, Outcome.FAILURE, 'migration network',
            f'{_describe(other, other_name)}, which is outside of the migration networks of '
            f'{name}: {", ".join(map(str, listed))}',
            origin=f'[migcheck] migration_networks of {name}',
            remedy='list the networks of both hosts in [migcheck] migration_networks on all of '
                   'them, or correct [libvirt] live_migration_inbound_addr',
            code='address-unlisted-network')
    return None


def _overlaps(ours: IPNetwork, networks: Iterable[IPNetwork]) -> bool:
    return any(ours.version == net.version and ours.overlaps(net) for net in networks)


def _describe(host: HostMigration, name: str) -> str:
    who, networks = host.host or name, ', '.join(map(str, host.networks))
    if host.interface:
        return f'{who} migrates over {networks} on {host.interface}'
    return f'{who} migrates over {networks}'


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


def _ports(value: Any) -> tuple[int, int]:
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value)):
        first, last = value
        if 0 < first <= last < 65536:
            return first, last
    return DEFAULT_PORTS


def _interfaces(value: Any) -> dict[IPAddress, str]:
    if not isinstance(value, Mapping):
        return {}
    found = ((_ip(text), _text(name)) for text, name in list(value.items())[:_MAX_READ])
    return {ip: name for ip, name in found if ip is not None}


def _ip(value: Any) -> Optional[IPAddress]:
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _ips(value: Any) -> tuple[IPAddress, ...]:
    return tuple(ip for text in _list(value) if (ip := _ip(text)) is not None)


def _networks(value: Any) -> tuple[IPNetwork, ...]:
    found = []
    for text in _list(value):
        try:
            found.append(ipaddress.ip_network(_text(text), strict=False))
        except ValueError:
            continue
    return tuple(found)
