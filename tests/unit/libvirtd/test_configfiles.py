# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pathlib

import pytest

from nova_migcheck.libvirtd import configfiles as libvirtconf


def test_numbers_and_strings(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'qemu.conf'
    path.write_text('#user = "no"\nuser = "root" # yes\ngroup=\'kvm\'\n'
                    'migration_port_min = 50000\nnamespaces = [ "mount" ]\nrubbish\n')
    assert libvirtconf.read(str(path)) == {
        'user': 'root', 'group': 'kvm', 'migration_port_min': 50000}
    assert libvirtconf.read_if_any(str(tmp_path / 'none')) == {}


@pytest.mark.parametrize('conf, ports', [
    ({}, (49152, 49215)),
    ({'migration_port_min': 50000, 'migration_port_max': 50009}, (50000, 50009)),
    ({'migration_port_max': 49160}, (49152, 49160)),
    ({'migration_port_min': 50000}, (49152, 49215)),
    ({'migration_port_min': 'x', 'migration_port_max': 99999}, (49152, 49215)),
])
def test_ports(conf: dict, ports: tuple) -> None:
    assert libvirtconf.migration_ports(conf) == ports
