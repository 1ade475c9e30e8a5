# SPDX-License-Identifier: Apache-2.0
"""Read this host's addresses, interfaces and routes from the kernel over rtnetlink.

The values are independent of how they are read: a test can build a :class:`HostNetwork` with kinds
of links that its machine does not have.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import pathlib
from typing import Any, Callable, Iterable, Optional, Union

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
IPNetwork = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# linux/if.h
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
# linux/if_addr.h; 0x01 is "temporary" (RFC 8981) for IPv6, but "secondary" for IPv4.
_TEMPORARY, _OPTIMISTIC, _DADFAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
# Kinds of links that share the wire of another one.
_SAME_WIRE = ('macvlan', 'macvtap', 'ipvlan', 'ipvtap')
# linux/rtnetlink.h, enum rtm_type
_ROUTE_KINDS = {1: 'unicast', 2: 'local', 3: 'broadcast', 4: 'anycast', 5: 'multicast',
                6: 'blackhole', 7: 'unreachable', 8: 'prohibit', 9: 'throw'}


@dataclasses.dataclass(frozen=True)
class Interface:
    """Hold one link.

    :param parent: index of the link whose wire it shares (macvlan, ipvlan); 0 for none
    :param master: index of the bridge, bond or VRF that it belongs to; 0 for none
    :param port_of: kind of the master
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
        """Return the index of its VRF, or 0."""
        return self.master if self.port_of == 'vrf' else 0

    @property
    def virtual(self) -> bool:
        """Return whether it connects to no network.

        Other hosts reach an address on it through this host's other interfaces (routing on the
        host).
        """
        return self.loopback or self.kind == 'dummy'


@dataclasses.dataclass(frozen=True)
class Address:
    """Hold an address of this host, on the interface with index ``interface``."""

    ip: IPAddress
    network: IPNetwork
    interface: int
    temporary: bool = False
    deprecated: bool = False
    tentative: bool = False
    duplicate: bool = False

    @property
    def candidate(self) -> bool:
        """Return whether it may be intended for migrations.

        A temporary address (RFC 8981) is gone tomorrow. keepalived marks its IPv6 VIPs as
        deprecated. A link-local address has no meaning on another host.
        """
        return not (self.ip.is_loopback or self.ip.is_link_local or self.temporary
                    or self.deprecated or self.tentative or self.duplicate)

    @property
    def host_prefix(self) -> bool:
        """Return whether it has the prefix /32 or /128, and so no subnet on its interface.

        It is a VIP, or an address that is routed to the host.
        """
        return self.network.prefixlen == self.network.max_prefixlen


@dataclasses.dataclass(frozen=True)
class Route:
    """Hold the kernel's route to one address.

    :param kind: ``unicast``, ``local`` for an address of this host, or a kind that discards packets
    """

    kind: str
    interface: int = 0


class HostNetwork:
    """Hold a host's addresses and links.

    A link is read only when it is needed: a host may have 2,000 tap devices.

    :param link: return the interface with an index or a name, or None; called once for each
    """

    def __init__(self, addresses: Iterable[Address],
                 link: Callable[[Union[int, str]], Optional[Interface]]) -> None:
        self.addresses = tuple(addresses)
        self.interface = functools.cache(link)

    def name(self, index: int) -> str:
        """Return the name of the interface with an index, for use in a sentence."""
        found = self.interface(index)
        return found.name if found else f'interface {index}'

    @property
    def isolated(self) -> bool:
        """Return whether this network namespace has only the loopback interface."""
        return all(address.ip.is_loopback for address in self.addresses)

    def candidates(self) -> list[Address]:
        """Return the addresses that may be intended for migrations."""
        return [address for address in self.addresses if address.candidate]

    def holding(self, ip: IPAddress) -> list[Address]:
        """Return an address on every interface of this host that has it."""
        plain = ipaddress.ip_address(str(ip).partition('%')[0])
        return [address for address in self.addresses if address.ip == plain]


class Kernel:
    """Ask the kernel about this process's network namespace.

    A call takes much less than a millisecond.

    :raises OSError: if there is no rtnetlink
    """

    def __init__(self) -> None:
        from pyroute2 import IPRoute
        self._socket = IPRoute()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def network(self) -> HostNetwork:
        """Return this host's addresses and links."""
        return HostNetwork(map(_address, self._socket.get_addr()), self._read_link)

    def route(self, to: IPAddress, source: Optional[IPAddress] = None,
              vrf: int = 0) -> Optional[Route]:
        """Return the route that ``ip route get`` shows, or None if there is no route.

        :param vrf: index of the VRF whose tables to use instead of the main ones
        """
        from pyroute2 import NetlinkError
        query: dict[str, Any] = {'dst': str(to)}
        if source is not None:
            query['src'] = str(source)
        if vrf:
            query['oif'] = vrf
        try:
            answer = next(iter(self._socket.route('get', **query)))
        except NetlinkError:
            return None
        kind = _ROUTE_KINDS.get(answer['type'], f'type {answer["type"]}')
        return Route(kind, answer.get_attr('RTA_OIF') or 0)

    def _read_link(self, which: Union[int, str]) -> Optional[Interface]:
        from pyroute2 import NetlinkError
        try:
            key = 'index' if isinstance(which, int) else 'ifname'
            link = next(iter(self._socket.link('get', **{key: which})))
        except NetlinkError:
            return None
        info = link.get_attr('IFLA_LINKINFO')
        kind = (info.get_attr('IFLA_INFO_KIND') if info else None) or ''
        # IFLA_LINK of a veth is its peer, which may be an index of another namespace.
        stacked = kind in _SAME_WIRE and link.get_attr('IFLA_LINK_NETNSID') is None
        return Interface(
            index=link['index'], name=link.get_attr('IFLA_IFNAME'),
            mtu=link.get_attr('IFLA_MTU') or 0, up=bool(link['flags'] & _IFF_UP),
            carrier=bool(link['flags'] & _IFF_LOWER_UP),
            loopback=bool(link['flags'] & _IFF_LOOPBACK), kind=kind,
            parent=(link.get_attr('IFLA_LINK') or 0) if stacked else 0,
            master=link.get_attr('IFLA_MASTER') or 0,
            port_of=(info.get_attr('IFLA_INFO_SLAVE_KIND') if info else None) or '')


def _address(message: Any) -> Address:
    prefix_of = message.get_attr('IFA_ADDRESS')
    local = message.get_attr('IFA_LOCAL') or prefix_of
    flags = message.get_attr('IFA_FLAGS')
    flags = message['flags'] if flags is None else flags
    ip = ipaddress.ip_address(local)
    return Address(
        ip, ipaddress.ip_network(f'{prefix_of}/{message["prefixlen"]}', strict=False),
        message['index'],
        temporary=ip.version == 6 and bool(flags & _TEMPORARY),
        deprecated=bool(flags & _DEPRECATED), duplicate=bool(flags & _DADFAILED),
        tentative=bool(flags & _TENTATIVE) and not flags & _OPTIMISTIC)


def answers_arp_for_others(interface: str) -> Optional[bool]:
    """Return whether an interface answers ARP for addresses on other interfaces of this host.

    Linux does so unless ``arp_ignore`` or ``arp_filter`` is set, see its
    Documentation/networking/ip-sysctl.rst. The higher one of the values for ``all`` and for the
    interface applies. Return None if they cannot be read.
    """
    conf = pathlib.Path('/proc/sys/net/ipv4/conf')
    try:
        return not any(int((conf / of / name).read_text())
                       for of in ('all', interface) for name in ('arp_ignore', 'arp_filter'))
    except (OSError, ValueError):
        return None
