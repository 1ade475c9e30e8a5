# SPDX-License-Identifier: Apache-2.0
"""Over which interface a host's live migrations are meant to go, and which rule says so.

``[migcheck] migration_networks``, else ``migration_interface``, else where ``[libvirt] live_migration_inbound_addr`` lies,
else where ``[DEFAULT] my_ip`` lies. The last one is a guess, not a statement: many hosts have ``my_ip`` on their management
network and never said anything about migrations. So it is never the ground for a failure by itself.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Iterable, Optional, Sequence

from nova_migcheck.checksettings import Settings
from nova_migcheck.network.interfaces import Address, HostNetwork, Interface, IPAddress, IPNetwork

NETWORKS = 'migration_networks'
INTERFACE = 'migration_interface'
INBOUND = 'live_migration_inbound_addr'
MY_IP = 'my_ip'

# The options that the rules read, for a check's OPTIONS.
OPTIONS = {'DEFAULT': (MY_IP,), 'libvirt': (INBOUND,), 'migcheck': (NETWORKS, INTERFACE)}


@dataclasses.dataclass(frozen=True)
class Intent:
    """What is meant for one host.

    :param rule: name of the option that says so
    :param origin: that option and where it was set
    :param interfaces: the interfaces meant; empty when none can be told (an address that is routed to the host)
    :param addresses: every address of this host that a migration may use
    :param networks: the prefixes that they lie in
    :param listed: ``migration_networks``
    :param problem: why no address of this host is meant; empty when there is one
    :param remedy: for the problem
    :param certain: False when the problem may be ours, not the host's
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
        """Whether the operator said it, rather than us guessing from ``my_ip``."""
        return self.rule != MY_IP

    @property
    def names(self) -> str:
        """The interfaces, for a sentence."""
        return ' or '.join(interface.name for interface in self.interfaces) or 'no interface'

    def __str__(self) -> str:
        what = self.names if self.interfaces else ', '.join(map(str, self.networks))
        if self.listed:
            what += f' in {", ".join(map(str, self.listed))}'
        return f'{what} (by {self.origin})'

    def covers(self, ip: IPAddress) -> bool:
        """Whether an address of this or another host lies in ``migration_networks``; always when nothing is listed."""
        return not self.listed or within(ip, self.listed)


def within(ip: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)


def of_host(settings: Settings, network: HostNetwork, inbound: Sequence[IPAddress] = ()) -> Intent:
    """Apply the rules on this host.

    :param inbound: what ``live_migration_inbound_addr`` resolves to here, all of it
    """
    listed = tuple(ipaddress.ip_network(text) for text in settings.get('migcheck', NETWORKS, ()))
    if listed:
        found = [address for address in network.candidates() if within(address.ip, listed)]
        problem = '' if found else f'no address of this host lies in {", ".join(map(str, listed))}'
        return _intent(NETWORKS, settings.origin('migcheck', NETWORKS), network, found, listed, problem,
                       f'give this host an address in that network, or correct [migcheck] {NETWORKS}')
    name = settings.get('migcheck', INTERFACE)
    if name:
        return _of_interface(str(name), settings.origin('migcheck', INTERFACE), network)
    if settings.get('libvirt', INBOUND):
        held = [address for ip in inbound for address in network.holding(ip) if not address.ip.is_loopback]
        same = {address.interface for address in held}
        beside = [address for address in network.candidates() if address.interface in same and address not in held]
        return _intent(INBOUND, settings.origin('libvirt', INBOUND), network, held + beside, (),
                       '' if held else f'[libvirt] {INBOUND} leads to no address of this host')
    my_ip = str(settings.get('DEFAULT', MY_IP, ''))
    try:
        held = network.holding(ipaddress.ip_address(my_ip))
    except ValueError:
        held = []
    same = {address.interface for address in held}
    found = [address for address in network.candidates() if address.interface in same]
    return _intent(MY_IP, settings.origin('DEFAULT', MY_IP), network, found, (),
                   '' if found else f'[DEFAULT] my_ip {my_ip} is on no interface of this host')


def _of_interface(name: str, origin: str, network: HostNetwork) -> Intent:
    remedy = f'name an interface of this host in [migcheck] {INTERFACE}'
    interface: Optional[Interface] = network.interface(name)
    if interface is None:
        return Intent(INTERFACE, origin, problem=f'there is no interface {name} on this host', remedy=remedy)
    found = [address for address in network.candidates() if address.interface == interface.index]
    if not found and interface.port_of in ('bridge', 'bond', 'team'):
        # The port of a bridge or bond has no address: it is the bridge that does.
        found = [address for address in network.candidates() if address.interface == interface.master]
    if not found:
        # Still the interface that is meant: its link may be looked at. As a port of an Open vSwitch its address is anywhere.
        return Intent(INTERFACE, origin, (interface,), problem=f'interface {name} has no address', remedy=remedy,
                      certain=not interface.port_of)
    return _intent(INTERFACE, origin, network, found, (), '')


def _intent(rule: str, origin: str, network: HostNetwork, found: Sequence[Address], listed: tuple[IPNetwork, ...],
            problem: str, remedy: str = '') -> Intent:
    links = (network.interface(index) for index in dict.fromkeys(address.interface for address in found))
    prefixes = list(dict.fromkeys(address.network for address in found if not address.host_prefix))
    # A VIP adds no subnet; an address that is routed to the host lies in the listed network, else in itself.
    for address in found:
        if address.host_prefix and not within(address.ip, prefixes):
            around = [net for net in listed if net.version == address.ip.version and address.ip in net]
            prefixes += around[:1] or [address.network]
    return Intent(rule, origin, tuple(link for link in links if link is not None and not link.virtual),
                  tuple(dict.fromkeys(address.ip for address in found)), tuple(dict.fromkeys(prefixes)), listed, problem,
                  remedy)
