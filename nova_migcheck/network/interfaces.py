# SPDX-License-Identifier: Apache-2.0
"""This host's addresses, interfaces and routes, from the kernel over rtnetlink, as plain values.

What decides is kept apart from how it is read: :class:`HostNetwork` can be built by hand for kinds of links that the
machine at hand does not have.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any, Callable, Iterable, Optional, Union

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# linux/if.h
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
# linux/if_addr.h; 0x01 reads "secondary" for IPv4 and "temporary" (RFC 8981) for IPv6
_SECONDARY, _OPTIMISTIC, _DADFAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
# Kinds of links that put a second MAC address, or none, on the wire of another.
_SAME_WIRE = ('macvlan', 'macvtap', 'ipvlan', 'ipvtap')
# linux/rtnetlink.h, enum rtm_type
_ROUTE_KINDS = {1: 'unicast', 2: 'local', 3: 'broadcast', 4: 'anycast', 5: 'multicast', 6: 'blackhole', 7: 'unreachable',
                8: 'prohibit', 9: 'throw'}


@dataclasses.dataclass(frozen=True)
class Interface:
    """One link.

    :param parent: index of the link whose wire it shares (macvlan, ipvlan), 0 for none
    :param master: index of the bridge, bond or VRF that it belongs to, 0 for none; ``port_of`` is that one's kind
    """

    index: int
    name: str
    mtu: int = 1500
    up: bool = True
    carrier: bool = True
    kind: str = ''
    loopback: bool = False
    parent: int = 0
    master: int = 0
    port_of: str = ''

    @property
    def vrf(self) -> int:
        """Index of its VRF, 0 when it is in none."""
        return self.master if self.port_of == 'vrf' else 0

    @property
    def virtual(self) -> bool:
        """Whether it leads nowhere by itself: an address on it is reached over other interfaces (routing on the host)."""
        return self.loopback or self.kind == 'dummy'


@dataclasses.dataclass(frozen=True)
class Address:
    """An address that this host holds, on the interface with index ``interface``."""

    ip: IPAddress
    network: IPNetwork
    interface: int
    secondary: bool = False
    temporary: bool = False
    deprecated: bool = False
    tentative: bool = False
    duplicate: bool = False

    @property
    def candidate(self) -> bool:
        """Whether a migration may be meant to go to it.

        Not a temporary address (RFC 8981), which is gone tomorrow; not a deprecated one (keepalived marks its IPv6 VIPs
        so); not a link-local one, which means nothing on another host.
        """
        return not (self.ip.is_loopback or self.ip.is_link_local or self.temporary or self.deprecated or self.tentative
                    or self.duplicate)

    @property
    def host_prefix(self) -> bool:
        """/32 or /128: a VIP, or an address that is routed to the host; it puts no subnet on its interface."""
        return self.network.prefixlen == self.network.max_prefixlen


@dataclasses.dataclass(frozen=True)
class Route:
    """How the kernel would send to one address. ``kind`` is ``unicast``, ``local`` for an address of our own, or a refusal."""

    kind: str
    interface: int = 0
    source: Optional[IPAddress] = None
    gateway: Optional[IPAddress] = None


class HostNetwork:
    """What a host holds. Links are looked up only when they matter: a host may have 2,000 tap devices.

    :param link: gives the interface of an index or a name, None when there is none
    """

    def __init__(self, addresses: Iterable[Address], link: Callable[[Union[int, str]], Optional[Interface]]) -> None:
        self.addresses = tuple(addresses)
        self._link = link
        self._links: dict[Union[int, str], Optional[Interface]] = {}

    def interface(self, which: Union[int, str]) -> Optional[Interface]:
        """The interface of an index or a name; None when there is no such interface."""
        if which not in self._links:
            self._links[which] = self._link(which)
        return self._links[which]

    def name(self, index: int) -> str:
        found = self.interface(index)
        return found.name if found else f'interface {index}'

    @property
    def isolated(self) -> bool:
        """Whether this is a network namespace that has nothing but a loopback."""
        return all(address.ip.is_loopback for address in self.addresses)

    def candidates(self) -> list[Address]:
        return [address for address in self.addresses if address.candidate]

    def holding(self, ip: IPAddress) -> list[Address]:
        """Every place where this host holds an address."""
        plain = ipaddress.ip_address(str(ip).partition('%')[0])
        return [address for address in self.addresses if address.ip == plain]


class Kernel:
    """The rtnetlink socket of this process's network namespace. A call takes well under a millisecond.

    :raises OSError: when there is no rtnetlink
    """

    def __init__(self) -> None:
        from pyroute2 import IPRoute
        self._socket = IPRoute()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def network(self) -> HostNetwork:
        return HostNetwork(map(_address, self._socket.get_addr()), self._read_link)

    def route(self, to: IPAddress, source: Optional[IPAddress] = None, vrf: int = 0) -> Optional[Route]:
        """What ``ip route get`` would say; None when there is no route.

        :param vrf: index of the VRF to look in instead of the main tables
        """
        from pyroute2 import NetlinkError
        wanted: dict[str, Any] = {'dst': str(to)}
        if source is not None:
            wanted['src'] = str(source)
        if vrf:
            wanted['oif'] = vrf
        try:
            answer = next(iter(self._socket.route('get', **wanted)))
        except NetlinkError:
            return None
        gateway = answer.get_attr('RTA_GATEWAY') or (answer.get_attr('RTA_VIA') or {}).get('addr')
        return Route(_ROUTE_KINDS.get(answer['type'], f'type {answer["type"]}'), answer.get_attr('RTA_OIF') or 0,
                     _ip(answer.get_attr('RTA_PREFSRC')), _ip(gateway))

    def _read_link(self, which: Union[int, str]) -> Optional[Interface]:
        from pyroute2 import NetlinkError
        try:
            links = self._socket.link('get', **({'index': which} if isinstance(which, int) else {'ifname': which}))
            link = next(iter(links))
        except NetlinkError:
            return None
        info = link.get_attr('IFLA_LINKINFO')
        kind = (info.get_attr('IFLA_INFO_KIND') if info else None) or ''
        # IFLA_LINK of a veth is its other end, which may be an index of another namespace.
        stacked = kind in _SAME_WIRE and link.get_attr('IFLA_LINK_NETNSID') is None
        return Interface(
            index=link['index'], name=link.get_attr('IFLA_IFNAME'), mtu=link.get_attr('IFLA_MTU') or 0,
            up=bool(link['flags'] & _IFF_UP), carrier=bool(link['flags'] & _IFF_LOWER_UP),
            loopback=bool(link['flags'] & _IFF_LOOPBACK), parent=(link.get_attr('IFLA_LINK') or 0) if stacked else 0,
            kind=kind, master=link.get_attr('IFLA_MASTER') or 0,
            port_of=(info.get_attr('IFLA_INFO_SLAVE_KIND') if info else None) or '')


def _ip(text: Any) -> Optional[IPAddress]:
    return ipaddress.ip_address(text) if text else None


def _address(message: Any) -> Address:
    prefix_of = message.get_attr('IFA_ADDRESS')
    local = message.get_attr('IFA_LOCAL') or prefix_of
    flags = message.get_attr('IFA_FLAGS')
    flags = message['flags'] if flags is None else flags
    ip = ipaddress.ip_address(local)
    return Address(
        ip, ipaddress.ip_network(f'{prefix_of}/{message["prefixlen"]}', strict=False), message['index'],
        secondary=ip.version == 4 and bool(flags & _SECONDARY), temporary=ip.version == 6 and bool(flags & _SECONDARY),
        deprecated=bool(flags & _DEPRECATED), duplicate=bool(flags & _DADFAILED),
        tentative=bool(flags & _TENTATIVE) and not flags & _OPTIMISTIC)


def answers_arp_for_others(interface: str) -> Optional[bool]:
    """Whether an interface answers ARP for addresses that the host holds on another one.

    Linux does unless ``arp_ignore`` or ``arp_filter`` is set (Documentation/networking/ip-sysctl.rst); of ``all`` and the
    interface's own value the higher one holds. None when it cannot be read.
    """
    try:
        return not any(_sysctl(interface, name) for name in ('arp_ignore', 'arp_filter'))
    except (OSError, ValueError):
        return None


def _sysctl(interface: str, name: str) -> int:
    values = []
    for of in ('all', interface):
        with open(f'/proc/sys/net/ipv4/conf/{of}/{name}') as file:
            values.append(int(file.read()))
    return max(values)
