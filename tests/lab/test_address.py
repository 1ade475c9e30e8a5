# SPDX-License-Identifier: Apache-2.0
"""The address check on a real host, broken in one way at a time, each fault beside its nearest healthy twin."""

from __future__ import annotations

import os
import time
from typing import Iterator

import pytest

from nova_migcheck.finding import Outcome
from nova_migcheck.network import migration as networks
from tests.lab import SLACK, namespaces
from tests.lab.namespaces import Namespace, Switch
from tests.lab.two_hosts import ADDRESS, TwoHosts, settings

pytestmark = pytest.mark.root

MIGRATION = {'migration_networks': ['10.77.0.0/24']}


def fact(hosts: TwoHosts, **options: object) -> dict:
    return hosts.address(**options).facts['migration']


# What is meant, and what a healthy host says of itself.

@pytest.mark.parametrize('options, rule', [
    ({'migration_networks': ['10.77.0.0/24', 'fd77::/64'], 'live_migration_inbound_addr': 'node2-mig'}, 'migration_networks'),
    ({'migration_interface': 'mig0', 'live_migration_inbound_addr': 'node2-mig'}, 'migration_interface'),
    ({'live_migration_inbound_addr': 'node2-mig'}, 'live_migration_inbound_addr'),
    # my_ip is on the management network, and that is ordinary.
    ({'live_migration_inbound_addr': '10.77.0.12'}, 'live_migration_inbound_addr'),
])
def test_healthy(hosts: TwoHosts, options: dict, rule: str) -> None:
    found = hosts.address(**options)
    assert not found.text
    said = found.facts['migration']
    assert (said['intended_by'], said['interface'], said['addresses'], said['networks'], said['mtu']) == (
        rule, 'mig0', ['10.77.0.12'], ['10.77.0.0/24'], 1500)
    assert said['others'] == {'10.66.0.12': 'mgmt0'} and said['complete']
    assert said['inbound'] == options['live_migration_inbound_addr']
    assert 'mig0' in str(found.only(Outcome.OK)[0]) and rule in str(found.only(Outcome.OK)[0])


def test_nothing_is_said_of_migrations(hosts: TwoHosts) -> None:
    found = hosts.address()
    assert not found.text
    assert found.facts['migration']['intended_by'] == 'my_ip'
    assert found.facts['migration']['interface'] == 'mgmt0'


def test_runs_without_privileges(hosts: TwoHosts) -> None:
    found = hosts.target.check(ADDRESS, settings('node2', live_migration_inbound_addr='node2-mig', **MIGRATION), user=65534)
    assert not found.text and found.only(Outcome.OK)


# A1: the inbound address is that of another interface.

@pytest.mark.parametrize('meant', [{'migration_networks': ['10.77.0.0/24']}, {'migration_interface': 'mig0'}])
@pytest.mark.parametrize('inbound', ['node2-mig', '10.66.0.12'])
def test_inbound_address_of_the_wrong_interface(hosts: TwoHosts, inbound: str, meant: dict) -> None:
    hosts.target.hosts.write('127.0.0.1 localhost', '10.66.0.12 node2 node2-mig')
    failure = hosts.address(live_migration_inbound_addr=inbound, **meant).one(Outcome.FAILURE)
    for word in ('10.66.0.12', 'is on mgmt0', 'intended to go over mig0', '[migcheck] migration_'):
        assert word in str(failure)
    assert '10.77.0.12' in failure.remedy
    if inbound == 'node2-mig':
        assert '/etc/hosts:2' in failure.detail


def test_inbound_address_of_the_right_interface_and_the_wrong_network(hosts: TwoHosts) -> None:
    hosts.target.address('mig0', '10.88.0.12/24')
    failure = hosts.address(live_migration_inbound_addr='10.88.0.12', **MIGRATION).one(Outcome.FAILURE)
    assert '10.88.0.12 is on mig0' in failure.detail and 'mig0 in 10.77.0.0/24' in failure.detail
    assert not hosts.address(live_migration_inbound_addr='10.88.0.12').text


