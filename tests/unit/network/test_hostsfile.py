# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ipaddress
import pathlib

import pytest

from nova_migcheck.finding import Outcome
from nova_migcheck.network import hostsfile
from nova_migcheck.network.hostsfile import HostsFile


def ips(*texts: str) -> list:
    return [ipaddress.ip_address(text) for text in texts]


def written(path: pathlib.Path, text: bytes) -> HostsFile:
    (path / 'hosts').write_bytes(text)
    return HostsFile.read(str(path / 'hosts'))


def test_lines_are_counted_as_an_editor_does(tmp_path: pathlib.Path) -> None:
    hosts = written(
        tmp_path,
        b'# 10.0.0.9 node\n\n10.0.0.1\tNode node.example # node2\n'
        b'rubbish node\n10.0.0.2 node\nfd00::1 node',
    )
    assert [(line.number, str(line.address)) for line in hosts.of('NODE')] == [
        (3, '10.0.0.1'),
        (5, '10.0.0.2'),
        (6, 'fd00::1'),
    ]
    assert not hosts.of('node2')
    assert hosts.origin('node', *ips('10.0.0.2')).endswith('hosts:5')
    assert hosts.origin('node', *ips('10.0.0.3')) == 'resolver'
    assert hosts.origin('other') == 'resolver'


def test_conflict_of_addresses_of_one_family(tmp_path: pathlib.Path) -> None:
    hosts = written(
        tmp_path, b'10.0.0.1 node\n10.0.0.2 node\nfd00::1 node\n10.0.0.1 same\n10.0.0.1 same\n'
    )
    lines = hosts.conflict('node', ips('10.0.0.1', '10.0.0.2', 'fd00::1'))
    assert [line.number for line in lines] == [1, 2]
    assert not hosts.conflict('node', ips('10.0.0.1', 'fd00::1'))  # "multi off" in host.conf
    assert not hosts.conflict('node', ips('10.9.9.9'))  # nsswitch.conf asks elsewhere first
    assert not hosts.conflict('same', ips('10.0.0.1'))


def test_w6_an_ipv6_address_in_another_form(tmp_path: pathlib.Path) -> None:
    """Row W6: the same address, not two."""
    hosts = written(tmp_path, b'2001:DB8:0::5 node\n2001:db8::5 node\n')
    (address,) = ips('2001:db8:0:0::5')
    assert not hosts.conflict('node', [address])
    assert hosts.origin('node', address).endswith('hosts:1')
    assert hosts.origin('node', ipaddress.ip_address('2001:db8::6')) == 'resolver'


def test_file_that_is_missing_strange_or_unreadable(tmp_path: pathlib.Path) -> None:
    assert not HostsFile.read(str(tmp_path / 'none')).lines
    assert len(written(tmp_path, b'10.0.0.1 n\xff\xfe\x00\n10.0.0.2 node\r\n').of('node')) == 1
    with pytest.raises(OSError):
        HostsFile.read(str(tmp_path))


def read_for(check: str) -> tuple:
    """Return the findings of ``hostsfile.read_for`` and what it returns."""
    found, reading = [], hostsfile.read_for(check)
    while True:
        try:
            found.append(next(reading))
        except StopIteration as e:
            return found, e.value


def test_file_that_cannot_be_read_is_unknown_and_counts_as_empty(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = PermissionError(13, 'Permission denied')
    monkeypatch.setattr('builtins.open', lambda *_: (_ for _ in ()).throw(refused))
    found, hosts = read_for('address')
    monkeypatch.undo()
    assert [(one.check, one.code, one.outcome, one.subject) for one in found] == [
        ('address', 'hosts-file-unreadable', Outcome.UNKNOWN, '/etc/hosts')
    ]
    assert 'Permission denied' in found[0].detail and not hosts.lines


def test_file_that_can_be_read_is_no_finding() -> None:
    found, hosts = read_for('transport')
    assert not found and hosts.lines
