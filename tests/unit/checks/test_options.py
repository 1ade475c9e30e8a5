# SPDX-License-Identifier: Apache-2.0
"""A check is given the options that it declares and no others: it must declare each that it reads."""

from __future__ import annotations

import ast
import pathlib

import pytest
from oslo_config import cfg

import nova_migcheck
from nova_migcheck import conf as confs
from nova_migcheck.checks import loading
from nova_migcheck.checks.address import AddressCheck
from nova_migcheck.checks.storage import StorageCheck
from nova_migcheck.checks.transport import TransportCheck
from nova_migcheck.rounds.reader import Reader

PACKAGE = pathlib.Path(nova_migcheck.__file__).parent
ROOMS = ('checks', 'cpu', 'endpoints', 'libvirtd', 'network', 'storage', 'volumes')
CHECKS = [
    one.check
    for one in loading.load(
        ['address', 'attachments', 'cpu', 'endpoint', 'files', 'machine', 'storage', 'tls',
         'transport', 'volumes']
    ).values()
]
DECLARED = {
    (group, option)
    for check in CHECKS
    for group, options in check.OPTIONS.items()
    for option in options
}


def read_options() -> set[tuple[str, str]]:
    """Return each (group, option) that the package reads by these very words."""
    found = set()
    for room in ROOMS:
        for path in (PACKAGE / room).glob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in ('get', 'origin')
                    and len(node.args) > 1
                    and ast.unparse(node.func.value)
                    in ('settings', 'self.settings', 'self._settings')
                ):
                    words = [word.value for word in node.args[:2] if isinstance(word, ast.Constant)]
                    if len(words) == 2:
                        found.add(tuple(words))
    return found


def test_each_that_is_read_is_declared() -> None:
    assert len(read_options()) > 15
    assert read_options() <= DECLARED


def test_ours_are_options() -> None:
    names = {opt.dest for opt in confs.OPTS}
    assert {option for group, option in DECLARED if group == 'migcheck'} <= names


@pytest.mark.parametrize('check', [AddressCheck, StorageCheck, TransportCheck])
def test_the_reader_hands_them_over(check: type, tmp_path: pathlib.Path) -> None:
    file = tmp_path / 'nova.conf'
    file.write_text(
        '[DEFAULT]\nmy_ip = 10.0.0.1\n'
        '[libvirt]\nlive_migration_inbound_addr = mig\nimages_type = rbd\n'
        '[migcheck]\nmigration_networks = 10.77.0.0/24\nmigration_interface = mig0\n'
        'instances_shared = no\n'
    )
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(file)])
    confs.register(conf)
    settings = Reader(conf).read(check)
    expected = {
        ('DEFAULT', 'my_ip'): '10.0.0.1',
        ('libvirt', 'live_migration_inbound_addr'): 'mig',
        ('migcheck', 'migration_networks'): ['10.77.0.0/24'],
        ('migcheck', 'migration_interface'): 'mig0',
    }
    if check is StorageCheck:
        expected = {('libvirt', 'images_type'): 'rbd', ('migcheck', 'instances_shared'): 'no'}
    for (group, option), value in expected.items():
        assert settings.get(group, option) == value
        assert settings.origin(group, option) == f'{file} [{group}] {option}'
