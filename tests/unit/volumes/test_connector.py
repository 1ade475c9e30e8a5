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
)
SOCKETS = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 12345 {path}
"""


@pytest.fixture(autouse=True)
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    for name in ('INITIATOR', 'FC_HOSTS', 'SOCKETS'):
        monkeypatch.setattr(connector, name, str(tmp_path / name))
    (tmp_path / 'SOCKETS').write_text(SOCKETS.format(path='/run/other.socket'))
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(connector, '_SBIN', (str(tmp_path / 'sbin'),))
    return tmp_path


def lacks(driver: str, settings: Optional[Settings] = None) -> list[str]:
    return [
        lack.subject
        for lack in connector.lacks(
            connector.lacking(settings or Settings()), [Attached('volume1', driver)]
        )
    ]


def test_iscsi(host: pathlib.Path) -> None:
    (found,) = connector.lacks(connector.lacking(Settings()), [Attached('volume1', 'iscsi')])
    assert found.subject == '/etc/iscsi/initiatorname.iscsi' and 'volume1' in found.detail
    (host / 'INITIATOR').write_text('InitiatorName=iqn.1993-08.org.debian:01:1')
    assert lacks('iscsi') == []


def test_fibre_channel(host: pathlib.Path) -> None:
    assert lacks('fibre_channel') == ['/sys/class/fc_host']
    (host / 'FC_HOSTS').mkdir()
    assert lacks('fibre_channel') == ['/sys/class/fc_host']
    (host / 'FC_HOSTS/host3').mkdir()
    assert lacks('fibre_channel') == []


@pytest.mark.parametrize(
    'path', ['@/org/kernel/linux/storage/multipathd', '/run/multipathd.socket']
)
def test_multipath(host: pathlib.Path, path: str) -> None:
    (host / 'INITIATOR').touch()
    (found,) = connector.lacks(connector.lacking(MULTIPATH), [Attached('volume1', 'iscsi')])
    assert found.subject == 'multipathd' and 'volume_use_multipath' in found.detail
    assert lacks('iscsi') == []
    (host / 'SOCKETS').write_text(SOCKETS.format(path=path))
    assert lacks('iscsi', MULTIPATH) == []


def test_where_the_kernel_does_not_tell_the_sockets(host: pathlib.Path) -> None:
    (host / 'INITIATOR').touch()
    (host / 'SOCKETS').unlink()
    assert lacks('iscsi', MULTIPATH) == []


@pytest.mark.parametrize('driver', ['rbd', 'nfs', '', 'scaleio'])
def test_no_such_volume(driver: str) -> None:
    assert lacks(driver, MULTIPATH) == []


def test_what_may_not_be_looked_at_is_no_lack(
    host: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listdir(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(connector.os, 'listdir', listdir)
    assert lacks('fibre_channel') == []


@pytest.mark.parametrize('directory', ['.', 'sbin'])
def test_nvme(host: pathlib.Path, directory: str) -> None:
    """Its program makes a host NQN where there is none."""
    (found,) = connector.lacks(connector.lacking(Settings()), [Attached('volume1', 'nvmeof')])
    assert found.subject == 'nvme' and 'volume1' in found.detail and 'NQN' in found.detail
    (host / directory).mkdir(exist_ok=True)
    (host / directory / 'nvme').touch(0o755)
    assert lacks('nvmeof') == []


@pytest.mark.parametrize('fact', [{}, {'lacks': None}, {'lacks': 7}, {'lacks': [{}, 'more']}])
def test_a_host_that_tells_nothing_of_it(fact: dict[str, object]) -> None:
    volumes = [Attached('volume1', driver) for driver in ('iscsi', 'nvmeof', 'fibre_channel')]
    assert list(connector.lacks(fact, volumes)) == []
