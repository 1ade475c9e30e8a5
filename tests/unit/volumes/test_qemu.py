# SPDX-License-Identifier: Apache-2.0
"""As whom QEMU runs, and what keeps it from a share by libvirt's or SELinux's rules (V5)."""

from __future__ import annotations

import pathlib
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from nova_migcheck.libvirtd import configfiles
from nova_migcheck.storage.mounts import Mount
from nova_migcheck.volumes import qemu

HOST = """<capabilities><host><secmodel><model>{model}</model><doi>0</doi></secmodel>
<secmodel><model>dac</model>
<baselabel type='kvm'>{label}</baselabel></secmodel></host></capabilities>"""


def test_of_libvirt() -> None:
    who = qemu.of_libvirt(ElementTree.fromstring(HOST.format(model='selinux', label='+107:+36')))
    assert who is not None and (*who.user, who.selinux) == (107, 36, True)
    who = qemu.of_libvirt(ElementTree.fromstring(HOST.format(model='apparmor', label='+107:+36')))
    assert who is not None and not who.selinux
    assert qemu.of_libvirt(ElementTree.fromstring(HOST.format(model='x', label='qemu'))) is None


@pytest.mark.parametrize(
    'text, squashed, words',
    [
        ('', False, ''),
        ('dynamic_ownership = 1', False, ''),
        ('dynamic_ownership = 0', False, 'dynamic_ownership = 0 in '),
        ('#dynamic_ownership = 0', True, 'root_squash'),
    ],
)
def test_what_libvirt_cannot_give(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, text: str, squashed: bool, words: str
) -> None:
    conf = tmp_path / 'qemu.conf'
    conf.write_text(text)
    monkeypatch.setattr(configfiles, 'QEMU_CONF', str(conf))
    found = qemu.cannot_give(squashed)
    assert words in found if words else found == ''


def test_a_file_that_is_not_libvirt_s(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / 'qemu.conf'
    conf.write_text('dynamic_ownership = 0')
    monkeypatch.setattr(configfiles, 'QEMU_CONF', str(conf))
    monkeypatch.setenv('KOLLA_BASE_DISTRO', 'debian')
    assert qemu.cannot_give(False) == ''


SELINUX = {'enforce': '1', 'booleans/virt_use_nfs': '0 0', 'booleans/virt_use_samba': '1 1'}


@pytest.mark.parametrize(
    'kind, options, files, expected',
    [
        ('nfs4', 'rw', {}, 'virt_use_nfs'),
        ('nfs4', 'rw', {'booleans/virt_use_nfs': '1 1'}, ''),
        ('nfs4', 'rw', {'enforce': '0'}, ''),
        ('nfs4', 'rw,context=system_u:object_r:svirt_image_t:s0', {}, ''),
        ('nfs4', 'rw,seclabel', {}, ''),
        ('cifs', 'rw', {}, ''),
        ('cifs', 'rw', {'booleans/virt_use_samba': '0 1'}, 'virt_use_samba'),
        ('ext4', 'rw', {}, ''),
        ('ceph', 'rw', {}, ''),
    ],
)
def test_selinux(
    tmp_path: pathlib.Path, kind: str, options: str, files: dict[str, str], expected: str
) -> None:
    (tmp_path / 'booleans').mkdir()
    for name, text in {**SELINUX, **files}.items():
        (tmp_path / name).write_text(text)
    mount = Mount(1, 1, '/', '/i', kind, 's:/x', frozenset(options.split(',')))
    assert qemu.selinux_forbids(mount, str(tmp_path)) == expected
    assert qemu.selinux_forbids(mount, str(tmp_path / 'absent')) == ''


def user(number: int, group: int, **more: Any) -> dict[str, Any]:
    return {'number': number, 'group': group, **more}


@pytest.mark.parametrize(
    'source, target, told',
    [
        (user(107, 107), user(64055, 109, cannot_give='it may not'), True),
        (user(107, 107), user(107, 36, cannot_give='it may not'), True),
        (user(107, 107), user(107, 107, cannot_give='it may not'), False),
        (user(107, 107), user(64055, 109), False),
        (user(107, 107), user(0, 0, cannot_give='it may not'), False),
        ({}, user(64055, 109, cannot_give='it may not'), False),
        (user(107, 107), {}, False),
        (user(107, 107), user(64055, 109, cannot_give=7), False),
    ],
)
def test_between(source: dict[str, Any], target: dict[str, Any], told: bool) -> None:
    found = list(qemu.between(source, target))
    assert len(found) == told
    if told:
        ((_subject, words),) = found
        assert str(source['number']) in words and str(target['group']) in words
        assert 'it may not' in words
