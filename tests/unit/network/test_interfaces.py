# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ipaddress
import pathlib

import pytest

from nova_migcheck.network import interfaces
from nova_migcheck.network.interfaces import Address, HostNetwork, Interface


@pytest.mark.parametrize('port_of, vrf', [('vrf', 9), ('bridge', 0), ('bond', 0), ('', 0)])
def test_only_a_vrf_is_one(port_of: str, vrf: int) -> None:
    assert Interface(2, 'mig0', master=9, port_of=port_of).vrf == vrf


@pytest.mark.parametrize(
    'values, virtual',
    [({'loopback': True}, True), ({'kind': 'dummy'}, True), ({'kind': 'vlan'}, False), ({}, False)],
)
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


class Message(dict):
    """A message of rtnetlink, as pyroute2 gives it: a header, and attributes."""

    def __init__(self, attributes: dict, **header: object) -> None:
        super().__init__(header, attrs=list(attributes.items()))
        self.get_attr = attributes.get


def test_the_attributes_of_a_link() -> None:
    info = Message({'IFLA_INFO_KIND': 'macvlan', 'IFLA_INFO_SLAVE_KIND': 'vrf'})
    whole = {
        'IFLA_IFNAME': 'mig0',
        'IFLA_MTU': 9000,
        'IFLA_LINKINFO': info,
        'IFLA_LINK': 7,
        'IFLA_MASTER': 8,
    }
    assert link(whole, 0x1 | 0x10000) == Interface(
        3, 'mig0', 9000, True, True, 'macvlan', False, 7, 8, 'vrf'
    )
    assert link({'IFLA_IFNAME': 'lo'}, 0x8) == Interface(
        3, 'lo', 0, False, False, '', True, 0, 0, ''
    )
    assert (link(whole, 0x1).up, link(whole, 0x1).carrier) == (True, False)
    assert (link(whole, 0x10000).up, link(whole, 0x10000).carrier) == (False, True)
    empty = Message({})
    assert (
        link({**whole, 'IFLA_LINKINFO': empty}, 1).kind,
        link({**whole, 'IFLA_LINKINFO': empty}, 1).port_of,
    ) == ('', '')


@pytest.mark.parametrize(
    'kind, namespace, parent',
    [
        ('macvlan', None, 7),
        ('macvtap', None, 7),
        ('ipvlan', None, 7),
        ('ipvtap', None, 7),
        ('veth', None, 0),
        ('vlan', None, 0),
        ('macvlan', 0, 0),
    ],
)
def test_whose_wire_a_link_shares(kind: str, namespace: object, parent: int) -> None:
    info = Message({'IFLA_INFO_KIND': kind})
    assert (
        link({'IFLA_LINKINFO': info, 'IFLA_LINK': 7, 'IFLA_LINK_NETNSID': namespace}, 1).parent
        == parent
    )
    assert link({'IFLA_LINKINFO': info}, 1).parent == 0


def link(attributes: dict, flags: int) -> Interface:
    kernel = object.__new__(interfaces.Kernel)
    asked = []

    class Socket:
        def link(self, command: str, **which: object) -> list:
            asked.append((command, which))
            return [Message(attributes, index=3, flags=flags)]

    kernel._socket = Socket()
    by_name = kernel._read_link('mig0')
    assert kernel._read_link(3) == by_name and asked == [
        ('get', {'ifname': 'mig0'}),
        ('get', {'index': 3}),
    ]
    return by_name


@pytest.mark.parametrize(
    'flags, expected',
    [
        (0x80, set()),
        (0x01, {'temporary'}),
        (0x08, {'duplicate'}),
        (0x20, {'deprecated'}),
        (0x40, {'tentative'}),
        (0x44, set()),
        (0x69, {'temporary', 'duplicate', 'deprecated', 'tentative'}),
    ],
)
def test_the_flags_of_an_address(flags: int, expected: set) -> None:
    for where in ('header', 'attribute'):
        old = flags if where == 'header' else 0xFF
        new = None if where == 'header' else flags
        found = interfaces._address(
            Message({'IFA_ADDRESS': 'fd77::1', 'IFA_FLAGS': new}, prefixlen=64, index=3, flags=old)
        )
        assert {
            name
            for name in ('temporary', 'deprecated', 'tentative', 'duplicate')
            if getattr(found, name)
        } == expected
        assert (str(found.ip), str(found.network), found.interface) == ('fd77::1', 'fd77::/64', 3)
        assert found.candidate is not bool(expected)


