# SPDX-License-Identifier: Apache-2.0
"""A host's network without a kernel: mgmt0, the migration interface mig0, and others."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any, Optional, Union

from nova_migcheck.network.hostsfile import HostsFile, HostsLine
from nova_migcheck.network.interfaces import Address, HostNetwork, Interface, IPAddress, Route
from nova_migcheck.network.resolver import Answer

LINKS = {
    1: Interface(1, 'lo', loopback=True),
    2: Interface(2, 'mgmt0'),
    3: Interface(3, 'mig0', mtu=9000),
    4: Interface(4, 'other0'),
    5: Interface(5, 'dummy0', kind='dummy'),
    6: Interface(6, 'down0', up=False, carrier=False),
    7: Interface(7, 'dark0', carrier=False),
    8: Interface(8, 'in-vrf0', master=20, port_of='vrf'),
}


def ip(text: str) -> IPAddress:
    return ipaddress.ip_address(text)


def address(text: str, interface: int, **flags: bool) -> Address:
    both = ipaddress.ip_interface(text)
    return Address(both.ip, both.network, interface, **flags)


HELD = [address('127.0.0.1/8', 1), address('10.66.0.11/24', 2), address('10.77.0.11/24', 3)]


def network(*more: Address, **changed: dict[str, Any]) -> HostNetwork:
    """Return a network; keywords change a link by its name."""
    links = {
        index: dataclasses.replace(link, **changed.get(link.name, {}))
        for index, link in LINKS.items()
    }

    def find(which: Union[int, str]) -> Optional[Interface]:
        return next((link for link in links.values() if which in (link.index, link.name)), None)

    return HostNetwork([*HELD, *more], find)


class Kernel:
    """Routes: the first prefix that fits decides. ``(prefix, vrf or source)`` is for that only."""

    def __init__(self, routes: dict[Any, Optional[Route]]) -> None:
        self.routes = {
            '127.0.0.0/8': Route('local', 1),
            '10.66.0.0/24': Route('unicast', 2),
            '10.77.0.0/24': Route('unicast', 3),
            **routes,
        }

    def route(
        self, to: IPAddress, source: Optional[IPAddress] = None, vrf: int = 0
    ) -> Optional[Route]:
        which = vrf or (str(source) if source else None)
        for key, route in reversed(self.routes.items()):
            prefix, of = key if isinstance(key, tuple) else (key, None)
            if (
                of == which
                and to.version == ipaddress.ip_network(prefix).version
                and to in ipaddress.ip_network(prefix)
            ):
                return route
        return None


def hosts(*lines: tuple[str, str]) -> HostsFile:
    return HostsFile(
        tuple(HostsLine(number, ip(text), (name,)) for number, (text, name) in enumerate(lines, 1)),
        '/etc/hosts',
    )


def answer(name: str, *addresses: str, **values: Any) -> Answer:
    return Answer(name, tuple(map(ip, addresses)), **values)
