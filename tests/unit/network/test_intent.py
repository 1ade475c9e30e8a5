# SPDX-License-Identifier: Apache-2.0
"""What is intended for migrations, on links that a test machine's kernel may not have."""

from __future__ import annotations

import ipaddress
from typing import Any, Optional, Union

import pytest

from nova_migcheck.checks.base import Settings
from nova_migcheck.network import intent
from nova_migcheck.network.interfaces import Address, HostNetwork, Interface

LINKS = [
    Interface(1, 'lo', loopback=True),
    Interface(2, 'eno1', master=4, port_of='bond'),
    Interface(4, 'bond0', kind='bond'),
    Interface(5, 'bond0.200', kind='vlan'),
    Interface(6, 'br-mig', kind='bridge'),
    Interface(7, 'eno3', master=6, port_of='bridge'),
    Interface(8, 'vrf-mig', kind='vrf'),
    Interface(9, 'eno4', master=8, port_of='vrf'),
    Interface(10, 'dummy0', kind='dummy'),
    Interface(11, 'eno5', master=12, port_of='openvswitch'),
    Interface(12, 'ovs-system', kind='openvswitch'),
]


def address(text: str, interface: int, **flags: bool) -> Address:
    both = ipaddress.ip_interface(text)
    return Address(both.ip, both.network, interface, **flags)


def host(*addresses: Address) -> HostNetwork:
    def link(which: Union[int, str]) -> Optional[Interface]:
        return next((one for one in LINKS if which in (one.index, one.name)), None)

    return HostNetwork([address('127.0.0.1/8', 1), address('10.66.0.11/24', 4), *addresses], link)


def intended(
    network: HostNetwork, inbound: str = '', my_ip: str = '10.66.0.11', **migcheck: Any
) -> intent.Intent:
    options = {
        'DEFAULT': {'my_ip': my_ip},
        'migcheck': migcheck,
        'libvirt': {'live_migration_inbound_addr': inbound or None},
    }
    resolved = [ipaddress.ip_address(inbound)] if inbound else ()
    return intent.of_host(Settings(options=options), network, resolved)


@pytest.mark.parametrize(
    'held, interface',
    [
        (address('10.77.0.11/24', 5), 'bond0.200'),
        (address('10.77.0.11/24', 6), 'br-mig'),
        (address('10.77.0.11/24', 9), 'eno4'),
        (address('10.77.0.11/32', 4), 'bond0'),
        (address('fd77::11/64', 5), 'bond0.200'),
    ],
)
def test_where_the_inbound_address_lies(held: Address, interface: str) -> None:
    found = intended(host(held), str(held.ip))
    assert found.names == interface and held.ip in found.addresses
    assert found.rule == 'live_migration_inbound_addr' and found.stated
    assert found == intended(
        host(held), str(held.ip), migration_networks=[], migration_interface=None
    )
    assert intended(host(held), migration_networks=[str(held.network)]).names == interface


@pytest.mark.parametrize(
    'named, interface',
    [('eno3', 'br-mig'), ('eno1', 'bond0'), ('bond0', 'bond0'), ('eno4', 'eno4')],
)
def test_named_interface_or_its_bridge_or_bond(named: str, interface: str) -> None:
    network = host(address('10.77.0.11/24', 6), address('10.78.0.11/24', 9))
    assert intended(network, migration_interface=named).names == interface


@pytest.mark.parametrize('named, certain', [('eno5', False), ('bond0.200', True), ('eno9', True)])
def test_named_interface_without_an_address(named: str, certain: bool) -> None:
    found = intended(host(), migration_interface=named)
    assert named in found.problem and found.certain is certain and not found.addresses


@pytest.mark.parametrize('interface', [1, 10])
def test_routed_address_is_on_no_interface(interface: int) -> None:
    network = host(address('10.255.0.11/32', interface))
    listed = intended(network, migration_networks=['10.255.0.0/24'])
    for found in (intended(network, '10.255.0.11'), listed):
        assert not found.interfaces and not found.problem
        assert str(found.addresses[0]) == '10.255.0.11'
    assert str(listed.networks[0]) == '10.255.0.0/24'


@pytest.mark.parametrize('flag', ['temporary', 'deprecated', 'tentative', 'duplicate'])
def test_unstable_addresses_are_not_intended(flag: str) -> None:
    network = host(
        address('fd77::11/64', 5),
        address('fd77::99/64', 5, **{flag: True}),
        address('fe80::1/64', 5),
    )
    found = intended(network, migration_networks=['fd77::/64', 'fe80::/10'])
    assert [str(ip) for ip in found.addresses] == ['fd77::11']


def test_vip_adds_no_network() -> None:
    network = host(
        address('10.77.0.11/24', 5), address('10.77.0.99/32', 5), address('10.77.0.98/24', 5)
    )
    assert [str(net) for net in intended(network, '10.77.0.11').networks] == ['10.77.0.0/24']


def test_my_ip_is_a_guess() -> None:
    found = intended(host(address('10.77.0.11/24', 5)))
    assert (found.names, found.stated) == ('bond0', False)
    for wrong in ('10.66.0.99', 'node1', ''):
        assert intended(host(), my_ip=wrong).problem
