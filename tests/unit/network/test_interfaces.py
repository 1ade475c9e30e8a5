# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ipaddress

import pytest

from nova_migcheck.network.interfaces import Address, HostNetwork, Interface


@pytest.mark.parametrize('port_of, vrf', [('vrf', 9), ('bridge', 0), ('bond', 0), ('', 0)])
def test_only_a_vrf_is_one(port_of: str, vrf: int) -> None:
    assert Interface(2, 'mig0', master=9, port_of=port_of).vrf == vrf


@pytest.mark.parametrize('values, virtual', [
    ({'loopback': True}, True), ({'kind': 'dummy'}, True), ({'kind': 'vlan'}, False), ({}, False)])
def test_what_connects_to_no_network(values: dict, virtual: bool) -> None:
    assert Interface(2, 'x', **values).virtual is virtual


def test_a_network_by_its_links() -> None:
    link = Interface(2, 'mig0')
    held = Address(ipaddress.ip_address('10.77.0.1'), ipaddress.ip_network('10.77.0.0/24'), 2)
    links = {2: link, 'mig0': link}
    network = HostNetwork([held], links.get)
    assert network.interface(2) == network.interface('mig0') == link
    assert network.interface(3) is None and network.name(2) == 'mig0'
    assert network.holding(held.ip) == [held]
