# SPDX-License-Identifier: Apache-2.0
"""What QEMU's user may open, by modes alone (V5). As that user: tests/lab/test_disk_files.py."""

from __future__ import annotations

import os
import pathlib
import pwd
import types
from typing import Any, Optional

import pytest

from nova_migcheck.storage import mounts
from nova_migcheck.volumes import opening
from nova_migcheck.volumes.opening import User

QEMU = User(64055, 64056)
KVM = 64057


@pytest.fixture(autouse=True)
def somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """nova-compute runs as a user who cannot become QEMU's, on a local file system."""
    monkeypatch.setattr(os, 'geteuid', lambda: 4711)
    monkeypatch.setattr(pwd, 'getpwuid', lambda number: types.SimpleNamespace(pw_name='qemu'))
    monkeypatch.setattr(os, 'getgrouplist', lambda name, group: [group, KVM])
    mounted(monkeypatch, 'ext4')


def mounted(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(mounts, 'read', lambda: [mounts.Mount(1, 1, '/', '/', kind, 'x')])


def owned(monkeypatch: pytest.MonkeyPatch, path: pathlib.Path, user: int, group: int, mode: int
          ) -> None:
    """Let everything be open but this."""
    stat = os.stat

    def shown(one: Any, **words: Any) -> Any:
        real = stat(one, **words)
        mine = os.path.normpath(one) == str(path)
        return types.SimpleNamespace(
            st_uid=user if mine else 0, st_gid=group if mine else 0,
            st_mode=(real.st_mode & ~0o777) | (mode if mine else 0o755))

    monkeypatch.setattr(os, 'stat', shown)


@pytest.mark.parametrize(
    'user, group, mode',
    [(0, 0, 0o750), (0, 0, 0o700), (64055, 0, 0o655), (0, 64056, 0o705), (0, KVM, 0o705)],
)
def test_a_directory_that_the_user_may_not_enter(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, user: int, group: int, mode: int
) -> None:
    path = tmp_path / 'instances'
    path.mkdir()
    owned(monkeypatch, path, user, group, mode)
    found = opening.directory(QEMU, str(path), shared=True)
    assert found['squashed'] is False
    denied = found['denied']
    assert (denied['path'], denied['tried'], denied['certain']) == (str(path), False, True)
    assert f'user {user}, group {group}, with mode {mode:04o}' in denied['words']


@pytest.mark.parametrize(
    'user, group, mode', [(0, 0, 0o751), (64055, 0, 0o700), (0, 64056, 0o710), (0, KVM, 0o710)]
)
def test_one_that_the_user_may_enter(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, user: int, group: int, mode: int
) -> None:
    path = tmp_path / 'instances'
    path.mkdir()
    owned(monkeypatch, path, user, group, mode)
    assert opening.directory(QEMU, str(path), shared=False)['denied'] is None


def closed(monkeypatch: pytest.MonkeyPatch, path: pathlib.Path) -> dict[str, Any]:
    path.mkdir()
    owned(monkeypatch, path, 0, 0, 0o750)
    found: dict[str, Any] = opening.directory(QEMU, str(path), shared=True)['denied']
    return found


@pytest.mark.parametrize('kind', ['nfs4', 'fuse.somebodys'])
def test_a_server_may_see_it_otherwise(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounted(monkeypatch, kind)
    assert closed(monkeypatch, tmp_path / 'i')['certain'] is False


def test_an_access_list_may_let_it_in(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'getxattr', lambda path, name: b'\x02')
    assert closed(monkeypatch, tmp_path / 'i')['certain'] is False


def test_groups_that_are_not_known_may_let_it_in(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_number: int) -> Any:
        raise KeyError

    monkeypatch.setattr(pwd, 'getpwuid', absent)
    assert closed(monkeypatch, tmp_path / 'i')['certain'] is False


def test_of_root_nothing_is_said(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'i').mkdir(0o700)
    assert opening.directory(User(0, 0), str(tmp_path / 'i'), shared=True)['denied'] is None


@pytest.mark.parametrize(
    'name, mode, denied',
    [
        ('disk', 0o644, True),
        ('disk', 0o666, False),
        ('disk.eph0', 0o644, True),
        ('disk.config', 0o644, False),
        ('disk.config', 0o640, True),
        ('disk.info', 0o600, False),
        ('console.log', 0o600, False),
    ],
)
def test_the_disks_of_a_server(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    mode: int,
    denied: bool,
) -> None:
    path = tmp_path / name
    path.touch()
    owned(monkeypatch, path, 0, 0, mode)
    found: Optional[dict[str, Any]] = opening.disks(QEMU, str(tmp_path))['denied']
    assert (found is not None and found['path'] == str(path)) is denied


def test_what_a_host_tells_of_its_user() -> None:
    assert User.of({'user': 1, 'group': 2}) is None
    assert User.of({'number': 1, 'group': 2, 'cannot_give': 'x'}) == User(1, 2)
    for hostile in (
        None, 7, {'number': 1}, {'number': '1', 'group': 2}, {'number': True, 'group': 2}):
        assert User.of(hostile) is None