def test_inbound_name_that_leads_to_two_interfaces(hosts: TwoHosts) -> None:
    hosts.target.hosts.add('10.66.0.12 node2-mig')
    failure = hosts.address(live_migration_inbound_addr='node2-mig').one(Outcome.FAILURE)
    for word in ('line 5 says 10.77.0.12', 'line 6 says 10.66.0.12', '10.77.0.12 is tried first', '/etc/hosts:5'):
        assert word in str(failure)


# A2: nobody holds the address.

def test_inbound_address_on_no_interface(hosts: TwoHosts) -> None:
    failure = hosts.address(live_migration_inbound_addr='10.77.0.99').one(Outcome.FAILURE)
    assert '10.77.0.99 is on no interface of this host' in failure.detail
    assert '/etc/nova/nova.conf [libvirt] live_migration_inbound_addr' in failure.origin


@pytest.mark.parametrize('vip, secondary', [('10.77.0.99/32', False), ('10.77.0.99/24', True), ('fd77::99/128', False)])
def test_vip_is_an_ordinary_address(hosts: TwoHosts, vip: str, secondary: bool) -> None:
    """K5, and the VIP may even be what is used."""
    hosts.target.address('mig0', 'fd77::12/64', vip)
    for inbound in ('10.77.0.12', vip.partition('/')[0]):
        found = hosts.address(live_migration_inbound_addr=inbound, migration_networks=['10.77.0.0/24', 'fd77::/64'])
        assert not found.text
        assert found.facts['migration']['networks'] == ['10.77.0.0/24', 'fd77::/64']


def test_deprecated_vip_as_keepalived_sets_it(hosts: TwoHosts) -> None:
    hosts.target.address('mig0', 'fd77::12/64', 'fd77::99/128 preferred_lft 0')
    found = hosts.address(live_migration_inbound_addr='fd77::12', migration_interface='mig0')
    assert not found.text
    assert found.facts['migration']['addresses'] == ['10.77.0.12', 'fd77::12', 'fd77::99']
    assert not hosts.address(live_migration_inbound_addr='fd77::99').failures


def test_prefix_that_is_routed_to_the_host(hosts: TwoHosts) -> None:
    hosts.target.ip('route add local 10.99.0.0/24 dev lo')
    assert not hosts.address(live_migration_inbound_addr='10.99.0.7').failures


def test_address_on_the_loopback_interface_is_routed_to_the_host(hosts: TwoHosts) -> None:
    """BGP on the host: the address is on lo, and comes in over any interface."""
    hosts.target.ip('address add 10.255.0.12/32 dev lo')
    found = hosts.address(live_migration_inbound_addr='10.255.0.12')
    assert not found.text
    assert found.facts['migration']['interface'] is None
    assert found.facts['migration']['addresses'] == ['10.255.0.12']
    assert not hosts.address(live_migration_inbound_addr='10.255.0.12', migration_networks=['10.255.0.0/24']).text


@pytest.mark.parametrize('inbound', ['127.0.0.1', '::1', 'fe80::1'])
def test_inbound_address_that_means_nothing_elsewhere(hosts: TwoHosts, inbound: str) -> None:
    failure = hosts.address(live_migration_inbound_addr=inbound).one(Outcome.FAILURE)
    assert inbound in failure.detail and ('loopback' in failure.detail or 'link-local' in failure.detail)


# A4 and A5: the host's own name.

def test_own_name_on_two_lines(hosts: TwoHosts) -> None:
    hosts.target.hosts.write('127.0.0.1 localhost', '10.66.0.12 node2', '', '10.77.0.12 NODE2 # a comment')
    failure = hosts.address().one(Outcome.FAILURE)
    for word in ('node2', 'line 2 says 10.66.0.12', 'line 4 says 10.77.0.12', '10.66.0.12 is tried first', '/etc/hosts:2'):
        assert word in str(failure)
    # It is not used when there is an inbound address.
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


@pytest.mark.parametrize('lines', [
    ['10.66.0.12 node2', '10.66.0.12 node2.example.org node2'],
    ['10.66.0.12 node2', 'fd66::12 node2'],
])
def test_own_name_on_two_lines_that_agree(hosts: TwoHosts, lines: list) -> None:
    hosts.target.address('mgmt0', 'fd66::12/64')
    hosts.target.hosts.write('127.0.0.1 localhost', *lines)
    assert not hosts.address().text


