# SPDX-License-Identifier: Apache-2.0
"""Names and files of certificates. Whole TLS connections are in libvirtd/ and tests/lab."""

from __future__ import annotations

import pathlib

import pytest

from nova_migcheck import certificates
from tests.lab import certificates as made

AUTHORITY = made.authority()
OWN = made.issue('node1', ['node1.example.org', '*.mig.example.org', '10.77.0.11', 'fd77::11'],
                 AUTHORITY)


@pytest.mark.parametrize('name, matching', [
    ('node1', True), ('NODE1.example.org.', True),
    ('node2.mig.example.org', True), ('a.node2.mig.example.org', False),
    ('10.77.0.11', True), ('fd77:0:0::11', True), ('10.77.0.12', False), ('node9', False)])
def test_matches(name: str, matching: bool) -> None:
    assert certificates.matches(OWN.certificate, name) == matching


def test_common_name_only() -> None:
    certificate = made.issue('node1', by=AUTHORITY).certificate
    assert certificates.names(certificate) == ['node1']
    assert certificates.alternative_names(certificate) == []


@pytest.mark.parametrize('since, days, outdated', [
    (-1, 30, ''), (-3, -2, 'expired on '), (2, 30, 'is not valid before ')])
def test_outdated(since: int, days: int, outdated: str) -> None:
    certificate = made.issue('node1', by=AUTHORITY, since=since, days=days).certificate
    assert certificates.outdated(certificate).startswith(outdated)
    assert bool(certificates.outdated(certificate)) == bool(outdated)


def test_read_chain(tmp_path: pathlib.Path) -> None:
    chain = tmp_path / 'chain.pem'
    chain.write_text(f'a comment\n{OWN.pem}\n{AUTHORITY.pem}')
    assert certificates.read(str(chain)) == [OWN.certificate, AUTHORITY.certificate]


def test_read_no_certificate(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'key.pem').write_text(OWN.key)
    with pytest.raises(ValueError, match=r'there is no certificate in .*key\.pem'):
        certificates.read(str(tmp_path / 'key.pem'))
