# SPDX-License-Identifier: Apache-2.0
"""A target with virtproxyd and virtqemud: whose settings count, and what libvirt makes of them.

What stands in for virtproxyd where it is not installed: see :mod:`tests.lab.modular`.
"""

from __future__ import annotations

import subprocess
from typing import Iterator, Optional

import pytest

from nova_migcheck.finding import Outcome
from tests.lab import certificates, libvirtd, namespaces
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.modular import ModularHost, Process
from tests.lab.namespaces import Found, Namespace
from tests.lab.two_hosts import ADDRESS, TwoHosts, settings

pytestmark = [pytest.mark.root, pytest.mark.libvirt]

AUTHORITY = certificates.authority()
GOOD = certificates.issue('node2', ['node2-mig'], AUTHORITY)
EXPIRED = certificates.issue('node2', ['node2-mig'], AUTHORITY, days=-3)
CLIENT = certificates.issue('node1', ['node1'], AUTHORITY)
INBOUND, TLS = {'live_migration_inbound_addr': 'node2-mig'}, {'live_migration_scheme': 'tls'}
NOVA = 65534


@pytest.fixture
def modular(hosts: TwoHosts) -> Iterator[ModularHost]:
    """The daemons of node2, not started."""
    if libvirtd.missing():
        pytest.skip(libvirtd.missing())
    with ModularHost(hosts.target) as host:
        yield host


@pytest.fixture
def node2() -> Iterator[Namespace]:
    """A host on which no daemon of libvirt's runs."""
    if namespaces.missing():
        pytest.skip(namespaces.missing())
    with Namespace('node2') as host:
        host.write('/etc/libvirt/qemu.conf', '')
        yield host


def install(host: Namespace, own: certificates.Certificate, which: str = 'server') -> None:
    """Put a certificate where libvirt looks by default."""
    for path, text in (('CA/cacert.pem', AUTHORITY.pem), (f'libvirt/{which}cert.pem', own.pem),
                       (f'libvirt/private/{which}key.pem', own.key)):
        host.write(f'/etc/pki/{path}', text)


def named(host: Namespace, own: certificates.Certificate) -> dict[str, str]:
    """Put a certificate into a place of its own, which these settings name."""
    directory = '/etc/pki/modular'
    for name, text in (('ca', AUTHORITY.pem), ('cert', own.pem), ('key', own.key)):
        host.write(f'{directory}/{name}.pem', text)
    return {f'{name}_file': f'{directory}/{name}.pem' for name in ('ca', 'cert', 'key')}


def conf(settings: dict[str, str]) -> str:
    return ''.join(f'{name} = "{value}"\n' for name, value in settings.items())


def tls(host: Namespace, user: int = 0) -> Found:
    """The tls check of a target."""
    return host.check('nova_migcheck.checks.tls:TlsCheck', settings('node2', **INBOUND, **TLS),
                      user=user)


def libvirt_says(hosts: TwoHosts, transport: str = 'tls') -> str:
    """Connect from the source as libvirt does for a migration; the error, '' when it answers."""
    done = subprocess.run(
        hosts.source.inside('virsh', '-c', f'qemu+{transport}://node2-mig/system', 'hostname'),
        capture_output=True, text=True, timeout=60)
    return '' if done.returncode == 0 else done.stderr


# The certificates that virtproxyd.conf names.

@pytest.mark.parametrize('user', [0, NOVA])
def test_good_certificates_that_virtproxyd_conf_names(hosts: TwoHosts, modular: ModularHost,
                                                      user: int) -> None:
    """There is none in the default places, and libvirtd.conf names none."""
    modular.start(**named(hosts.target, GOOD))
    install(hosts.source, CLIENT, 'client')
    found = tls(hosts.target, user)
    assert not found.text
    (healthy,) = found.findings
    assert healthy.subject == '/etc/pki/modular/cert.pem'
    assert healthy.detail == "virtproxyd's certificate is good"
    assert '/etc/libvirt/virtproxyd.conf' in healthy.origin
    fact = hosts.address(**INBOUND, **TLS).facts['migration']
    assert not hosts.transport('node2-mig', fact, **TLS).text
    assert libvirt_says(hosts) == ''