@pytest.mark.parametrize('lines', [['127.0.1.1 node2'], ['127.0.1.1 node2.example.org node2', '10.66.0.12 node2']])
def test_debian_line_for_the_own_name_is_a_warning(hosts: TwoHosts, lines: list) -> None:
    """No other host reads this host's file."""
    hosts.target.hosts.write('127.0.0.1 localhost', *lines)
    found = hosts.address()
    assert not found.failures
    assert 'node2' in str(found.one(Outcome.WARNING)) and '127.0.1.1' in str(found.one(Outcome.WARNING))
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


def test_own_name_on_the_management_network_while_networks_are_listed(hosts: TwoHosts) -> None:
    found = hosts.address(**MIGRATION)
    assert not found.failures and 'is on mgmt0' in str(found.one(Outcome.WARNING))
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12', **MIGRATION).text


def test_own_name_that_does_not_resolve_here(hosts: TwoHosts) -> None:
    hosts.target.hosts.write('127.0.0.1 localhost')
    assert 'node2 does not resolve' in str(hosts.address().one(Outcome.WARNING))


# A8: two interfaces in one subnet.

@pytest.fixture
def twins(hosts: TwoHosts) -> Iterator[Namespace]:
    """node2 with a second interface, spare0, in the migration network."""
    with Switch('switch') as switch:
        switch.plug('spare', hosts.target, 'spare0')
        yield hosts.target


def test_two_interfaces_in_one_subnet(hosts: TwoHosts, twins: Namespace) -> None:
    twins.address('spare0', '10.77.0.22/24')
    failure = hosts.address(live_migration_inbound_addr='10.77.0.12').one(Outcome.FAILURE)
    for word in ('mig0', 'spare0', '10.77.0.0/24', '10.77.0.22', 'arp_ignore'):
        assert word in str(failure)


@pytest.mark.parametrize('sysctl', ['all.arp_ignore', 'spare0.arp_ignore', 'spare0.arp_filter'])
def test_two_interfaces_in_one_subnet_tamed_by_arp(hosts: TwoHosts, twins: Namespace, sysctl: str) -> None:
    twins.address('spare0', '10.77.0.22/24')
    twins.sysctl(f'net.ipv4.conf.{sysctl}', 1)
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


def test_two_interfaces_in_one_subnet_tamed_by_source_routing(hosts: TwoHosts, twins: Namespace) -> None:
    twins.address('spare0', '10.77.0.22/24')
    twins.ip('rule add from 10.77.0.22 lookup 100', 'route add 10.77.0.0/24 dev spare0 table 100')
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


@pytest.mark.parametrize('address', ['10.77.0.22/32', '10.77.0.22/16', '10.88.0.22/24', 'fd77::22/64'])
def test_two_interfaces_that_do_not_share_a_subnet(hosts: TwoHosts, twins: Namespace, address: str) -> None:
    """A VIP puts no subnet on its interface, a longer prefix wins, and IPv6 answers where the address is."""
    twins.address('mig0', 'fd77::12/64')
    twins.address('spare0', address)
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


def test_other_networks_may_do_what_they_like(hosts: TwoHosts, twins: Namespace) -> None:
    twins.address('spare0', '10.66.0.22/24')
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


def test_second_interface_that_is_down_or_on_the_same_wire(hosts: TwoHosts, twins: Namespace) -> None:
    twins.address('spare0', '10.77.0.22/24')
    twins.ip('link set spare0 down')
    # keepalived's use_vmac, docker's macvlan shim
    twins.ip('link add vrrp.51 link mig0 type macvlan mode private', 'address add 10.77.0.99/24 dev vrrp.51', 'link set vrrp.51 up')
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


# A9: no link.

@pytest.mark.parametrize('break_it, words', [
    (lambda hosts: hosts.target.ip('link set mig0 down'), 'is down'),
    (lambda hosts: hosts.source.ip('link set mig0 down'), 'has no carrier'),
])
@pytest.mark.parametrize('options', [{'live_migration_inbound_addr': '10.77.0.12'}, {'migration_interface': 'mig0'}])
def test_interface_without_a_link(hosts: TwoHosts, break_it: object, words: str, options: dict) -> None:
    break_it(hosts)  # type: ignore[operator]
    failure = hosts.address(**options).one(Outcome.FAILURE)
    assert failure.subject == 'mig0' and words in failure.detail


