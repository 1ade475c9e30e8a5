# SPDX-License-Identifier: Apache-2.0
"""Names and files of certificates. Whole TLS connections are in libvirtd/ and tests/lab."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import ssl
import threading
from typing import Optional

import pytest

from nova_migcheck import certificates
from tests.lab import certificates as made

AUTHORITY = made.authority()
OWN = made.issue(
    'node1', ['node1.example.org', '*.mig.example.org', '10.77.0.11', 'fd77::11'], AUTHORITY
)


@pytest.mark.parametrize(
    'name, matching',
    [
        ('node1', True),
        ('NODE1.example.org.', True),
        ('node2.mig.example.org', True),
        ('a.node2.mig.example.org', False),
        ('10.77.0.11', True),
        ('fd77:0:0::11', True),
        ('10.77.0.12', False),
        ('node9', False),
    ],
)
def test_matches(name: str, matching: bool) -> None:
    assert certificates.matches(OWN.certificate, name) == matching


def test_common_name_only() -> None:
    certificate = made.issue('node1', by=AUTHORITY).certificate
    assert certificates.names(certificate) == ['node1']
    assert certificates.alternative_names(certificate) == []


@pytest.mark.parametrize(
    'since, days, outdated',
    [(-1, 30, ''), (-3, -2, 'expired on '), (2, 30, 'is not valid before ')],
)
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


@pytest.mark.parametrize(
    'own, name, matching',
    [
        ('*.example.org', 'a.example.org', True),
        ('*.example.org', 'example.org', False),
        ('*.example.org', 'a.example.com', False),
        ('x.example.org', 'a.example.org', False),
        ('*.Example.org', 'A.example.ORG', True),
        ('fd77::11', 'fd77:0::11', True),
        ('fd77::11', 'fd77::12', False),
        ('10.77.0.11', 'node1', False),
    ],
)
def test_one_name(own: str, name: str, matching: bool) -> None:
    certificate = made.issue('somebody', [own], AUTHORITY).certificate
    assert certificates.matches(certificate, name) is matching


def test_each_name_once() -> None:
    assert certificates.names(made.issue('a', ['b', 'a'], AUTHORITY).certificate) == ['b', 'a']
    assert certificates.names(made.issue('c', ['b', 'a'], AUTHORITY).certificate) == ['b', 'a', 'c']


def test_the_codes_of_openssl() -> None:
    """X509_V_ERR_* of x509_vfy.h."""
    assert (certificates.EXPIRED, certificates.DATES, certificates.NAMES) == (10, (9, 10), (62, 64))
    assert certificates.ISSUER == (2, 18, 19, 20, 21)


def test_the_dates() -> None:
    certificate = made.issue('node1', by=AUTHORITY, since=-3, days=2).certificate
    first, last = certificates.validity(certificate)
    assert (last - first).days == 5 and first.tzinfo is last.tzinfo is not None


def test_an_older_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before cryptography 42, the dates had no time zone."""
    import datetime
    import types

    first, last = datetime.datetime(2020, 1, 2, 3, 4), datetime.datetime(2021, 1, 2, 3, 4)
    old = types.SimpleNamespace(not_valid_before=first, not_valid_after=last)
    utc = datetime.timezone.utc
    assert certificates.validity(old) == (first.replace(tzinfo=utc), last.replace(tzinfo=utc))
    assert certificates.outdated(old) == 'expired on 2021-01-02 03:04 UTC'
    old.not_valid_before = old.not_valid_after = datetime.datetime(2999, 1, 2, 3, 4)
    assert certificates.outdated(old) == 'is not valid before 2999-01-02 03:04 UTC'


@pytest.mark.parametrize('asked', [None, 'node1'])
def test_the_certificate_of_a_server(tmp_path: pathlib.Path, asked: Optional[str]) -> None:
    """It is fetched though no authority is known."""
    (tmp_path / 'pem').write_text(OWN.pem + OWN.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / 'pem')
    names: list[Optional[str]] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with socket.create_server(('127.0.0.1', 0)) as server:

        def serve() -> None:
            connection, _peer = server.accept()
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(connection, server_side=True) as wrapped,
            ):
                wrapped.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        assert (
            certificates.fetch('127.0.0.1', server.getsockname()[1], 60, asked) == OWN.certificate
        )
    assert names == [asked]


def test_whose_it_is() -> None:
    """As libvirt writes it: in the order of the certificate."""
    one = made.issue('node1', organization='lab, of many').certificate
    assert certificates.subject(one) == 'O=lab\\, of many,CN=node1'
    assert certificates.subject(made.issue('node1').certificate) == 'CN=node1'
