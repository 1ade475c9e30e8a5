# SPDX-License-Identifier: Apache-2.0
"""The certificates of a real host's file system as a migration target, broken in one way at a time."""

from __future__ import annotations

from typing import Iterator

import pytest

from nova_migcheck.finding import Outcome
from tests.lab import certificates, namespaces
from tests.lab.namespaces import Found, Namespace
from tests.lab.two_hosts import settings

pytestmark = pytest.mark.root

AUTHORITY = certificates.authority()
GOOD = certificates.issue('node2', ['node2-mig', '10.77.0.12'], AUTHORITY)
NATIVE, SCHEME = {'live_migration_with_native_tls': True}, {'live_migration_scheme': 'tls'}


@pytest.fixture
def host() -> Iterator[Namespace]:
    if namespaces.missing():
        pytest.skip(namespaces.missing())
    with Namespace('node2') as node2:
        node2.write('/etc/libvirt/qemu.conf', 'user = "nobody"\n')
        node2.write('/etc/libvirt/libvirtd.conf', 'listen_tls = 1\n')
        yield node2


def install(host: Namespace, own: certificates.Certificate = GOOD, authority: certificates.Certificate = AUTHORITY) -> None:
    for path, text in (('CA/cacert.pem', authority.pem), ('libvirt/servercert.pem', own.pem), ('libvirt/private/serverkey.pem', own.key),
                       ('qemu/ca-cert.pem', authority.pem), ('qemu/server-cert.pem', own.pem), ('qemu/server-key.pem', own.key)):
        host.write(f'/etc/pki/{path}', text)


def check(host: Namespace, user: int = 0, **options: object) -> Found:
    return host.check('nova_migcheck.checks.tls:TlsCheck',
                      settings('node2', **{'live_migration_inbound_addr': 'node2-mig', **options}), user=user)


def test_nothing_is_looked_at_where_tls_is_off(host: Namespace) -> None:
    assert not check(host).findings


@pytest.mark.parametrize('options', [NATIVE, SCHEME, {**NATIVE, **SCHEME}, {'live_migration_uri': 'qemu+tls://%s/system'}])
def test_healthy(host: Namespace, options: dict) -> None:
    install(host)
    for inbound in ('node2-mig', '10.77.0.12'):
        found = check(host, live_migration_inbound_addr=inbound, **options)
        assert not found.text and len(found.only(Outcome.OK)) == (2 if len(options) == 2 else 1)
    # nova-compute may not read the keys, and need not.
    host.run('chmod', '600', '/etc/pki/libvirt/private/serverkey.pem')
    assert not check(host, user=65534, **SCHEME).text


@pytest.mark.parametrize('options, path', [
    (NATIVE, '/etc/pki/qemu/server-cert.pem'), (SCHEME, '/etc/pki/libvirt/servercert.pem'),
    (NATIVE, '/etc/pki/qemu/server-key.pem'), (SCHEME, '/etc/pki/libvirt/private/serverkey.pem'),
    (NATIVE, '/etc/pki/qemu/ca-cert.pem'), (SCHEME, '/etc/pki/CA/cacert.pem'),
])
def test_missing(host: Namespace, options: dict, path: str) -> None:
    install(host)
    host.run('rm', path)
    failure = check(host, **options).one(Outcome.FAILURE)
    assert path in failure.detail and 'missing' in failure.detail and next(iter(options)) in failure.origin
    # Where libvirt's own files cannot be seen, it proves nothing.
    host.run('rm', '/etc/libvirt/qemu.conf')
    assert not check(host, **options).failures and path in str(check(host, **options).one(Outcome.UNKNOWN))


@pytest.mark.parametrize('options', [NATIVE, SCHEME])
@pytest.mark.parametrize('own, words', [
    (certificates.issue('node2', ['node2-mig'], AUTHORITY, days=-3), ('expired on 20',)),
    (certificates.issue('node2', ['node2-mig'], AUTHORITY, since=2), ('not valid before 20',)),
    (certificates.issue('node9', ['node9.example.org'], AUTHORITY), ('node9.example.org', 'node2-mig')),
    (certificates.issue('node2', ['node2-mig'], certificates.authority('Other CA')), ('CN=Other CA',)),
])
def test_certificate(host: Namespace, options: dict, own: certificates.Certificate, words: tuple) -> None:
    install(host, own)
    failure = check(host, **options).one(Outcome.FAILURE)
    for word in (*words, 'cert.pem'):
        assert word in str(failure)


@pytest.mark.parametrize('name, well', [('node2-mig', True), ('10.77.0.12', True), ('node2.example.org', False)])
def test_libvirts_name_where_nova_gives_no_address(host: Namespace, name: str, well: bool) -> None:
    """Real migrations fail so: truth, inbound=none libvirt-name=long login=native-tls."""
    install(host)
    host.write('/etc/libvirt/qemu.conf', f'user = "nobody"\nmigration_host = "{name}"\n')
    found = check(host, live_migration_inbound_addr=None, **NATIVE)
    if well:
        assert not found.text
    else:
        failure = found.one(Outcome.FAILURE)
        assert failure.code == 'tls-name' and 'node2.example.org' in failure.detail
    # libvirtd itself is reached by Nova's name.
    assert not check(host, live_migration_inbound_addr='node2-mig', **SCHEME).text
    assert not check(host, live_migration_inbound_addr=None, live_migration_tunnelled=True, **NATIVE).text


def test_expired_authority(host: Namespace) -> None:
    old = certificates.issue('Old CA', days=-1)
    install(host, certificates.issue('node2', ['node2-mig'], old), old)
    assert 'authority' in check(host, **NATIVE).one(Outcome.FAILURE).detail


def test_keys(host: Namespace) -> None:
    install(host)
    host.run('chmod', '600', '/etc/pki/qemu/server-key.pem')
    assert 'QEMU runs as nobody' in check(host, **NATIVE).one(Outcome.FAILURE).detail
    host.write('/etc/pki/qemu/server-key.pem', certificates.issue('other').key)
    assert 'does not belong' in check(host, **NATIVE).one(Outcome.FAILURE).detail
    host.write('/etc/pki/qemu/server-cert.pem', 'nonsense')
    assert '/etc/pki/qemu/server-cert.pem' in str(check(host, **NATIVE).one(Outcome.FAILURE))


def test_places_of_the_configuration(host: Namespace) -> None:
    install(host)
    host.run('mv', '/etc/pki/qemu', '/etc/pki/other')
    host.write('/etc/libvirt/qemu.conf', 'default_tls_x509_cert_dir = "/etc/pki/other"\n')
    assert not check(host, **NATIVE).text
    host.run('mv', '/etc/pki/libvirt/servercert.pem', '/etc/pki/elsewhere.pem')
    host.write('/etc/libvirt/libvirtd.conf', 'cert_file = "/etc/pki/elsewhere.pem"\n')
    assert not check(host, **SCHEME).text