@pytest.mark.parametrize('user', [0, NOVA])
def test_expired_certificate_that_virtproxyd_conf_names(hosts: TwoHosts, modular: ModularHost,
                                                        user: int) -> None:
    """The one in the default place, which libvirtd would use, is good."""
    modular.start(**named(hosts.target, EXPIRED), tls_no_sanity_certificate=1)
    install(hosts.target, GOOD)
    install(hosts.source, CLIENT, 'client')
    failure = tls(hosts.target, user).one(Outcome.FAILURE)
    assert failure.subject == '/etc/pki/modular/cert.pem'
    assert "virtproxyd's certificate expired on" in failure.detail
    assert 'live_migration_scheme, /etc/libvirt/virtproxyd.conf' in failure.origin
    fact = hosts.address(**INBOUND, **TLS).facts['migration']
    assert 'expired on' in hosts.transport('node2-mig', fact, **TLS).one(Outcome.FAILURE).detail
    assert "Failed to verify peer's certificate" in libvirt_says(hosts)


def test_default_certificates(hosts: TwoHosts, modular: ModularHost) -> None:
    """virtproxyd looks for them where libvirtd does, and libvirtd.conf does not concern it."""
    install(hosts.target, GOOD)
    modular.start()
    hosts.target.write('/etc/libvirt/libvirtd.conf', conf(named(hosts.target, EXPIRED)))
    install(hosts.source, CLIENT, 'client')
    assert not tls(hosts.target).text
    assert libvirt_says(hosts) == ''


# Whether a source needs a certificate is the target's setting.

@pytest.mark.parametrize('client, verifies, well', [
    (None, True, False), (None, False, True), (CLIENT, True, True), (CLIENT, False, True),
    # libvirt on the source does not use such a certificate, whatever the target wants.
    (certificates.issue('node1', ['node1'], AUTHORITY, days=-3), False, False),
])
def test_client_certificate(hosts: TwoHosts, modular: ModularHost,
                            client: Optional[certificates.Certificate], verifies: bool,
                            well: bool) -> None:
    modular.start(**named(hosts.target, GOOD), tls_no_verify_certificate=int(not verifies))
    install(hosts.source, client or CLIENT, 'client')
    if client is None:
        hosts.source.run('rm', '/etc/pki/libvirt/clientcert.pem',
                         '/etc/pki/libvirt/private/clientkey.pem')
    # The source's own files say the contrary.
    hosts.source.write('/etc/libvirt/qemu.conf', '')
    for name in ('libvirtd', 'virtproxyd'):
        hosts.source.write(f'/etc/libvirt/{name}.conf',
                           f'tls_no_verify_certificate = {int(verifies)}\n')
    fact = hosts.address(**INBOUND, **TLS).facts['migration']
    assert (fact['daemon'], fact['libvirt_verifies']) == ('virtproxyd', verifies)
    newer = ('daemon', 'libvirt_verifies', 'qemu_verifies')
    older = {key: value for key, value in fact.items() if key not in newer}
    for known in (fact, older):
        found = hosts.transport('node2-mig', known, **TLS)
        if well:
            assert not found.text
        else:
            assert '/etc/pki/libvirt/clientcert.pem' in [one.subject for one in found.failures]
    assert (libvirt_says(hosts) == '') == well


def test_client_certificate_for_a_port_that_does_not_answer(hosts: TwoHosts) -> None:
    """The report alone says it then."""
    install(hosts.source, CLIENT, 'client')
    hosts.source.run('rm', '/etc/pki/libvirt/clientcert.pem')
    for said, missing in ((True, 1), (False, 0), (None, 1)):
        found = hosts.transport('node2-mig', {'libvirt_verifies': said}, **TLS)
        assert len([one for one in found.failures if 'clientcert.pem' in one.subject]) == missing