def test_an_ipv4_address_and_its_peer() -> None:
    found = interfaces._address(
        Message(
            {'IFA_ADDRESS': '10.9.0.1', 'IFA_LOCAL': '10.77.0.1'}, prefixlen=32, index=3, flags=0x01
        )
    )
    assert (str(found.ip), str(found.network), found.temporary) == (
        '10.77.0.1',
        '10.9.0.1/32',
        False,
    )  # a secondary one
    assert found.host_prefix and not found.ip.is_loopback
    assert not interfaces._address(
        Message({'IFA_ADDRESS': '10.9.0.1'}, prefixlen=24, index=3, flags=0)
    ).host_prefix


@pytest.mark.parametrize(
    'text, candidate',
    [('127.0.0.1/8', False), ('fe80::1/64', False), ('::1/128', False), ('10.0.0.1/32', True)],
)
def test_addresses_that_may_be_intended(text: str, candidate: bool) -> None:
    both = ipaddress.ip_interface(text)
    assert Address(both.ip, both.network, 1).candidate is candidate


@pytest.mark.parametrize(
    'number, kind',
    [
        (1, 'unicast'),
        (2, 'local'),
        (3, 'broadcast'),
        (4, 'anycast'),
        (5, 'multicast'),
        (6, 'blackhole'),
        (7, 'unreachable'),
        (8, 'prohibit'),
        (9, 'throw'),
        (10, 'type 10'),
    ],
)
def test_kinds_of_routes(number: int, kind: str) -> None:
    kernel = object.__new__(interfaces.Kernel)
    asked = []

    class Socket:
        def route(self, command: str, **query: object) -> list:
            asked.append(query)
            return [Message({'RTA_OIF': 3} if number == 1 else {}, type=number)]

    kernel._socket = Socket()
    to, source = ipaddress.ip_address('10.0.0.1'), ipaddress.ip_address('10.0.0.2')
    assert kernel.route(to) == interfaces.Route(kind, 3 if number == 1 else 0)
    kernel.route(to, source, 9)
    assert asked == [{'dst': '10.0.0.1'}, {'dst': '10.0.0.1', 'src': '10.0.0.2', 'oif': 9}]


def test_this_machine_s_loopback() -> None:
    with interfaces.Kernel() as kernel:
        network = kernel.network()
        lo = network.interface('lo')
        assert (
            lo is not None
            and lo.loopback
            and lo.virtual
            and network.interface(lo.index) == lo
            and network.name(lo.index) == 'lo'
        )
        assert (
            network.interface('no-such-link') is None
            and network.name(2**20) == f'interface {2**20}'
        )
        local = kernel.route(ipaddress.ip_address('127.0.0.1'))
        assert local is not None and (local.kind, local.interface) == ('local', lo.index)
        assert (
            kernel.route(
                ipaddress.ip_address('127.0.0.1'), source=ipaddress.ip_address('192.0.2.1')
            )
            is None
        )


def test_where_nothing_but_the_loopback_is() -> None:
    loopback, other = (
        Address(one.ip, one.network, 1)
        for one in map(ipaddress.ip_interface, ('127.0.0.1/8', '10.0.0.1/8'))
    )
    assert (
        HostNetwork([loopback], {}.get).isolated
        and not HostNetwork([loopback, other], {}.get).isolated
    )
    assert HostNetwork([loopback, other], {}.get).candidates() == [other]


def test_an_address_with_a_zone() -> None:
    held = Address(ipaddress.ip_address('fe80::1'), ipaddress.ip_network('fe80::/64'), 1)
    assert HostNetwork([held], {}.get).holding(ipaddress.ip_address('fe80::1%eth0')) == [held]


def test_a_link_is_read_once() -> None:
    asked = []
    network = HostNetwork([], lambda which: asked.append(which))
    assert network.interface(3) is network.interface(3) is None and asked == [3]


@pytest.mark.parametrize(
    'values, answers',
    [
        ({}, True),
        ({('all', 'arp_ignore'): '1'}, False),
        ({('mig0', 'arp_ignore'): '1'}, False),
        ({('all', 'arp_filter'): '1'}, False),
        ({('mig0', 'arp_filter'): '2'}, False),
        ({('mig0', 'arp_filter'): 'x'}, None),
    ],
)
def test_who_answers_arp_for_others(
    monkeypatch: pytest.MonkeyPatch, values: dict, answers: object
) -> None:
    def fake(path: pathlib.Path) -> str:
        *_start, of, name = path.parts
        assert str(path) == f'/proc/sys/net/ipv4/conf/{of}/{name}'
        return values.get((of, name), '0')

    monkeypatch.setattr(pathlib.Path, 'read_text', fake)
    assert interfaces.answers_arp_for_others('mig0') is answers


def test_arp_of_a_link_that_is_gone() -> None:
    assert interfaces.answers_arp_for_others('no-such-link') is None
    assert interfaces.answers_arp_for_others('lo') in (True, False)
