# SPDX-License-Identifier: Apache-2.0
"""What an earlier attempt has left of a server, and what is none of it (V4)."""

from __future__ import annotations

import pathlib

import pytest

from nova_migcheck.storage import mounts
from nova_migcheck.volumes import leftovers

UUID, OTHER, NAME = (
    'aaaaaaaa-0000-4000-8000-000000000001',
    'bbbbbbbb-0000-4000-8000-000000000001',
    'instance-0000002a',
)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    mount(monkeypatch, 'ext4')


def mount(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(mounts, 'read', lambda: [mounts.Mount(1, 1, '/', '/', kind, 'x')])
    monkeypatch.setattr(mounts, 'serves_nfs', lambda: False)


def test_a_directory_on_a_local_file_system(tmp_path: pathlib.Path) -> None:
    path = tmp_path / UUID
    path.mkdir()
    (found,) = leftovers.directory(str(path))
    assert (found.kind, found.subject) == ('directory', str(path)) and 'ext4' in found.detail


def test_none_and_that_of_a_resize(tmp_path: pathlib.Path) -> None:
    (tmp_path / f'{UUID}_resize').mkdir()
    assert list(leftovers.directory(str(tmp_path / UUID))) == []


@pytest.mark.parametrize('kind', ['nfs4', 'ceph', 'fuse.somebodys', 'virtiofs'])
def test_a_directory_that_may_be_the_servers_own(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / UUID).mkdir()
    mount(monkeypatch, kind)
    assert list(leftovers.directory(str(tmp_path / UUID))) == []


def test_the_host_that_serves_the_share(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / UUID).mkdir()
    monkeypatch.setattr(mounts, 'serves_nfs', lambda: True)
    assert list(leftovers.directory(str(tmp_path / UUID))) == []


def test_a_link_is_not_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'real' / UUID).mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    assert list(leftovers.directory(str(tmp_path / 'link' / UUID))) == []
    assert len(list(leftovers.directory(str(tmp_path / 'real' / UUID)))) == 1


class libvirtError(Exception):
    def get_error_code(self) -> int:
        return 42


class Domain:
    def __init__(self, uuid: str, name: str, active: bool) -> None:
        self._uuid, self._name, self._active = uuid, name, active

    def UUIDString(self) -> str:
        return self._uuid

    def name(self) -> str:
        return self._name

    def isActive(self) -> int:
        return int(self._active)


class Connection:
    def __init__(self, *domains: Domain) -> None:
        self._domains = domains

    def lookupByUUIDString(self, uuid: str) -> Domain:
        return self._one(lambda domain: domain.UUIDString() == uuid)

    def lookupByName(self, name: str) -> Domain:
        return self._one(lambda domain: domain.name() == name)

    def _one(self, which) -> Domain:  # type: ignore[no-untyped-def]
        for domain in self._domains:
            if which(domain):
                return domain
        raise libvirtError('Domain not found')


@pytest.mark.parametrize(
    'domains, expected',
    [
        ([], []),
        (
            [Domain(UUID, NAME, False)],
            [],
        ),  # libvirt overwrites it (facts measured: the migration arrives)
        ([Domain(OTHER, 'another', True)], []),
        ([Domain(UUID, NAME, True)], [('running', NAME)]),
        ([Domain(UUID, 'another', False)], [('other', 'another')]),
        ([Domain(UUID, 'another', True)], [('other', 'another')]),
        ([Domain(OTHER, NAME, False)], [('other', NAME)]),
        ([Domain(OTHER, NAME, True)], [('other', NAME)]),
    ],
)
def test_domains(domains: list[Domain], expected: list[tuple[str, str]]) -> None:
    found = list(leftovers.domains(Connection(*domains), UUID, NAME))
    assert [one[:2] for one in found] == expected
    assert all(UUID in one.detail or OTHER in one.detail for one in found)


def test_without_a_name_only_what_runs_counts() -> None:
    assert list(leftovers.domains(Connection(Domain(UUID, 'another', False)), UUID, '')) == []
    (found,) = leftovers.domains(Connection(Domain(UUID, 'another', True)), UUID, '')
    assert found.kind == 'running'
