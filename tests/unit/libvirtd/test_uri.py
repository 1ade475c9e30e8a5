# SPDX-License-Identifier: Apache-2.0
"""The names by which a target is reached, held against Nova's own code where that is installed."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from nova_migcheck.checks.base import Settings
from nova_migcheck.libvirtd import uri as migrationuri


def destination(connect: str = 'node2', inbound: bool = True,
                libvirt_host: str = 'node2.example.org', **libvirt: Any) -> Any:
    settings = Settings(options={'libvirt': {'virt_type': 'kvm', **libvirt}})
    return migrationuri.destination(settings, connect, inbound, libvirt_host)


@pytest.mark.parametrize('options, transport, port, given', [
    ({}, 'tcp', 16509, False),
    ({'live_migration_scheme': 'tls'}, 'tls', 16514, False),
    ({'live_migration_scheme': 'ssh'}, 'ssh', 22, False),
    ({'live_migration_scheme': 'ext'}, 'ext', None, False),
    ({'live_migration_uri': 'qemu+ssh://nova@%s:2022/system?keyfile=/etc/nova/key'},
     'ssh', 2022, True),
    ({'live_migration_uri': 'qemu://%s/system'}, 'tls', 16514, False),
    ({'virt_type': 'parallels', 'live_migration_scheme': 'tls'}, 'tcp', 16509, False),
])
def test_transport(options: dict, transport: str, port: Optional[int], given: bool) -> None:
    for connect in ('node2', '10.77.0.12', 'fd77::12'):
        to = destination(connect, **options)
        assert (to.connect, to.transport) == (connect, transport)
        assert (to.port, to.port_given) == (port, given)


@pytest.mark.parametrize('inbound, options, data', [
    (True, {}, 'node2'),
    (False, {}, 'node2.example.org'),
    (True, {'live_migration_tunnelled': True}, None),
    (False, {'live_migration_tunnelled': True}, None),
    (True, {'live_migration_uri': 'qemu+tcp://%s.mig.example.org/system'}, 'node2'),
    (True, {'virt_type': 'parallels'}, 'node2.example.org'),
])
def test_data(inbound: bool, options: dict, data: Optional[str]) -> None:
    assert destination(inbound=inbound, **options).data == data


def test_what_the_uri_says_of_tls() -> None:
    to = destination(live_migration_uri='qemu+tls://%s/system?pkipath=/etc/nova/pki&no_verify=1')
    assert (to.pkipath, to.verify) == ('/etc/nova/pki', False)
    assert (destination().pkipath, destination().verify) == ('', True)


@pytest.mark.parametrize('options', [
    {'virt_type': 'lxc'}, {'live_migration_uri': 'qemu+tcp://node9/system'},
    {'live_migration_uri': 'qemu+tcp://%d/system'}, {'live_migration_uri': 'qemu+tcp:///%s'},
])
def test_no_uri(options: dict) -> None:
    with pytest.raises(ValueError):
        destination(**options)


@pytest.mark.nova
@pytest.mark.parametrize('connect', ['node2', '10.77.0.12', 'fd77::12'])
@pytest.mark.parametrize('options', [
    {}, {'live_migration_scheme': 'tls'}, {'virt_type': 'qemu'}, {'virt_type': 'parallels'},
    {'live_migration_uri': 'qemu+ssh://nova@%s:2022/system'}])
def test_as_nova_does(connect: str, options: dict) -> None:
    nova_driver = pytest.importorskip('nova.virt.libvirt.driver')
    from oslo_config import fixture
    with fixture.Config(nova_driver.CONF) as conf:
        conf.config(group='libvirt', **{'virt_type': 'kvm', **options})
        expected = nova_driver.LibvirtDriver._live_migration_uri(connect)
        assert destination(connect, **options).uri == expected
        theirs = nova_driver.LibvirtDriver._migrate_uri(connect)
        assert (theirs is None) == (destination(connect, **options).data != connect)