def test_authority_that_is_missing_on_the_source(hosts: TwoHosts, modular: ModularHost) -> None:
    """Without it the source cannot verify the target, whatever the target verifies."""
    modular.start(**named(hosts.target, GOOD), tls_no_verify_certificate=1)
    hosts.source.write('/etc/libvirt/qemu.conf', '')
    fact = hosts.address(**INBOUND, **TLS).facts['migration']
    failure = hosts.transport('node2-mig', fact, **TLS).one(Outcome.FAILURE)
    assert failure.subject == '/etc/pki/CA/cacert.pem'
    assert '/etc/pki/CA/cacert.pem' in libvirt_says(hosts)


@pytest.mark.parametrize('said, outcome', [
    (True, Outcome.FAILURE), (False, None), (None, Outcome.UNKNOWN)])
def test_client_certificate_of_qemu(hosts: TwoHosts, said: Optional[bool],
                                    outcome: Optional[Outcome]) -> None:
    """Native TLS: the same, in qemu.conf. An older report says nothing of it."""
    hosts.listen()
    hosts.source.write('/etc/libvirt/qemu.conf',
                       f'migrate_tls_x509_verify = {int(said is False)}\n')
    hosts.source.write('/etc/pki/qemu/ca-cert.pem', AUTHORITY.pem)
    hosts.target.write('/etc/libvirt/qemu.conf',
                       f'default_tls_x509_verify = {int(said is True)}\n')
    fact = hosts.address(**INBOUND).facts['migration']
    assert fact['qemu_verifies'] is (said is True)
    known, native = {**fact, 'qemu_verifies': said}, {'live_migration_with_native_tls': True}
    found = hosts.transport('node2-mig', known, **native)
    if outcome is None:
        assert not found.text
    else:
        assert '/etc/pki/qemu/client-cert.pem' in found.one(outcome).subject
    # QEMU does not start with such a certificate, whatever the target wants.
    expired = certificates.issue('node1', ['node1'], AUTHORITY, days=-3)
    for name, text in (('cert', expired.pem), ('key', expired.key)):
        hosts.source.write(f'/etc/pki/qemu/client-{name}.pem', text)
    found = hosts.transport('node2-mig', known, **native)
    assert '/etc/pki/qemu/client-cert.pem' in found.one(Outcome.FAILURE).subject


# TCP.

@pytest.mark.parametrize('user', [0, NOVA])
def test_tcp(hosts: TwoHosts, modular: ModularHost, user: int) -> None:
    modular.start(tls=False)
    fact = hosts.target.check(ADDRESS, settings('node2', my_ip='10.66.0.12', **INBOUND),
                              user=user).facts['migration']
    assert fact['daemon'] == 'virtproxyd'
    assert not hosts.transport('node2-mig', fact).text
    assert libvirt_says(hosts, 'tcp') == ''
    hosts.target.drop('tcp dport 16509', 'reject with tcp reset')
    failure = hosts.transport('node2-mig', fact).one(Outcome.FAILURE)
    assert failure.remedy.startswith('check that virtproxyd (virtproxyd-tcp.socket) on the target')
    assert 'Connection refused' in libvirt_says(hosts, 'tcp')


@pytest.mark.parametrize('scheme, daemon, words', [
    ('tls', 'virtproxyd', 'virtproxyd (virtproxyd-tls.socket)'), ('tls', 'libvirtd', 'libvirtd'),
    ('tcp', None, 'libvirtd or virtproxyd'), ('tcp', 'a daemon', 'libvirtd or virtproxyd'),
    ('ssh', 'virtproxyd', 'sshd')])
def test_who_should_listen(hosts: TwoHosts, scheme: str, daemon: Optional[str], words: str) -> None:
    options = ({'live_migration_uri': 'qemu+ssh://%s:22/system'} if scheme == 'ssh'
               else {'live_migration_scheme': scheme})
    found = hosts.transport('node2-mig', {'daemon': daemon}, **options)
    remedy = f'check that {words} on the target listens there'
    assert any(remedy in one.remedy for one in found.failures), found.text


# Which daemon serves the port.

