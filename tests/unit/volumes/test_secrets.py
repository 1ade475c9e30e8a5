# SPDX-License-Identifier: Apache-2.0
"""Which secrets the disks of a guest name, which a host has, and what does not fit (V1)."""

from __future__ import annotations

import sys
import types
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from nova_migcheck.volumes import secrets

UUID, OTHER = '5c1f8a2e-0000-4000-8000-000000000001', '5c1f8a2e-0000-4000-8000-000000000002'
RBD = """<disk type='network'>{before}<source protocol='rbd' name='vms/x'>{inside}</source>
<target dev='{device}' bus='virtio'/></disk>"""
AUTH = "<auth username='cinder'><secret type='ceph' {name}/></auth>"


def domain(*disks: str) -> ElementTree.Element:
    return ElementTree.fromstring(f'<domain><devices>{"".join(disks)}</devices></domain>')


@pytest.mark.parametrize('where', ['before', 'inside'])
@pytest.mark.parametrize(
    'name, expected',
    [
        (f"uuid='{UUID.upper()}'", f'UUID {UUID}'),
        ("usage='client.cinder secret'", 'usage client.cinder secret'),
    ],
)
def test_needs(where: str, name: str, expected: str) -> None:
    words = {'before': '', 'inside': '', where: AUTH.format(name=name), 'device': 'vdb'}
    disk = RBD.format(**words)
    assert secrets.needs(domain(disk, disk.replace('vdb', 'vdc'))) == {expected: 'vdb'}


@pytest.mark.parametrize(
    'disk',
    [
        pytest.param(RBD.format(before='', inside='', device='vda'), id='rbd without a login'),
        pytest.param(
            "<disk type='block'><source dev='/dev/sda'/><target dev='vda'/>"
            f"<encryption format='luks'><secret type='passphrase' uuid='{UUID}'/></encryption></disk>",
            id='an encryption secret, which Nova makes there',
        ),
        pytest.param(
            "<disk type='block'><source dev='/dev/sda'><encryption format='luks'>"
            f"<secret type='passphrase' uuid='{UUID}'/></encryption></source><target dev='vda'/></disk>",
            id='the same in the source',
        ),
        pytest.param(
            RBD.format(before="<auth><secret uuid='\x85'/></auth>", inside='', device='vda'),
            id='not a name',
        ),
        pytest.param(
            "<disk type='file'><source file='/x'/><target dev='vda'/></disk>", id='a file'
        ),
    ],
)
def test_needs_nothing(disk: str) -> None:
    assert secrets.needs(domain(disk)) == {}


class libvirtError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f'code {code}')
        self._code = code

    def get_error_code(self) -> int:
        return self._code


class Secret:
    """One of libvirt's; 66: it has no value, 65: it is private."""

    def __init__(self, uuid: str, usage: str = '', kind: int = 2, error: int = 0) -> None:
        self._uuid, self._usage, self._kind, self._error = uuid, usage, kind, error

    def UUIDString(self) -> str:
        return self._uuid

    def usageType(self) -> int:
        return self._kind

    def usageID(self) -> str:
        assert self._kind
        return self._usage

    def value(self, flags: int) -> bytes:
        if self._error:
            raise libvirtError(self._error)
        return b'MARKED'


class Connection:
    def __init__(self, *found: Secret, error: int = 0) -> None:
        self._found, self._error = found, error

    def listAllSecrets(self, flags: int) -> list[Secret]:
        if self._error:
            raise libvirtError(self._error)
        return list(self._found)


@pytest.fixture(autouse=True)
def libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'libvirt', types.SimpleNamespace(libvirtError=libvirtError))


def test_offered() -> None:
    found = secrets.offered(
        Connection(
            Secret(UUID, 'client.cinder secret'),
            Secret(OTHER, kind=0, error=66),
            Secret(OTHER.replace('2', '3'), 'private', error=65),
            Secret(OTHER.replace('2', '4'), 'vtpm', kind=5),
        )
    )
    assert found == {
        'set': sorted(
            [
                f'UUID {UUID}',
                'usage client.cinder secret',
                f'UUID {OTHER.replace("2", "3")}',
                'usage private',
            ]
        ),
        'empty': [f'UUID {OTHER}'],
    }
    assert 'MARKED' not in str(found)


def test_a_libvirt_without_secrets_offers_nothing() -> None:
    assert secrets.offered(Connection(error=3)) is None
    with pytest.raises(libvirtError):
        secrets.offered(Connection(error=38))


def test_what_is_too_much_for_a_report_is_left_out_as_a_whole() -> None:
    many = [
        Secret(f'{number:08}-0000-4000-8000-000000000001')
        for number in range(secrets.MAX_SECRETS + 1)
    ]
    assert secrets.offered(Connection(*many)) is None
    assert len((secrets.offered(Connection(*many[1:])) or {})['set']) == secrets.MAX_SECRETS


NEEDS: dict[str, str] = {f'UUID {UUID}': 'vda'}


@pytest.mark.parametrize(
    'there, expected',
    [
        ({'set': [], 'empty': []}, [('vda', f'UUID {UUID}', False)]),
        ({'set': [f'UUID {OTHER}'], 'empty': [f'UUID {UUID}']}, [('vda', f'UUID {UUID}', True)]),
        ({'set': [f'UUID {UUID}'], 'empty': []}, []),
        ({}, []),
        (None, []),
    ],
)
def test_missing(there: Any, expected: list[Any]) -> None:
    assert list(secrets.missing(NEEDS, there)) == expected
