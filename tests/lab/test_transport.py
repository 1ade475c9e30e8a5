# SPDX-License-Identifier: Apache-2.0
"""The transport check between two real hosts, broken in one way at a time, each fault beside its nearest healthy twin."""

from __future__ import annotations

import contextlib
import socket
import ssl
import types
from typing import Any, Iterator, Mapping, Optional

import pytest

from nova_migcheck.finding import Outcome
from tests.lab import SLACK, certificates, libvirtd, namespaces
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.namespaces import Found, Namespace
from tests.lab.two_hosts import ADDRESS, HOSTS, TRANSPORT, TwoHosts, settings

pytestmark = pytest.mark.root

BY_NAME = {'live_migration_inbound_addr': 'node2-mig'}
OWN = {'live_migration_inbound_addr': 'node1-mig'}
LISTED = {'migration_networks': ['10.77.0.0/24']}


@pytest.fixture
def fact(hosts: TwoHosts) -> Mapping[str, Any]:
    """What a healthy target with an inbound name publishes."""
    return hosts.address(**BY_NAME).facts['migration']


def assert_says(found: Found, *words: str) -> None:
    """All words stand in one failure."""
    assert any(all(word in str(failure) for word in words) for failure in found.failures), found.text


# Healthy.

@pytest.mark.parametrize('connect', ['node2-mig', '10.77.0.12'])
def test_healthy(hosts: TwoHosts, fact: Mapping[str, Any], connect: str) -> None:
    hosts.listen('10.77.0.12')
    for options in (OWN, LISTED, {'migration_interface': 'mig0'}, {}):
        for known in (fact, {}):
            found = hosts.transport(connect, known, **options)
            assert not found.text
            assert str(found.only(Outcome.OK)[0]).startswith(f'transport: {connect} is 10.77.0.12 over mig0')
            assert len(found.only(Outcome.OK)) == 3
            assert found.seconds < SLACK


def test_no_inbound_address(hosts: TwoHosts) -> None:
    """One network for all: Nova's name and libvirt's name are the same."""
    hosts.listen('10.66.0.12')
    for libvirt_host in ('node2', 'node2.example.org'):
        hosts.source.hosts.write(*HOSTS, '10.66.0.12 node2.example.org')
        said = {**hosts.address().facts['migration'], 'libvirt_host': libvirt_host}
        assert not hosts.transport(fact=said).text