def test_both_daemons_run(hosts: TwoHosts, modular: ModularHost) -> None:
    """Root sees who listens. Others do not: then a bad certificate of one of them is no failure."""
    install(hosts.target, EXPIRED)
    modular.start(**named(hosts.target, GOOD))
    with Process(hosts.target, 'libvirtd'):
        assert not tls(hosts.target).text
        doubt = tls(hosts.target, NOVA).one(Outcome.UNKNOWN)
        assert 'cannot determine whether libvirtd or virtproxyd serves port 16514' in doubt.detail
        # They agree: then it is certain.
        hosts.target.write('/etc/libvirt/libvirtd.conf', conf(named(hosts.target, EXPIRED)))
        for user in (0, NOVA):
            assert 'expired' in tls(hosts.target, user).one(Outcome.FAILURE).detail


@pytest.mark.parametrize('running, user, read', [
    ('virtproxyd', 0, 'virtproxyd'), ('virtqemud', 0, 'virtproxyd'), ('libvirtd', 0, 'libvirtd'),
    # A user's own daemon, of qemu:///session, says nothing of the host.
    ('virtqemud', NOVA, 'libvirtd'),
])
def test_what_runs(node2: Namespace, running: str, user: int, read: str) -> None:
    """systemd holds the port of a virtproxyd that has nothing to do."""
    node2.write('/etc/libvirt/libvirtd.conf', 'cert_file = "/etc/pki/libvirtd.pem"\n')
    if user == 0:
        node2.write('/etc/libvirt/virtproxyd.conf', 'cert_file = "/etc/pki/virtproxyd.pem"\n')
    install(node2, GOOD)
    with Process(node2, running, user):
        for checking in (0, NOVA):
            assert tls(node2, checking).one(Outcome.FAILURE).subject == f'/etc/pki/{read}.pem'


def test_a_daemon_of_another_network_namespace(node2: Namespace) -> None:
    node2.write('/etc/libvirt/virtproxyd.conf', 'cert_file = "/etc/pki/virtproxyd.pem"\n')
    node2.run('rm', '-f', '/etc/libvirt/libvirtd.conf')
    install(node2, GOOD)
    with Namespace('other') as other, Process(other, 'libvirtd'):
        for user in (0, NOVA):
            assert tls(node2, user).one(Outcome.FAILURE).subject == '/etc/pki/virtproxyd.pem'


def test_a_file_that_the_command_line_names(node2: Namespace) -> None:
    node2.write('/etc/libvirt/libvirtd.conf', 'cert_file = "/etc/pki/default.pem"\n')
    node2.write('/etc/libvirt/of-my-own.conf', conf(named(node2, GOOD)))
    arguments = ('--listen', '--config', '/etc/libvirt/of-my-own.conf')
    with Process(node2, 'libvirtd', arguments=arguments):
        assert not tls(node2).text


def test_the_daemon_that_does_not_answer_is_named(node2: Namespace) -> None:
    pytest.importorskip('libvirt', reason='libvirt-python is not installed')
    uri = 'qemu+unix:///system?socket=/run/there-is-none'
    for running in ('virtqemud', 'libvirtd'):
        with Process(node2, running):
            finding = node2.check('nova_migcheck.checks.cpu:CpuCheck',
                                  settings('node2', connection_uri=uri)).one(Outcome.UNKNOWN)
        assert finding.detail.startswith(f'{running} does not answer: ')
        assert finding.remedy == f'start {running}, or correct [libvirt] connection_uri'


# A migration.

@pytest.mark.parametrize('scheme', ['tcp', 'tls'])
def test_a_migration_to_virtproxyd(hosts: TwoHosts, modular: ModularHost, scheme: str) -> None:
    """What the checks call healthy arrives."""
    modular.start(**named(hosts.target, GOOD))
    install(hosts.source, CLIENT, 'client')
    options = {**INBOUND, 'live_migration_scheme': scheme}
    fact = hosts.address(**options).facts['migration']
    assert not hosts.transport('node2-mig', fact, **options).text
    with LibvirtHost(hosts.source) as source:
        source.guest('traveller')
        source.migrate('traveller', 'node2-mig', scheme)
        assert source.guests() == []
        guests = hosts.target.run('virsh', '-c', modular.uri, 'list', '--name').split()
        hosts.target.run('virsh', '-c', modular.uri, 'destroy', 'traveller')
        assert guests == ['traveller']
