# SPDX-License-Identifier: Apache-2.0
"""The files of one server: when the check looks at all, and what it says (V5, V6)."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from nova_migcheck.checks.base import Arrival, Settings
from nova_migcheck.checks.files import FilesCheck
from nova_migcheck.checks.registry import Registry
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.volumes import copying, opening

REGISTRY = Registry([FilesCheck])
DISK = "<disk type='file' device='disk'><source file='/i/u/disk'/><target dev='vda'/></disk>"
CONFIG = "<disk type='file' device='cdrom'><source file='/i/u/disk.config'/></disk>"
RBD = "<disk type='network' device='cdrom'><source protocol='rbd' name='vms/u_disk.config'/></disk>"
LOCAL = {'storage': {'images': 'path', 'type': 'xfs', 'shared': False}}
SHARE = {'storage': {'images': 'path', 'type': 'nfs4', 'shared': True}}
SERVER = Arrival('u', 'instance-1', '/i/u', 'compute1', copies=True, source=LOCAL, here=LOCAL)
QEMU = {'number': 64055, 'group': 109, 'cannot_give': 'it may not'}


def needs(*disks: str) -> str:
    text = f'<domain><devices>{"".join(disks)}</devices></domain>'
    return REGISTRY.needs(ElementTree.fromstring(text))


@pytest.mark.parametrize(
    'disks, expected',
    [
        ((DISK,), ['disks']),
        ((DISK, CONFIG), ['config', 'disks']),
        ((CONFIG, RBD), ['config', 'disks']),
        ((RBD,), None),
        (("<disk type='block'><source dev='/dev/sda'/></disk>",), None),
        (("<disk type='file' device='cdrom'><target dev='hda'/></disk>",), None),
    ],
)
def test_needs(disks: tuple[str, ...], expected: Any) -> None:
    assert json.loads(needs(*disks)).get('files') == expected


@pytest.mark.parametrize(
    'change, asked',
    [
        ({}, True),
        ({'copies': False}, False),
        ({'source': SHARE}, False),
        ({'here': SHARE}, False),
        ({'here': {}}, False),
        ({'source': {}}, False),
        ({'here': {'storage': {'images': 'rbd'}}}, False),
        ({'here': {'storage': {**LOCAL['storage'], 'type': 'fuse.somebodys'}}}, False),
        ({'source': {'storage': {**LOCAL['storage'], 'serves': ['10.0.0.1']}}}, False),
    ],
)
def test_a_config_drive_is_asked_for_only_where_nova_copies_it(
    change: dict[str, Any], asked: bool
) -> None:
    server = dataclasses.replace(SERVER, **change)
    assert bool(REGISTRY.concerned(server, needs(CONFIG))) is asked
    assert REGISTRY.concerned(server, needs(DISK)) == {}
    assert REGISTRY.concerned(server, '') == {}


@pytest.mark.parametrize(
    'fact, asked',
    [
        (QEMU, True),
        ({'number': 64055, 'group': 109}, False),
        ({}, False),
    ],
)
def test_disks_are_looked_at_only_where_libvirt_cannot_give_them(
    fact: dict[str, Any], asked: bool
) -> None:
    server = dataclasses.replace(SERVER, here={**SHARE, 'qemu': fact})
    assert bool(REGISTRY.concerned(server, needs(DISK))) is asked
    assert REGISTRY.concerned(server, needs(RBD)) == {}


def test_a_hostile_host(caplog: pytest.LogCaptureFixture) -> None:
    assert REGISTRY.concerned(SERVER, '{"files": 7}') == {}
    assert 'The check files' in caplog.text


def run(server: Arrival, *kinds: str, **options: str) -> list[Finding]:
    settings = Settings(
        arrival={**dataclasses.asdict(server), 'needs': list(kinds)},
        options={'libvirt': options}, timeout=30.0)
    found = list(FilesCheck().run(settings))
    assert all(isinstance(one, Finding) for one in found)
    return found  # type: ignore[return-value]


@pytest.fixture
def ssh(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for ssh; scp and rsync are there. The real one: tests/lab/test_copying.py."""

    def make(script: str, *without: str) -> pathlib.Path:
        monkeypatch.setenv('PATH', f'{tmp_path}')
        for name in ('ssh', 'scp', 'rsync'):
            if name not in without:
                (tmp_path / name).write_text(
                    f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{script}\n')
                (tmp_path / name).chmod(0o755)
        return tmp_path / 'asked'

    return make


@pytest.mark.parametrize('status', [0, 1, 127])
@pytest.mark.parametrize('transport', ['ssh', 'rsync'])
def test_v6_the_login_works(ssh: Any, status: int, transport: str) -> None:
    """Any other status than ssh's own is that of an account which may only copy."""
    asked = ssh(f'exit {status}')
    assert run(SERVER, 'config', remote_filesystem_transport=transport) == []
    assert 'BatchMode=yes' in asked.read_text() and asked.read_text().endswith('-- compute1 true\n')


@pytest.mark.parametrize(
    'script, without, words',
    [
        ('echo banner >&2; echo Host key verification failed. >&2; exit 255', (),
         'Host key verification failed.'),
        ('exit 255', (), 'without a word'),
        ('exit 0', ('scp',), 'scp is not installed'),
        ('exit 0', ('ssh',), 'ssh is not installed'),
    ],
)
def test_v6_it_does_not(ssh: Any, script: str, without: tuple[str, ...], words: str) -> None:
    ssh(script, *without)
    (found,) = run(SERVER, 'config', 'disks')
    assert (found.outcome, found.code) == (Outcome.FAILURE, 'files-copy')
    for word in ('compute1', copying.user(), words):
        assert word in found.detail
    assert 'remote_filesystem_transport' in found.origin and found.remedy


def test_v6_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*words: Any, **more: Any) -> Any:
        raise subprocess.TimeoutExpired('ssh', more['timeout'])

    monkeypatch.setattr(subprocess, 'run', silent)
    (found,) = run(SERVER, 'config')
    assert 'within 30 s' in found.detail


@pytest.mark.parametrize('certain, outcome', [(True, Outcome.FAILURE), (False, Outcome.UNKNOWN)])
def test_v5(monkeypatch: pytest.MonkeyPatch, certain: bool, outcome: Outcome) -> None:
    denied = {'path': '/i/u/disk', 'words': 'Permission denied', 'tried': True, 'certain': certain}
    asked = []
    monkeypatch.setattr(
        opening, 'disks', lambda user, path: asked.append((user, path)) or {'denied': denied})
    server = dataclasses.replace(SERVER, here={**SHARE, 'qemu': QEMU})
    (found,) = run(server, 'disks')
    assert (found.outcome, found.code) == (outcome, 'files-denied')
    for word in ('64055', '109', '/i/u/disk', 'Permission denied', 'it may not'):
        assert word in found.detail


def test_v5_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    server = dataclasses.replace(SERVER, here={**SHARE, 'qemu': QEMU})
    for answer in ({'denied': None}, {}):
        monkeypatch.setattr(opening, 'disks', lambda user, path, told=answer: told)
        assert run(server, 'disks') == []
    # There is no such directory: the share is another, as the check of storage says.
    monkeypatch.undo()
    assert run(server, 'disks') == []