def test_runs_without_privileges(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen('10.77.0.12')
    target = {'host': 'node2', 'connect': 'node2-mig', 'migration': dict(fact)}
    found = hosts.source.check(TRANSPORT, settings('node1', target=target, **OWN), user=65534)
    assert not found.text and len(found.only(Outcome.OK)) == 3


# A1, A3: the name leads elsewhere than the target says.

def test_wrong_line_in_the_hosts_file_of_the_source(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    """Every byte would go over the management network, without a warning of anybody's."""
    hosts.listen()
    hosts.source.hosts.write('127.0.0.1 localhost', '10.77.0.11 node1-mig', '10.66.0.12 node2-mig # wrong')
    for options in (OWN, LISTED, {'migration_interface': 'mig0'}, {}):
        for known in (fact, {}):
            if not known and not options:
                continue  # nobody has said what is meant
            found = hosts.transport('node2-mig', known, **options)
            assert_says(found, 'node2-mig', '10.66.0.12', 'mgmt0', 'mig0', '/etc/hosts:3')
            assert 'mgmt0' in found.one(Outcome.FAILURE).detail[:255] and 'mig0' in found.one(Outcome.FAILURE).detail[:255]


@pytest.mark.parametrize('own', [['127.0.1.1 node2-mig'], []])
def test_name_that_the_target_itself_resolves_to_none_of_its_addresses(hosts: TwoHosts, own: list[str]) -> None:
    """As Debian writes it, or not at all: the resolver of the source decides (truth: inbound=name names=loopback-on-target)."""
    hosts.listen('10.77.0.12')
    hosts.target.hosts.write('127.0.0.1 localhost', '10.66.0.12 node2', *own)
    fact = hosts.address(**BY_NAME).facts['migration']
    assert not fact['addresses'] and '10.77.0.12' in fact['others']
    assert not hosts.transport('node2-mig', fact, **OWN).text
    # Where it is wrong here, that is seen all the same.
    hosts.source.hosts.write('127.0.0.1 localhost', '10.77.0.11 node1-mig', '10.66.0.12 node2-mig # wrong')
    assert_says(hosts.transport('node2-mig', fact, **OWN), 'node2-mig', '10.66.0.12', 'mgmt0', 'mig0', '/etc/hosts:3')


def test_name_of_which_nobody_has_said_what_is_meant(hosts: TwoHosts) -> None:
    hosts.listen()
    hosts.source.hosts.write('10.66.0.12 node2-mig')
    assert not hosts.transport('node2-mig').failures


def test_name_that_leads_to_a_third_host(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen()
    hosts.target.address('mig0', '10.77.0.13/24')  # answers, but is not what the target published
    hosts.source.hosts.write('10.77.0.13 node2-mig')
    assert_says(hosts.transport('node2-mig', fact), '10.77.0.13', 'is no address of node2')


def test_name_on_two_lines(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen()
    hosts.source.hosts.write('127.0.0.1 localhost', '10.66.0.12 node2-mig', '10.77.0.12 node2 Node2-Mig')
    for known in (fact, {}):
        assert_says(hosts.transport('node2-mig', known, **OWN), 'node2-mig', 'line 2 says 10.66.0.12', 'line 3 says 10.77.0.12',
                    '10.66.0.12 is tried first', '/etc/hosts:2')


@pytest.mark.parametrize('lines', [
    ['10.77.0.12 node2-mig', '10.77.0.12 node2-mig node2'],
    ['10.77.0.12 node2-mig', 'fd77::12 node2-mig'],
    ['10.77.0.12 node2-mig', '10.66.0.12 node2-mgmt # node2-mig'],
])
def test_name_on_two_lines_that_agree(hosts: TwoHosts, lines: list) -> None:
    for host, number in ((hosts.source, 11), (hosts.target, 12)):
        host.address('mig0', f'fd77::{number}/64')
    hosts.listen('::')
    fact = hosts.address(**BY_NAME).facts['migration']
    hosts.source.hosts.write('127.0.0.1 localhost', '10.77.0.11 node1-mig', *lines)
    assert not hosts.transport('node2-mig', fact, **OWN).text


def test_two_addresses_of_the_target_on_its_migration_interface(hosts: TwoHosts) -> None:
    """Untidy, but both lead there."""
    hosts.target.address('mig0', '10.77.0.99/32')
    hosts.listen()
    fact = hosts.address(**BY_NAME).facts['migration']
    hosts.source.hosts.write('10.77.0.12 node2-mig', '10.77.0.99 node2-mig')
    found = hosts.transport('node2-mig', fact)
    assert not found.failures and 'line 2 says 10.77.0.99' in found.one(Outcome.WARNING).detail


# A5, A6: the name leads nowhere.

@pytest.mark.parametrize('line, words', [
    ('127.0.1.1 node2-mig', ('127.0.1.1', 'loopback', '/etc/hosts:1')),
    ('10.77.0.11 node2-mig', ('10.77.0.11', 'this host itself', '/etc/hosts:1')),
    ('10.99.0.1 node2-mig', ('10.99.0.1', 'no route')),
    ('', ('node2-mig does not resolve', 'live_migration_inbound_addr of node2')),
])
def test_name_that_leads_nowhere(hosts: TwoHosts, line: str, words: tuple) -> None:
    hosts.source.hosts.write(line)
    assert_says(hosts.transport('node2-mig'), 'node2-mig', *words)


def test_resolver_that_does_not_answer_is_unknown(hosts: TwoHosts) -> None:
    resolv_conf = hosts.source.files / 'resolv.conf'
    resolv_conf.write_text('nameserver 127.0.0.53\noptions timeout:10 attempts:1\n')
    hosts.source.ip('address add 127.0.0.53/32 dev lo')
    hosts.source.drop('udp dport 53')
    found = hosts.transport('node2.example.org', timeout=1)
    assert not found.failures
    assert 'gave no answer within 1.2 s' in found.one(Outcome.UNKNOWN).detail
    assert found.seconds < 1.2 + SLACK


# A7, A9: the way out.

@pytest.mark.parametrize('options', [OWN, LISTED, {'migration_interface': 'mig0'}])
def test_route_by_another_interface(hosts: TwoHosts, fact: Mapping[str, Any], options: dict) -> None:
    hosts.source.ip('route add 10.77.0.12/32 via 10.66.0.12 dev mgmt0')
    hosts.listen()
    assert_says(hosts.transport('10.77.0.12', fact, **options), '10.77.0.12', 'over mgmt0', 'over mig0')


def test_route_by_another_interface_where_nothing_is_stated(hosts: TwoHosts) -> None:
    hosts.source.ip('route add 10.66.0.12/32 via 10.77.0.12 dev mig0')
    hosts.listen()
    found = hosts.transport(fact=hosts.address().facts['migration'] | {'libvirt_host': 'node2'})
    assert not found.failures and 'over mig0' in found.one(Outcome.WARNING).detail


def test_way_out_without_carrier(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.target.ip('link set mig0 down')
    assert_says(hosts.transport('10.77.0.12', fact, timeout=1, **OWN), 'mig0', 'no carrier')


# A11: two names, two networks.

@pytest.mark.parametrize('line, well', [
    ('10.77.0.12 node2.example.org', False),
    ('10.66.0.12 node2.example.org', True),
    ('fd66::12 node2.example.org', True),
])
def test_names_that_lead_to_different_networks(hosts: TwoHosts, line: str, well: bool) -> None:
    for host, number in ((hosts.source, 11), (hosts.target, 12)):
        host.address('mgmt0', f'fd66::{number}/64')
    hosts.listen('::')
    hosts.source.hosts.add(line)
    found = hosts.transport(fact={**hosts.address().facts['migration'], 'libvirt_host': 'node2.example.org'})
    if well:
        assert not found.text
    else:
        assert_says(found, 'node2 is 10.66.0.12 over mgmt0', 'node2.example.org is 10.77.0.12 over mig0', 'different networks')


def test_libvirts_name_that_is_not_known(hosts: TwoHosts) -> None:
    hosts.listen()
    found = hosts.transport()
    assert not found.failures and 'host name' in found.one(Outcome.UNKNOWN).detail


def test_libvirts_name_does_not_matter_with_an_inbound_address(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen('10.77.0.12')
    assert not hosts.transport('node2-mig', {**fact, 'libvirt_host': 'nosuch'}).text


# K6: a migration network with a router in it.

@contextlib.contextmanager
def routed(hosts: TwoHosts, by: str) -> Iterator[None]:
    """node2's migration address in a subnet of its own, behind a router that node1 reaches over ``by``."""
    with Namespace('router') as router:
        namespaces.join(router, hosts.source, 'up0')
        namespaces.join(router, hosts.target, 'down0')
        router.sysctl('net.ipv4.ip_forward', 1)
        router.address('up0', '10.88.0.1/24')
        router.address('down0', '10.99.0.1/24')
        hosts.source.address('up0', '10.88.0.11/24')
        hosts.target.address('down0', '10.99.0.12/24')
        hosts.target.ip('route add 10.88.0.0/24 via 10.99.0.1')
        hosts.source.ip('route add 10.99.0.0/24 via 10.88.0.1' if by == 'up0' else 'route add 10.99.0.0/24 via 10.66.0.12 dev mgmt0')
        yield


@pytest.mark.parametrize('here, there', [
    ({'live_migration_inbound_addr': '10.88.0.11'}, {'live_migration_inbound_addr': '10.99.0.12'}),
    ({'migration_interface': 'up0'}, {'migration_interface': 'down0', 'live_migration_inbound_addr': '10.99.0.12'}),
    ({'migration_networks': ['10.88.0.0/24', '10.99.0.0/24']},
     {'migration_networks': ['10.88.0.0/24', '10.99.0.0/24'], 'live_migration_inbound_addr': '10.99.0.12'}),
])
@pytest.mark.parametrize('by', ['up0', 'mgmt0'])
def test_routed_migration_network(hosts: TwoHosts, here: dict, there: dict, by: str) -> None:
    from nova_migcheck.network import migration as networks
    with routed(hosts, by):
        hosts.listen('10.99.0.12')
        target = hosts.address(**there)
        assert not target.text
        source = hosts.address(hosts.source, **here)
        assert not networks.compare(source.facts['migration'], target.facts['migration'])
        found = hosts.transport('10.99.0.12', target.facts['migration'], timeout=1, **here)
        if by == 'up0':
            assert not found.text
        else:
            assert_says(found, '10.99.0.12', 'over mgmt0', 'over up0')


def test_outside_of_the_listed_networks(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen()
    found = hosts.transport('10.77.0.12', fact, migration_networks=['10.66.0.0/24'])
    assert_says(found, '10.77.0.12', 'outside of 10.66.0.0/24', '[migcheck] migration_networks')


# K9: nothing but IPv6.

def test_ipv6_everywhere(hosts: TwoHosts) -> None:
    for host, number in ((hosts.source, 11), (hosts.target, 12)):
        for interface, network in (('mgmt0', 'fd66'), ('mig0', 'fd77')):
            host.ip(f'address flush dev {interface} scope global')
            host.address(interface, f'{network}::{number}/64')
        host.hosts.write('::1 localhost', 'fd66::11 node1', 'fd66::12 node2', 'fd77::11 node1-mig', 'fd77::12 node2-mig')
    hosts.listen('fd77::12')
    fact = hosts.target.check(ADDRESS, settings('node2', my_ip='fd66::12', **BY_NAME)).facts['migration']
    for connect in ('fd77::12', 'node2-mig'):
        for options in (OWN, {'migration_networks': ['fd77::/64']}, {'migration_interface': 'mig0'}, {}):
            found = hosts.transport(connect, fact, **options)
            assert not found.text and len(found.only(Outcome.OK)) == 3
    assert '[fd77::12]:16509' in str(found.findings)
    hosts.source.hosts.write('fd66::12 node2-mig')
    assert_says(hosts.transport('node2-mig', fact, timeout=1, **OWN), 'fd66::12', 'mgmt0', 'mig0')


# T1: libvirt's port.

def test_libvirtd_that_does_not_listen_there(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen('10.66.0.12')  # on the management network only
    assert_says(hosts.transport('node2-mig', fact), '10.77.0.12:16509', 'connection refused')


@pytest.mark.parametrize('verdict, words', [('drop', 'no answer within'), ('reject', 'rejected by a firewall')])
def test_libvirt_port_that_is_filtered(hosts: TwoHosts, fact: Mapping[str, Any], verdict: str, words: str) -> None:
    hosts.listen()
    hosts.target.drop('tcp dport 16509', verdict)
    found = hosts.transport('node2-mig', fact, timeout=1)
    assert_says(found, '10.77.0.12:16509', words)
    assert found.seconds < 1 + SLACK


@pytest.mark.parametrize('serve, words', [
    (namespaces.until_closed, 'accepts connections but does not answer'),
    (namespaces.ssh, 'not libvirtd'),
    (lambda connection: None, 'closes the connection'),
])
def test_something_else_than_a_healthy_libvirtd(hosts: TwoHosts, fact: Mapping[str, Any], serve: Any, words: str) -> None:
    hosts.listen(serve=serve)
    assert_says(hosts.transport('node2-mig', fact, timeout=1), '10.77.0.12:16509', words)


def test_dead_host(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.target.ip('address delete 10.77.0.12/24 dev mig0')
    found = hosts.transport('10.77.0.12', fact, timeout=1)
    assert_says(found, '10.77.0.12:16509')
    assert_says(found, '49152-49215')
    assert found.seconds < 1 + SLACK


@pytest.mark.parametrize('silent_first', [True, False])
def test_one_of_two_addresses_does_not_answer(hosts: TwoHosts, silent_first: bool) -> None:
    """libvirt tries one after the other, and waits minutes for a silent one; a refused one costs nothing."""
    hosts.target.address('mig0', '10.77.0.99/32')
    hosts.listen('10.77.0.99')
    hosts.source.hosts.write('10.77.0.12 node2-mig', '10.77.0.99 node2-mig')
    fact = hosts.address(**BY_NAME).facts['migration'] | {'addresses': ['10.77.0.12', '10.77.0.99'], 'others': {}}
    if silent_first:
        hosts.target.drop('ip daddr 10.77.0.12 tcp dport 16509')
        assert_says(hosts.transport('node2-mig', fact, timeout=1), '10.77.0.12:16509')
    else:
        assert not hosts.transport('node2-mig', fact).failures


@pytest.mark.parametrize('uri, port', [('qemu+tcp://%s:17000/system', 17000), ('qemu+tcp://nova@%s/system', 16509)])
def test_uri_of_ones_own(hosts: TwoHosts, fact: Mapping[str, Any], uri: str, port: int) -> None:
    assert_says(hosts.transport('node2-mig', fact, live_migration_uri=uri), f'10.77.0.12:{port}', 'refused')
    hosts.listen(port=port)
    assert not hosts.transport('node2-mig', fact, live_migration_uri=uri).text


def test_uri_that_takes_no_name(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    assert_says(hosts.transport('node2-mig', fact, live_migration_uri='qemu+tcp://node9/system'), 'qemu+tcp://node9/system')


def test_uri_of_a_transport_whose_port_is_unknown(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    found = hosts.transport('node2-mig', fact, live_migration_uri='qemu+ext://%s/system')
    assert not found.failures and found.one(Outcome.UNKNOWN).code == 'transport-no-port'


@pytest.mark.parametrize('serve, words', [(namespaces.ssh, ''), (namespaces.until_closed, 'does not answer'), (None, 'refused')])
def test_ssh(hosts: TwoHosts, fact: Mapping[str, Any], serve: Any, words: str) -> None:
    if serve:
        for port in (22, 2022):
            hosts.listen(port=port, serve=serve)
    by_uri = hosts.transport('node2-mig', fact, timeout=1, live_migration_uri='qemu+ssh://nova@%s:2022/system?keyfile=/etc/nova/key')
    by_scheme = hosts.transport('node2-mig', fact, timeout=1, live_migration_scheme='ssh')
    if words:
        assert_says(by_uri, '10.77.0.12:2022', words)
        # ~/.ssh/config may name another port.
        assert not by_scheme.failures and '10.77.0.12:22' in by_scheme.one(Outcome.UNKNOWN).detail
    else:
        assert not by_uri.text and not by_scheme.text


# T2: QEMU's ports.

@pytest.mark.parametrize('verdict, words', [('drop', 'no answer within'), ('reject', 'rejected by a firewall')])
def test_qemu_ports_that_are_filtered(hosts: TwoHosts, fact: Mapping[str, Any], verdict: str, words: str) -> None:
    hosts.listen()
    hosts.target.drop('tcp dport 49152-49215', verdict)
    found = hosts.transport('node2-mig', fact, timeout=1)
    assert_says(found, '49152-49215', '10.77.0.12', words)
    assert len(found.failures) == 1
    assert found.seconds < 1 + SLACK
    # Through libvirt's own connection it does not need them.
    assert not hosts.transport('node2-mig', fact, live_migration_tunnelled=True).text


def test_filtered_qemu_ports_are_reported_within_the_default_deadline(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen()
    hosts.target.drop('tcp dport 49152-49215')
    found = hosts.transport('node2-mig', fact, timeout=5)
    assert found.failures and found.seconds < 5 + SLACK


@pytest.mark.parametrize('filtered', ['49160-49215', '49192-49215'])
def test_firewall_that_lets_some_migrations_through(hosts: TwoHosts, fact: Mapping[str, Any], filtered: str) -> None:
    """It is well as long as few come at once, so it is no ground for a refusal."""
    hosts.listen()
    hosts.target.drop(f'tcp dport {filtered}')
    found = hosts.transport('node2-mig', fact, timeout=1)
    assert not found.failures and '49215' in found.one(Outcome.WARNING).detail


def test_qemu_ports_of_the_targets_own_configuration(hosts: TwoHosts) -> None:
    hosts.listen()
    hosts.target.write('/etc/libvirt/qemu.conf', '#migration_port_min = 1\nmigration_port_min = 50000\nmigration_port_max = 50009\n')
    hosts.target.drop('tcp dport 49152-49215')
    fact = hosts.address(**BY_NAME).facts['migration']
    assert fact['qemu_ports'] == [50000, 50009]
    assert not hosts.transport('node2-mig', fact, timeout=1).text
    hosts.target.drop('tcp dport 50000-50009')
    assert_says(hosts.transport('node2-mig', fact, timeout=1), '50000-50009')


@pytest.mark.parametrize('listens, well', [
    ('10.77.0.12', True), ('node2-mig', True), ('0.0.0.0', True), ('::', True), ('', True), ('nowhere.example.org', True),
    ('10.66.0.12', False), ('node2', False), ('127.0.0.1', False), ('10.77.0.99', False)])
def test_address_at_which_the_targets_qemu_waits(hosts: TwoHosts, listens: str, well: bool) -> None:
    """Real migrations fail so: truth, qemu-listens=management and qemu-listens=nobody."""
    hosts.listen()
    hosts.target.write('/etc/libvirt/qemu.conf', f'migration_address = "{listens}"\n')
    found = hosts.transport('node2-mig', hosts.address(**BY_NAME).facts['migration'])
    if well:
        assert not found.text
    else:
        failure = found.one(Outcome.FAILURE)
        assert failure.code == 'transport-qemu-elsewhere' and '10.77.0.12' in failure.detail and 'migration_address' in failure.origin
        # Through libvirt's own connection it does not matter.
        assert not hosts.transport('node2-mig', hosts.address(**BY_NAME).facts['migration'], live_migration_tunnelled=True).text


def test_ports_where_a_migration_may_be_waiting_are_left_alone(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    """Who connects first to a QEMU that waits for its migration is taken for the source.

    Row W8: whatever listens on 49152, it is no fault. QEMU takes the next port that is free.
    """
    hosts.listen()
    touched = []
    for port in range(49152, 49157):
        hosts.listen(port=port, serve=lambda connection: touched.append(connection.getsockname()))
    assert not hosts.transport('node2-mig', fact).text
    assert not touched


# T3: TLS.

AUTHORITY = certificates.authority()
CLIENT = certificates.issue('node1', ['node1'], AUTHORITY)


def tls_server(own: certificates.Certificate, files: Any, welcome: bytes = b'\1') -> Any:
    """Serve as libvirtd does over TLS: it asks for a client certificate, and says 1 when that is right."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, text in (('cert', own.pem), ('key', own.key), ('ca', AUTHORITY.pem)):
        (files / name).write_text(text)
    context.load_cert_chain(files / 'cert', files / 'key')
    context.load_verify_locations(files / 'ca')
    context.verify_mode = ssl.CERT_REQUIRED if welcome else ssl.CERT_NONE

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError, OSError), context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(welcome)
            namespaces.until_closed(secured)
    return serve


def install_client(host: Namespace, client: Optional[certificates.Certificate] = CLIENT, mode: str = '600') -> None:
    host.write('/etc/pki/CA/cacert.pem', AUTHORITY.pem)
    if client is not None:
        host.write('/etc/pki/libvirt/clientcert.pem', client.pem)
        host.write('/etc/pki/libvirt/private/clientkey.pem', client.key, mode)


@pytest.mark.parametrize('names, connect', [(['node2-mig'], 'node2-mig'), (['10.77.0.12'], '10.77.0.12'), (['*'], 'node2-mig')])
def test_tls(hosts: TwoHosts, fact: Mapping[str, Any], tmp_path: Any, names: list, connect: str) -> None:
    server = certificates.issue('node2-mig', [] if names == ['*'] else names, AUTHORITY)
    hosts.listen(port=16514, serve=tls_server(server, tmp_path))
    install_client(hosts.source)
    found = hosts.transport(connect, fact, live_migration_scheme='tls')
    assert not found.text and len(found.only(Outcome.OK)) == 3
    # As the user nova, who may not read the key.
    target = {'host': 'node2', 'connect': connect, 'migration': dict(fact)}
    found = hosts.source.check(TRANSPORT, settings('node1', target=target, live_migration_scheme='tls'), user=65534)
    assert not found.failures, found.text


@pytest.mark.parametrize('server, words', [
    (certificates.issue('node2-mig', ['node2-mig'], AUTHORITY, days=-3), ('expired', 'expired on')),
    (certificates.issue('other', ['other.example.org'], AUTHORITY), ('other.example.org', 'node2-mig')),
    (certificates.issue('node2-mig', ['node2-mig']), ('self-signed',)),
    (certificates.issue('node2-mig', ['node2-mig'], certificates.authority('Other CA')), ('issuer',)),
])
def test_tls_server_certificate_that_libvirt_refuses(hosts: TwoHosts, fact: Mapping[str, Any], tmp_path: Any, server: Any,
                                                     words: tuple) -> None:
    hosts.listen(port=16514, serve=tls_server(server, tmp_path))
    install_client(hosts.source)
    assert_says(hosts.transport('node2-mig', fact, live_migration_scheme='tls'), '10.77.0.12:16514', *words)


@pytest.mark.parametrize('client, words', [
    (None, ('/etc/pki/libvirt/clientcert.pem', 'missing')),
    (certificates.issue('node1', ['node1'], AUTHORITY, days=-3), ('/etc/pki/libvirt/clientcert.pem', 'expired on 20')),
    (certificates.issue('node1', ['node1'], AUTHORITY, since=2), ('/etc/pki/libvirt/clientcert.pem', 'not valid before 20')),
    (certificates.issue('node1', ['node1'], certificates.authority('Other CA')), ('CN=Other CA', 'cacert.pem')),
    (types.SimpleNamespace(pem='no certificate', key=CLIENT.key),
     ('/etc/pki/libvirt/clientcert.pem', '[transport-malformed]')),
])
def test_tls_client_certificate(hosts: TwoHosts, fact: Mapping[str, Any], tmp_path: Any, client: Any, words: tuple) -> None:
    """libvirt's configuration is to be seen here, so a missing file is really missing."""
    hosts.listen(port=16514, serve=tls_server(certificates.issue('node2-mig', [], AUTHORITY), tmp_path))
    install_client(hosts.source, client)
    hosts.source.write('/etc/libvirt/qemu.conf', '')
    assert_says(hosts.transport('node2-mig', fact, timeout=1, live_migration_scheme='tls'), *words, 'live_migration_scheme')


def test_tls_files_in_another_container_are_unknown(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen()
    hosts.source.run('rm', '-f', '/etc/libvirt/qemu.conf')
    found = hosts.transport('node2-mig', fact, live_migration_with_native_tls=True)
    assert not found.failures and '/etc/pki/qemu' in found.one(Outcome.UNKNOWN).subject


def test_native_tls(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    hosts.listen()
    hosts.source.write('/etc/libvirt/qemu.conf', 'user = "nobody"\nmigrate_tls_x509_cert_dir = "/etc/pki/migrate"\n')
    options = {'live_migration_with_native_tls': True}
    assert_says(hosts.transport('node2-mig', fact, **options), '/etc/pki/migrate/ca-cert.pem', 'missing', 'native_tls')
    for name, text in (('ca-cert', AUTHORITY.pem), ('client-cert', CLIENT.pem)):
        hosts.source.write(f'/etc/pki/migrate/{name}.pem', text)
    hosts.source.write('/etc/pki/migrate/client-key.pem', CLIENT.key, '600')
    assert_says(hosts.transport('node2-mig', fact, **options), 'client-key.pem', 'QEMU runs as nobody')
    hosts.source.write('/etc/pki/migrate/client-key.pem', CLIENT.key, '644')
    assert not hosts.transport('node2-mig', fact, **options).text


# Where it cannot tell.

def test_namespace_without_the_hosts_interfaces(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    with Namespace('container') as alone:
        target = {'host': 'node2', 'connect': '10.77.0.12', 'migration': dict(fact)}
        found = alone.check(TRANSPORT, settings('node1', target=target, **LISTED))
    assert not found.failures and 'network namespace' in found.one(Outcome.UNKNOWN).detail


@pytest.mark.parametrize('target', [{}, {'migration': []}, {'host': 'node2', 'connect': '10.77.0.12', 'migration': {'addresses': 7}}])
def test_target_of_which_little_is_known(hosts: TwoHosts, target: dict) -> None:
    hosts.listen()
    found = hosts.source.check(TRANSPORT, settings('node1', target=target))
    assert not found.failures and found.findings


def test_virt_type_without_live_migration(hosts: TwoHosts, fact: Mapping[str, Any]) -> None:
    assert_says(hosts.transport('node2-mig', fact, virt_type='lxc'), 'lxc')


# L5: a switch on the way drops frames that both ends' MTU allows.

class TestPathMtu:
    DROPS = 'iifname "mig0" meta length > 1500'

    @pytest.fixture
    def jumbo(self, hosts: TwoHosts) -> TwoHosts:
        for host in (hosts.source, hosts.target):
            host.ip('link set mig0 mtu 9000 gso_max_segs 1')
            host.address('mig0', f'fd77::{11 if host is hosts.source else 12}/64')
        hosts.listen('::')
        return hosts

    @pytest.mark.parametrize('address, passed', [('10.77.0.12', 1500), ('fd77::12', 1500)])
    def test_large_frames_are_dropped(self, jumbo: TwoHosts, address: str, passed: int) -> None:
        jumbo.target.drop(self.DROPS)
        fact = jumbo.address(live_migration_inbound_addr=address).facts['migration']
        found = jumbo.transport(address, fact, timeout=5.0).one(Outcome.FAILURE)
        assert found.code == 'transport-path-mtu' and found.subject == address
        assert 'packets of 9000 bytes' in found.detail and f'those of {passed} bytes are' in found.detail
        assert 'The MTU is 9000 here, 9000 there' in found.detail

    @pytest.mark.parametrize('address', ['10.77.0.12', 'fd77::12'])
    def test_all_frames_pass(self, jumbo: TwoHosts, address: str) -> None:
        fact = jumbo.address(live_migration_inbound_addr=address).facts['migration']
        found = jumbo.transport(address, fact)
        assert not found.text and found.seconds < SLACK

    def test_the_usual_mtu_all_the_way(self, hosts: TwoHosts) -> None:
        hosts.listen('0.0.0.0')
        hosts.target.drop(self.DROPS)
        fact = hosts.address(live_migration_inbound_addr='10.77.0.12').facts['migration']
        assert not hosts.transport('10.77.0.12', fact).text

    def test_a_target_with_a_smaller_mtu_behind_a_router_that_says_nothing(self, jumbo: TwoHosts) -> None:
        """TCP agrees on the smaller size."""
        jumbo.target.drop(self.DROPS)
        jumbo.target.ip('link set mig0 mtu 1500')
        fact = jumbo.address(live_migration_inbound_addr='10.77.0.12').facts['migration']
        found = jumbo.transport('10.77.0.12', fact)
        assert not [one for one in found.failures if one.code == 'transport-path-mtu']

    def test_a_router_that_says_nothing(self, jumbo: TwoHosts) -> None:
        """Frames of 9,000 bytes here and 1,500 behind it: TCP agrees on what fits the far end."""
        with Namespace('router') as router:
            namespaces.join(jumbo.source, router, 'near0', mtu=9000)
            namespaces.join(router, jumbo.target, 'far0', mtu=1500)
            for host, interface, address in (
                (jumbo.source, 'near0', '10.88.0.11/24'),
                (router, 'near0', '10.88.0.1/24'),
                (router, 'far0', '10.89.0.1/24'),
                (jumbo.target, 'far0', '10.89.0.12/24'),
            ):
                host.address(interface, address)
            router.sysctl('net.ipv4.ip_forward', 1)
            router.drop('ip protocol icmp', hook='output')
            jumbo.source.ip('route add 10.89.0.0/24 via 10.88.0.1')
            jumbo.target.ip('route add 10.88.0.0/24 via 10.89.0.1')
            fact = jumbo.address(live_migration_inbound_addr='10.89.0.12').facts['migration']
            found = jumbo.transport('10.89.0.12', fact)
        assert not found.failures, found.text

    def test_udp_is_filtered(self, jumbo: TwoHosts) -> None:
        """A migration needs none, and it is not asked for."""
        jumbo.target.drop('meta l4proto { udp, icmp, ipv6-icmp }')
        fact = jumbo.address(live_migration_inbound_addr='10.77.0.12').facts['migration']
        found = jumbo.transport('10.77.0.12', fact)
        assert not found.text, found.text

    def test_nothing_listens_there(self, jumbo: TwoHosts, fact: Mapping[str, Any]) -> None:
        jumbo.target.drop('tcp dport 16509')
        found = jumbo.transport('10.77.0.12', fact)
        assert {one.code for one in found.failures} == {'transport-libvirt-silent'}


# L1: libvirt wants a login, and refuses every one.

@pytest.mark.libvirt
@pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-')
@pytest.mark.parametrize('mechanisms, works', [('digest-md5', True), ('gssapi', False), ('scram-sha-256', False)])
def test_sasl_of_a_real_libvirtd(hosts: TwoHosts, fact: Mapping[str, Any], mechanisms: str, works: bool) -> None:
    """A keytab or a security layer is missing: AUTH_SASL_INIT tells, without credentials."""
    with LibvirtHost(hosts.target, mechanisms=mechanisms):
        found = hosts.transport('10.77.0.12', fact, timeout=5.0)
        if works:
            assert not found.failures
        else:
            failure = found.one(Outcome.FAILURE)
            assert failure.code == 'transport-login' and 'authentication failed' in failure.detail
            assert '/etc/sasl2/libvirt.conf' in failure.remedy