def test_another_interface_without_a_link_does_not_matter(hosts: TwoHosts) -> None:
    hosts.source.ip('link set mgmt0 down')
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').text


# A10: the MTU, from the reports of both.

@pytest.mark.parametrize('mtu', [9000, 1500])
def test_mtu_of_both_ends(hosts: TwoHosts, mtu: int) -> None:
    hosts.target.ip(f'link set mig0 mtu {mtu}')
    source = hosts.address(hosts.source, live_migration_inbound_addr='node1-mig').facts['migration']
    found = networks.compare(source, fact(hosts, live_migration_inbound_addr='node2-mig'))
    if mtu == 1500:
        assert not found
    else:
        assert found[0].outcome is Outcome.FAILURE
        for word in ('1500', '9000', 'mig0', '10.77.0.0/24', 'node1', 'node2'):
            assert word in found[0].detail


# K9: nothing but IPv6.

def test_ipv6_everywhere(hosts: TwoHosts) -> None:
    for interface in ('mgmt0', 'mig0'):
        hosts.target.ip(f'address flush dev {interface} scope global')
    hosts.target.address('mgmt0', 'fd66::12/64')
    hosts.target.address('mig0', 'fd77::12/64')
    hosts.target.hosts.write('::1 localhost', 'fd66::12 node2', 'fd77::12 node2-mig')
    for options in ({'live_migration_inbound_addr': 'fd77::12'}, {'live_migration_inbound_addr': 'node2-mig'},
                    {'live_migration_inbound_addr': 'node2-mig', 'migration_networks': ['fd77::/64']},
                    {'live_migration_inbound_addr': 'node2-mig', 'migration_interface': 'mig0'}):
        found = hosts.target.check(ADDRESS, settings('node2', my_ip='fd66::12', **options))
        assert not found.text
        assert found.facts['migration']['networks'] == ['fd77::/64']
        assert found.facts['migration']['addresses'] == ['fd77::12']
    failure = hosts.target.check(ADDRESS, settings('node2', live_migration_inbound_addr='fd66::12', migration_interface='mig0'))
    assert 'fd66::12 is on mgmt0' in failure.one(Outcome.FAILURE).detail


# What libvirt calls this host.

def test_libvirt_and_nova_know_the_host_by_names_of_different_interfaces(hosts: TwoHosts) -> None:
    for name, apart in (('node2-mig', True), ('node2', False)):
        hosts.target.write('/etc/libvirt/qemu.conf', f'migration_host = "{name}"\n')
        warned = [f for f in hosts.address().only(Outcome.WARNING) if 'different interfaces' in f.detail]
        assert bool(warned) == apart
        if apart:
            assert 'node2 is 10.66.0.12 on mgmt0 but node2-mig is 10.77.0.12 on mig0' in warned[0].detail


def test_libvirt_calls_the_host_localhost(hosts: TwoHosts) -> None:
    hosts.target.write('/etc/libvirt/qemu.conf', 'migration_host = "localhost"\n')
    assert 'it refuses migrations' in hosts.address().one(Outcome.FAILURE).detail
    # With an address of its own to be contacted at, its name does not matter.
    assert not hosts.address(live_migration_inbound_addr='10.77.0.12').failures


def test_inbound_name_that_this_host_does_not_know_or_has_for_itself(hosts: TwoHosts) -> None:
    """What counts is how the source resolves it: no more than a warning."""
    warning = hosts.address(live_migration_inbound_addr='nowhere.example.org').one(Outcome.WARNING)
    assert 'nowhere.example.org does not resolve on this host' in warning.detail
    hosts.target.hosts.add('127.0.1.1 node2-loop')
    found = hosts.address(live_migration_inbound_addr='node2-loop', **MIGRATION)
    assert not found.failures and 'node2-loop resolves to 127.0.1.1' in str(found.only(Outcome.WARNING))


