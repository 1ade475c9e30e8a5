# SPDX-License-Identifier: Apache-2.0
"""The names by which a target is reached, held against Nova's own code where that is installed."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from nova_migcheck.checks.base import Settings
from nova_migcheck.libvirtd import uri as migrationuri


def destination(
    connect: str = 'node2',
    inbound: bool = True,
    libvirt_host: str = 'node2.example.org',
    **libvirt: Any,
) -> Any:
    settings = Settings(options={'libvirt': {'virt_type': 'kvm', **libvirt}})
    return migrationuri.destination(settings, connect, inbound, libvirt_host)


@pytest.mark.parametrize(
    'options, transport, port, given',
    [
        ({}, 'tcp', 16509, False),
        ({'live_migration_scheme': 'tls'}, 'tls', 16514, False),
        ({'live_migration_scheme': 'ssh'}, 'ssh', 22, False),
        ({'live_migration_scheme': 'ext'}, 'ext', None, False),
        (
            {'live_migration_uri': 'qemu+ssh://nova@%s:2022/system?keyfile=/etc/nova/key'},
            'ssh',
            2022,
            True,
        ),
        ({'live_migration_uri': 'qemu://%s/system'}, 'tls', 16514, False),
        ({'virt_type': 'parallels', 'live_migration_scheme': 'tls'}, 'tcp', 16509, False),
    ],
)
def test_transport(options: dict, transport: str, port: Optional[int], given: bool) -> None:
    for connect in ('node2', '10.77.0.12', 'fd77::12'):
        to = destination(connect, **options)
        assert (to.connect, to.transport) == (connect, transport)
        assert (to.port, to.port_given) == (port, given)


@pytest.mark.parametrize(
    'inbound, options, data',
    [
        (True, {}, 'node2'),
        (False, {}, 'node2.example.org'),
        (True, {'live_migration_tunnelled': True}, None),
        (False, {'live_migration_tunnelled': True}, None),
        (True, {'live_migration_uri': 'qemu+tcp://%s.mig.example.org/system'}, 'node2'),
        (True, {'virt_type': 'parallels'}, 'node2.example.org'),
    ],
)
def test_data(inbound: bool, options: dict, data: Optional[str]) -> None:
    assert destination(inbound=inbound, **options).data == data


def test_what_the_uri_says_of_tls() -> None:
    to = destination(live_migration_uri='qemu+tls://%s/system?pkipath=/etc/nova/pki&no_verify=1')
    assert (to.pkipath, to.verify) == ('/etc/nova/pki', False)
    assert (destination().pkipath, destination().verify) == ('', True)


@pytest.mark.parametrize(
    'options',
    [
        {'virt_type': 'lxc'},
        {'live_migration_uri': 'qemu+tcp://node9/system'},
        {'live_migration_uri': 'qemu+tcp://%d/system'},
        {'live_migration_uri': 'qemu+tcp:///%s'},
    ],
)
def test_no_uri(options: dict) -> None:
    with pytest.raises(ValueError):
        destination(**options)


@pytest.mark.nova
@pytest.mark.parametrize('connect', ['node2', '10.77.0.12', 'fd77::12'])
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'live_migration_scheme': 'tls'},
        {'virt_type': 'qemu'},
        {'virt_type': 'parallels'},
        {'live_migration_uri': 'qemu+ssh://nova@%s:2022/system'},
    ],
)
def test_as_nova_does(connect: str, options: dict) -> None:
    nova_driver = pytest.importorskip('nova.virt.libvirt.driver')
    from oslo_config import fixture

    with fixture.Config(nova_driver.CONF) as conf:
        conf.config(group='libvirt', **{'virt_type': 'kvm', **options})
        expected = nova_driver.LibvirtDriver._live_migration_uri(connect)
        assert destination(connect, **options).uri == expected
        theirs = nova_driver.LibvirtDriver._migrate_uri(connect)
        assert (theirs is None) == (destination(connect, **options).data != connect)


@pytest.mark.parametrize(
    'scheme, port',
    [('tcp', 16509), ('tls', 16514), ('ssh', 22), ('libssh', 22), ('libssh2', 22), ('unix', None)],
)
def test_ports(scheme: str, port: Optional[int]) -> None:
    assert destination(live_migration_scheme=scheme).port == port


@pytest.mark.parametrize(
    'virt_type, uri',
    [
        ('kvm', 'qemu+tcp://node2/system'),
        ('qemu', 'qemu+tcp://node2/system'),
        ('parallels', 'parallels+tcp://node2/system'),
    ],
)
def test_uris(virt_type: str, uri: str) -> None:
    assert destination(virt_type=virt_type).uri == uri
    assert destination(virt_type=virt_type, connect='fd77::1').uri == uri.replace(
        'node2', '[fd77::1]'
    )
    assert migrationuri.destination(Settings(), 'node2', True, '').uri == 'qemu+tcp://node2/system'


@pytest.mark.parametrize(
    'query, pkipath, verify',
    [
        ('', '', True),
        ('?no_verify=0', '', True),
        ('?no_verify=1', '', False),
        ('?pkipath=/a&pkipath=/b', '/a', True),
    ],
)
def test_the_query_of_the_uri(query: str, pkipath: str, verify: bool) -> None:
    to = destination(live_migration_uri=f'qemu+tls://%s/system{query}')
    assert (to.pkipath, to.verify) == (pkipath, verify)


def test_the_option_that_selects_the_transport() -> None:
    for option, value in (('live_migration_uri', 'qemu+tcp://%s'), ('live_migration_scheme', None)):
        settings = Settings(options={'libvirt': {'live_migration_uri': value}})
        assert migrationuri.tls_origin(settings) == f'default of [libvirt] {option}'
