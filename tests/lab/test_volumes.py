# SPDX-License-Identifier: Apache-2.0
"""What we refuse is what libvirt refuses, between two real ones: secrets (V1) and leftovers (V4),
and their neighbours.
"""

from __future__ import annotations

import shutil
import uuid
from typing import Any, Iterator

import pytest

from nova_migcheck.checks.base import Arrival, Fact
from nova_migcheck.checks.registry import Registry
from nova_migcheck.checks.volumes import VolumesCheck
from nova_migcheck.cpu import xml as cpuxml
from tests.lab import libvirtd

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]

REGISTRY = Registry([VolumesCheck])
SERVER, OTHER, NAME = (
    'aaaaaaaa-0000-4000-8000-000000000001',
    'bbbbbbbb-0000-4000-8000-000000000001',
    'instance-0000002a',
)
SECRET = '5c1f8a2e-0000-4000-8000-000000000001'
GUEST = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/>{disk}
<memballoon model='none'/></devices></domain>"""
RBD = f"""<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<auth username='cinder'><secret type='ceph' uuid='{SECRET}'/></auth>
<source protocol='rbd' name='volumes/x'><host name='127.0.0.1' port='1'/></source><target dev='vdb' bus='virtio'/></disk>"""
DEFINITION = """<secret ephemeral='{ephemeral}' private='{private}'><uuid>{uuid}</uuid>
<usage type='ceph'><name>client.cinder secret</name></usage></secret>"""


@pytest.fixture(scope='module')
def target(
    source: libvirtd.Libvirtd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[libvirtd.Libvirtd]:
    copy = tmp_path_factory.mktemp('target') / 'cache'
    shutil.copytree(source.root / 'cache', copy)
    with libvirtd.Libvirtd('node2', cache=copy) as node:
        yield node


@pytest.fixture
def conn(target: libvirtd.Libvirtd) -> Iterator[Any]:
    conn = target.connect()
    yield conn
    for domain in conn.listAllDomains():
        persistent = domain.isPersistent()
        if domain.isActive():
            domain.destroy()
        if persistent:
            domain.undefine()
    for secret in conn.listAllSecrets():
        secret.undefine()


def define(conn: Any, value: bytes = b'', private: str = 'no') -> None:
    secret = conn.secretDefineXML(DEFINITION.format(uuid=SECRET, private=private, ephemeral='no'))
    if value:
        secret.setValue(value)


def foreseen(conn: Any) -> list[str]:
    """What we say of a guest with a disk on rbd."""
    facts = {one.name: one.value for one in VolumesCheck()._answers(conn) if isinstance(one, Fact)}
    assert 'kaninchen' not in str(facts)
    needs = REGISTRY.needs(cpuxml.parse(GUEST.format(name=NAME, uuid=SERVER, disk=RBD)))
    return [finding.code for finding in REGISTRY.compare(needs, facts)]


def said(conn: Any) -> str:
    """What libvirt says of it, when it has to start it; rbd itself may not be there, which comes
    later.
    """
    import libvirt

    with pytest.raises(libvirt.libvirtError) as raised:
        conn.createXML(GUEST.format(name=NAME, uuid=SERVER, disk=RBD))
    return str(raised.value)


def test_v1_absent(conn: Any) -> None:
    assert foreseen(conn) == ['volumes-secret-missing']
    assert 'no secret with matching uuid' in said(conn)


def test_v1_without_a_value(conn: Any) -> None:
    define(conn)
    assert foreseen(conn) == ['volumes-secret-empty']
    assert 'does not have a value' in said(conn)


@pytest.mark.parametrize('private', ['no', 'yes'])
def test_v1_with_a_value(conn: Any, private: str) -> None:
    define(conn, b'kaninchen', private)
    assert foreseen(conn) == []
    assert 'Secret not found' not in said(conn)


def test_v1_a_private_one_does_not_tell(conn: Any) -> None:
    """It counts as one that has a value: what is not known refuses nothing."""
    define(conn, private='yes')
    assert foreseen(conn) == []


def left(conn: Any) -> list[str]:
    server = Arrival(SERVER, NAME, f'/nowhere/{uuid.uuid4()}')
    return [finding.code for finding in REGISTRY.arrives(server, conn)]


def migrated(source: libvirtd.Libvirtd, conn: Any) -> str:
    """What libvirt says of a migration, '' if the guest arrives."""
    import libvirt

    domain = source.connect().createXML(GUEST.format(name=NAME, uuid=SERVER, disk=''))
    try:
        try:
            domain.migrate3(conn, {'migrate_uri': 'tcp://127.0.0.1'}, libvirt.VIR_MIGRATE_LIVE)
        except libvirt.libvirtError as error:
            return str(error)
        return ''
    finally:
        try:
            domain.destroy()
        except libvirt.libvirtError:
            pass


def test_v4_nothing_is_left(source: libvirtd.Libvirtd, conn: Any) -> None:
    assert left(conn) == []
    assert migrated(source, conn) == ''


def test_v4_a_definition_of_the_same(source: libvirtd.Libvirtd, conn: Any) -> None:
    conn.defineXML(GUEST.format(name=NAME, uuid=SERVER, disk=''))
    assert left(conn) == []
    assert migrated(source, conn) == ''


def test_v4_it_is_active(source: libvirtd.Libvirtd, conn: Any) -> None:
    conn.createXML(GUEST.format(name=NAME, uuid=SERVER, disk=''))
    assert left(conn) == ['volumes-domain-running']
    assert 'already active' in migrated(source, conn)


@pytest.mark.parametrize('name, number', [('another', SERVER), (NAME, OTHER)])
@pytest.mark.parametrize('running', [False, True])
def test_v4_another(
    source: libvirtd.Libvirtd, conn: Any, name: str, number: str, running: bool
) -> None:
    xml = GUEST.format(name=name, uuid=number, disk='')
    conn.createXML(xml) if running else conn.defineXML(xml)
    assert left(conn) == ['volumes-domain-other']
    assert 'already' in migrated(source, conn)
