# SPDX-License-Identifier: Apache-2.0
"""Determine the interface for a host's live migrations, and the option that selects it.

The first of these that is set decides: ``[migcheck] migration_networks``,
``migration_interface``, the interface with ``[libvirt] live_migration_inbound_addr``, the
interface with ``[DEFAULT] my_ip``. The last one is only a guess: many hosts have ``my_ip`` on their
management network, and no option for migrations. So ``my_ip`` alone never causes a failure.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Iterable, Optional, Sequence

from nova_migcheck import wording
from nova_migcheck.checksettings import Settings
from nova_migcheck.network.interfaces import Address, HostNetwork, Interface, IPAddress, IPNetwork

NETWORKS = 'migration_networks'
INTERFACE = 'migration_interface'
INBOUND = 'live_migration_inbound_addr'
MY_IP = 'my_ip'

# The options read here, for a check's OPTIONS.
OPTIONS = {'DEFAULT': (MY_IP,), 'libvirt': (INBOUND,), 'migcheck': (NETWORKS, INTERFACE)}


@dataclasses.dataclass(frozen=True)
class Intent:
    """Hold the interfaces and addresses intended for the migrations of one host.

    :param rule: name of the option that decided
    :param origin: that option, and where it was set
    :param interfaces: the intended interfaces; empty if there is none, as with an address that is
        routed to the host
    :param addresses: every address of this host that a migration may use
    :param networks: the prefixes of these addresses
    :param listed: ``migration_networks``
    :param problem: why no address of this host is intended; empty if there is one
    :param remedy: what to do about the problem
    :param certain: False if this check may be wrong about the problem
    """

    rule: str
    origin: str
    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    listed: tuple[IPNetwork, ...] = ()
    problem: str = ''
    remedy: str = ''
    certain: bool = True

    @property
    def stated(self) -> bool:
        """Return whether an operator set it; otherwise it is a guess from ``my_ip``."""
        return self.rule != MY_IP

    @property
    def names(self) -> str:
        """Return the interfaces, for use in a sentence."""
        return wording.either(interface.name for interface in self.interfaces) or 'no interface'

    def __str__(self) -> str:
        what = self.names if self.interfaces else ', '.join(map(str, self.networks))
        if self.listed:
            return f'{what} in {", ".join(map(str, self.listed))} (by {self.origin})'
        return f'{what} (by {self.origin})'

    def covers(self, ip: IPAddress) -> bool:
        """Return whether an address of this or another host is in ``migration_networks``.

        If that option is unset, every address is.
        """
        return not self.listed or within(ip, self.listed)


def within(ip: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)


def of_host(settings: Settings, network: HostNetwork, inbound: Sequence[IPAddress] = ()) -> Intent:
    """Return the interfaces and addresses intended for the migrations of this host.

    :param inbound: all addresses that ``live_migration_inbound_addr`` resolves to on this host
    """
    listed = tuple(ipaddress.ip_network(text) for text in settings.get('migcheck', NETWORKS, ()))
    if listed:
        found = [address for address in network.candidates() if within(address.ip, listed)]
        return _intent(
            NETWORKS, settings.origin('migcheck', NETWORKS), network, found, listed,
            '' if found else f'no address of this host is in {", ".join(map(str, listed))}',
            f'give this host an address in that network, or correct [migcheck] {NETWORKS}')
    name = settings.get('migcheck', INTERFACE)
    if name:
        return _of_interface(str(name), settings.origin('migcheck', INTERFACE), network)
    if settings.get('libvirt', INBOUND):
        held = [address for ip in inbound for address in network.holding(ip)
                if not address.ip.is_loopback]
        others = [address for address in _on_same_interfaces(held, network) if address not in held]
        return _intent(
            INBOUND, settings.origin('libvirt', INBOUND), network, held + others, (),
            '' if held else f'[libvirt] {INBOUND} resolves to no address of this host')
    my_ip = str(settings.get('DEFAULT', MY_IP, ''))
    try:
        held = network.holding(ipaddress.ip_address(my_ip))
    except ValueError:
        held = []
    found = _on_same_interfaces(held, network)
    return _intent(MY_IP, settings.origin('DEFAULT', MY_IP), network, found, (),
                   '' if found else f'[DEFAULT] my_ip {my_ip} is on no interface of this host')


def _on_same_interfaces(held: Sequence[Address], network: HostNetwork) -> list[Address]:
    interfaces = {address.interface for address in held}
    return [address for address in network.candidates() if address.interface in interfaces]


def _of_interface(name: str, origin: str, network: HostNetwork) -> Intent:
    remedy = f'name an interface of this host in [migcheck] {INTERFACE}'
    interface: Optional[Interface] = network.interface(name)
    if interface is None:
        return Intent(INTERFACE, origin, problem=f'there is no interface {name} on this host',
                      remedy=remedy)
    candidates = network.candidates()
    found = [address for address in candidates if address.interface == interface.index]
    if not found and interface.port_of in ('bridge', 'bond', 'team'):
        # The port of a bridge or bond has no address, but the bridge or bond has.
        found = [address for address in candidates if address.interface == interface.master]
    if not found:
        # The interface is returned, so that its link is checked. If it is a port of an Open vSwitch
        # bridge, the address may be on any interface.
        return Intent(INTERFACE, origin, (interface,), problem=f'interface {name} has no address',
                      remedy=remedy, certain=not interface.port_of)
    return _intent(INTERFACE, origin, network, found, (), '')


def _intent(rule: str, origin: str, network: HostNetwork, found: Sequence[Address],
            listed: tuple[IPNetwork, ...], problem: str, remedy: str = '') -> Intent:
    indexes = dict.fromkeys(address.interface for address in found)
    links = (network.interface(index) for index in indexes)
    prefixes = list(dict.fromkeys(addr.network for addr in found if not addr.host_prefix))
    # A VIP adds no subnet. An address that is routed to the host belongs to the listed network
    # around it, or is a network of its own.
    for address in found:
        if address.host_prefix and not within(address.ip, prefixes):
            around = [net for net in listed if within(address.ip, [net])]
            prefixes += around[:1] or [address.network]
    return Intent(
        rule, origin, tuple(link for link in links if link is not None and not link.virtual),
        tuple(dict.fromkeys(address.ip for address in found)), tuple(dict.fromkeys(prefixes)),
        listed, problem, remedy)
