# SPDX-License-Identifier: Apache-2.0
"""What os-brick needs is looked for only where a volume needs it (V3)."""

from __future__ import annotations

import pathlib
from typing import Optional

import pytest

from nova_migcheck.checksettings import Settings
from nova_migcheck.volumes import connector
from nova_migcheck.volumes.attached import Attached

MULTIPATH = Settings(
    options={'libvirt': {'volume_use_multipath': True}},
    files={'libvirt.volume_use_multipath': '/etc/nova/nova.conf'},
)
SOCKETS = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 12345 {path}
"""


@pytest.fixture(autouse=True)
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    for name in ('INITIATOR', 'FC_HOSTS', 'SOCKETS'):
        monkeypatch.setattr(connector, name, str(tmp_path / name))
    (tmp_path / 'SOCKETS').write_text(SOCKETS.format(path='/run/other.socket'))
    return tmp_path


def lacks(driver: str, settings: Optional[Settings] = None) -> list[str]:
    return [
        lack.subject
        for lack in connector.lacks(settings or Settings(), [Attached('volume1', driver)])
    ]


def test_iscsi(host: pathlib.Path) -> None:
    (found,) = connector.lacks(Settings(), [Attached('volume1', 'iscsi')])
    assert found.subject == connector.INITIATOR and 'volume1' in found.detail
    (host / 'INITIATOR').write_text('InitiatorName=iqn.1993-08.org.debian:01:1')
    assert lacks('iscsi') == []


def test_fibre_channel(host: pathlib.Path) -> None:
    assert lacks('fibre_channel') == [connector.FC_HOSTS]
    (host / 'FC_HOSTS').mkdir()
    assert lacks('fibre_channel') == [connector.FC_HOSTS]
    (host / 'FC_HOSTS/host3').mkdir()
    assert lacks('fibre_channel') == []


@pytest.mark.parametrize(
    'path', ['@/org/kernel/linux/storage/multipathd', '/run/multipathd.socket']
)
def test_multipath(host: pathlib.Path, path: str) -> None:
    (host / 'INITIATOR').touch()
    (found,) = connector.lacks(MULTIPATH, [Attached('volume1', 'iscsi')])
    assert (
        found.subject == 'multipathd'
        and found.origin == '/etc/nova/nova.conf [libvirt] volume_use_multipath'
    )
    assert lacks('iscsi') == []
    (host / 'SOCKETS').write_text(SOCKETS.format(path=path))
    assert lacks('iscsi', MULTIPATH) == []


def test_where_the_kernel_does_not_tell_the_sockets(host: pathlib.Path) -> None:
    (host / 'INITIATOR').touch()
    (host / 'SOCKETS').unlink()
    assert lacks('iscsi', MULTIPATH) == []


@pytest.mark.parametrize('driver', ['rbd', 'nfs', 'nvmeof', '', 'scaleio'])
def test_no_such_volume(driver: str) -> None:
    assert lacks(driver, MULTIPATH) == []


def test_what_may_not_be_looked_at_is_no_lack(
    host: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listdir(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(connector.os, 'listdir', listdir)
    assert lacks('fibre_channel') == []
