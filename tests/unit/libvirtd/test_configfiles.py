# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pathlib

import pytest

from nova_migcheck.libvirtd import configfiles as libvirtconf


def test_numbers_and_strings(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'qemu.conf'
    path.write_text(
        '#user = "no"\nuser = "root" # yes\ngroup=\'kvm\'\n'
        'migration_port_min = 50000\nnamespaces = [ "mount" ]\nrubbish\n'
    )
    assert libvirtconf.read(str(path)) == {
        'user': 'root',
        'group': 'kvm',
        'migration_port_min': 50000,
    }
    assert libvirtconf.read_if_any(str(tmp_path / 'none')) == {}


@pytest.mark.parametrize(
    'conf, ports',
    [
        ({}, (49152, 49215)),
        ({'migration_port_min': 50000, 'migration_port_max': 50009}, (50000, 50009)),
        ({'migration_port_max': 49160}, (49152, 49160)),
        ({'migration_port_min': 50000}, (49152, 49215)),
        ({'migration_port_min': 'x', 'migration_port_max': 99999}, (49152, 49215)),
    ],
)
def test_ports(conf: dict, ports: tuple) -> None:
    assert libvirtconf.migration_ports(conf) == ports


@pytest.mark.parametrize(
    'line, found',
    [
        ('a = 1', {'a': 1}),
        ('a = -1', {'a': -1}),
        ('a=0', {'a': 0}),
        ('a = ""', {'a': ''}),
        ("a = ''", {'a': ''}),
        ('  a = "x" # y', {'a': 'x'}),
        ('#a = 1', {}),
        ('a = 1x', {}),
        ('a = [1]', {}),
        ("a = 'x y'", {'a': 'x y'}),
        ('a b = 1', {}),
    ],
)
def test_lines(tmp_path: pathlib.Path, line: str, found: dict) -> None:
    (tmp_path / 'conf').write_text(line)
    assert libvirtconf.read(str(tmp_path / 'conf')) == found


@pytest.mark.parametrize(
    'first, last, valid',
    [
        (1, 65535, True),
        (0, 9, False),
        (9, 65536, False),
        (9, 8, False),
        (9, 9, True),
        ('9', 10, False),
        (9, '10', False),
    ],
)
def test_bounds_of_ports(first: object, last: object, valid: bool) -> None:
    found = libvirtconf.migration_ports({'migration_port_min': first, 'migration_port_max': last})
    assert found == ((first, last) if valid else (49152, 49215))


@pytest.mark.parametrize(
    'conf, verifies',
    [
        ({}, True),
        ({'default_tls_x509_verify': 0}, False),
        ({'default_tls_x509_verify': 0, 'migrate_tls_x509_verify': 1}, True),
        ({'default_tls_x509_verify': 1, 'migrate_tls_x509_verify': 0}, False),
    ],
)
def test_whether_qemu_verifies(conf: dict, verifies: bool) -> None:
    assert libvirtconf.qemu_verifies(conf) is verifies


@pytest.mark.parametrize('name', ['KOLLA_BASE_DISTRO', 'KUBERNETES_SERVICE_HOST'])
def test_in_a_container_libvirtd_s_files_are_elsewhere(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for one in libvirtconf._OF_CONTAINERS:
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setattr(libvirtconf, 'QEMU_CONF', str(tmp_path / 'qemu.conf'))
    conf = tmp_path / 'libvirtd.conf'
    assert not libvirtconf.are_libvirtd_s() and libvirtconf.read_libvirtd_s(str(conf)) is None
    (tmp_path / 'qemu.conf').touch()
    assert libvirtconf.are_libvirtd_s() and libvirtconf.read_libvirtd_s(str(conf)) == {}
    assert libvirtconf.read_libvirtd_s(str(tmp_path)) is None  # it cannot be read
    conf.write_text('a = 1')
    assert libvirtconf.read_libvirtd_s(str(conf)) == {'a': 1} == libvirtconf.read_if_any(str(conf))
    monkeypatch.setenv(name, 'x')
    assert not libvirtconf.are_libvirtd_s() and libvirtconf.read_libvirtd_s(str(conf)) is None
    assert libvirtconf.read_if_any(str(tmp_path)) == {}


def test_where_the_files_are() -> None:
    assert (
        libvirtconf.QEMU_CONF == '/etc/libvirt/qemu.conf'
        and libvirtconf.LIBVIRTD_CONF == '/etc/libvirt/libvirtd.conf'
    )
    assert libvirtconf.VIRTPROXYD_CONF == '/etc/libvirt/virtproxyd.conf'