def test_address_that_another_host_has_too(hosts: TwoHosts) -> None:
    hosts.source.address('mig0', 'fd77::99/64')
    hosts.target.address('mig0', 'fd77::12/64')
    hosts.target.ip('addr add fd77::99/64 dev mig0')  # the kernel looks whether anybody has it
    deadline = time.monotonic() + 10
    while 'dadfailed' not in hosts.target.run('ip', '-6', 'addr', 'show', 'dev', 'mig0') and time.monotonic() < deadline:
        time.sleep(0.1)
    assert 'in use on another host' in hosts.address(live_migration_inbound_addr='fd77::99').one(Outcome.FAILURE).detail
    assert not hosts.address(live_migration_inbound_addr='fd77::12').failures


# Where it cannot tell, and bad input.

def test_namespace_without_the_hosts_interfaces() -> None:
    if namespaces.missing():
        pytest.skip(namespaces.missing())
    with Namespace('container') as alone:
        found = alone.check(ADDRESS, settings('node2', my_ip='10.66.0.12', live_migration_inbound_addr='10.77.0.12', **MIGRATION))
    assert not found.failures and 'network namespace' in found.one(Outcome.UNKNOWN).detail
    assert found.facts['migration']['addresses'] == []


@pytest.mark.parametrize('options, words', [
    ({'migration_interface': 'mig7'}, 'there is no interface mig7'),
    ({'migration_networks': ['10.78.0.0/24']}, 'no address of this host is in 10.78.0.0/24'),
])
def test_what_is_meant_is_not_there(hosts: TwoHosts, options: dict, words: str) -> None:
    failures = hosts.address(live_migration_inbound_addr='10.77.0.12', **options).failures
    assert words in failures[0].detail and '[migcheck] migration_' in failures[0].origin


def test_interface_without_an_address(hosts: TwoHosts) -> None:
    hosts.target.ip('link add empty0 type bridge', 'link set empty0 up')
    assert 'empty0 has no address' in hosts.address(migration_interface='empty0').failures[0].detail


def test_port_of_a_bridge_stands_for_the_bridge(hosts: TwoHosts) -> None:
    hosts.target.ip('link add br-mig type bridge', 'link set br-mig up', 'address flush dev mig0', 'link set mig0 master br-mig')
    hosts.target.address('br-mig', '10.77.0.12/24')
    found = hosts.address(migration_interface='mig0', live_migration_inbound_addr='node2-mig')
    assert not found.text
    assert found.facts['migration']['interface'] == 'br-mig'


def test_hosts_file_that_cannot_be_read(hosts: TwoHosts) -> None:
    os.chmod(hosts.target.hosts.path, 0o600)
    found = hosts.target.check(ADDRESS, settings('node2', live_migration_inbound_addr='10.77.0.12'), user=65534)
    assert not found.failures
    assert '/etc/hosts' in str(found.one(Outcome.UNKNOWN)) and 'Permission denied' in str(found.one(Outcome.UNKNOWN))


def test_cold_migration_address_is_a_warning(hosts: TwoHosts) -> None:
    inbound = {'live_migration_inbound_addr': '10.77.0.12'}
    assert not hosts.address(migration_inbound_addr='10.66.0.12', **inbound).text
    for address, words in (('10.66.0.99', 'on no interface'), ('localhost', 'loopback'), ('nosuch', 'does not resolve')):
        warning = hosts.address(migration_inbound_addr=address, **inbound).one(Outcome.WARNING)
        assert address in warning.detail and words in warning.detail and 'migration_inbound_addr' in warning.origin


def test_an_address_that_both_options_have_is_reported_once(hosts: TwoHosts) -> None:
    found = hosts.address(migration_inbound_addr='10.66.0.99', live_migration_inbound_addr='10.66.0.99')
    assert [f.outcome for f in found.findings if f.outcome is not Outcome.OK] == [Outcome.FAILURE]


def test_full_host_is_cheap(hosts: TwoHosts) -> None:
    """2,000 guests' tap devices, each with a link-local address."""
    namespaces.taps(hosts.target, 2000)
    found = hosts.address(live_migration_inbound_addr='node2-mig', migration_interface='mig0')
    assert not found.text
    assert found.seconds < SLACK
