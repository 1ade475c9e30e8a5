# SPDX-License-Identifier: Apache-2.0
"""Real TLS handshakes with a stand-in for libvirtd.

It verifies the client and sends its one byte, or does something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import pathlib
import socket
import ssl
import threading
import time
from typing import Callable, Iterator, Optional

import pytest

from nova_migcheck.libvirtd import tlsfiles, tlsprobe
from nova_migcheck.network.probe import Service
from tests.lab import certificates
from tests.lab.certificates import Certificate

AUTHORITY, OTHER = certificates.authority(), certificates.authority('Other CA')
CLIENT = certificates.issue('source', by=AUTHORITY)
GOOD = certificates.issue('target', ['target', '127.0.0.1'], AUTHORITY)


def _install(
    directory: pathlib.Path, own: Certificate, authority: Certificate, which: str
) -> tlsfiles.TlsFiles:
    texts = {'cacert.pem': authority.pem, f'{which}cert.pem': own.pem, f'{which}key.pem': own.key}
    for name, text in texts.items():
        (directory / name).write_text(text)
    return tlsfiles.TlsFiles(which, *(str(directory / name) for name in texts))


@pytest.fixture
def files(tmp_path: pathlib.Path) -> tlsfiles.TlsFiles:
    (tmp_path / 'client').mkdir()
    return _install(tmp_path / 'client', CLIENT, AUTHORITY, 'client')


def says_one(sock: ssl.SSLSocket) -> None:
    sock.sendall(b'\1')
    sock.recv(1)


def says_nothing(sock: ssl.SSLSocket) -> None:
    pass


@contextlib.contextmanager
def libvirtd(
    directory: pathlib.Path,
    own: Certificate = GOOD,
    authority: Certificate = AUTHORITY,
    then: Callable[[ssl.SSLSocket], None] = says_one,
) -> Iterator[int]:
    """Its port. It wants a certificate of ``authority`` from its clients."""
    (directory / 'server').mkdir()
    kept = _install(directory / 'server', own, authority, 'server')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(kept.certificate, kept.key)
    context.load_verify_locations(kept.authority)
    context.verify_mode = ssl.CERT_OPTIONAL

    def one(plain: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            plain,
            context.wrap_socket(plain, server_side=True) as secured,
        ):
            then(secured)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(('127.0.0.1', 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def shake(
    port: int,
    files: tlsfiles.TlsFiles,
    name: str = 'target',
    verify: bool = True,
    seconds: float = 5.0,
) -> Service:
    address, deadline = ipaddress.ip_address('127.0.0.1'), time.monotonic() + seconds
    return asyncio.run(tlsprobe.tls(address, port, deadline, name, files, verify))


@pytest.mark.parametrize('name', ['target', '127.0.0.1'])
def test_healthy(tmp_path: pathlib.Path, files: tlsfiles.TlsFiles, name: str) -> None:
    with libvirtd(tmp_path) as port:
        service = shake(port, files, name)
    assert (service.problem, service.unsure) == ('', False)


def test_the_client_is_refused(tmp_path: pathlib.Path, files: tlsfiles.TlsFiles) -> None:
    with libvirtd(tmp_path, then=says_nothing) as port:
        service = shake(port, files)
    assert (service.problem, service.unsure) == (
        "it refuses this host's client certificate, CN=source",
        False,
    )
    assert '"CN=source"' in service.remedy and files.certificate in service.remedy


def test_no_client_certificate_is_unsure(tmp_path: pathlib.Path, files: tlsfiles.TlsFiles) -> None:
    pathlib.Path(files.key).unlink()
    with libvirtd(tmp_path, then=says_nothing) as port:
        service = shake(port, files)
    assert (service.problem, service.unsure) == ('', True)


@pytest.mark.parametrize(
    'own, name, words',
    [
        (
            certificates.issue('target', ['target'], AUTHORITY, days=-2),
            'target',
            ('certificate has expired', 'it is for target', 'expired on'),
        ),
        (
            certificates.issue('target', ['target'], OTHER),
            'target',
            ('is refused', 'its dates are good'),
        ),
        (
            certificates.issue('node9', ['node9.example.org'], AUTHORITY),
            'target',
            ('is refused', 'it is for node9.example.org'),
        ),
    ],
)
@pytest.mark.parametrize('readable', [True, False])
def test_a_certificate_that_is_refused(
    tmp_path: pathlib.Path,
    files: tlsfiles.TlsFiles,
    own: Certificate,
    name: str,
    words: tuple[str, ...],
    readable: bool,
) -> None:
    """Without a readable authority, the dates and names are checked, but not the issuer."""
    if not readable:
        pathlib.Path(files.authority).unlink()
    with libvirtd(tmp_path, own) as port:
        service = shake(port, files, name)
    if readable:
        assert not service.unsure
        for word in words:
            assert word in service.problem
    elif own.certificate.issuer == OTHER.certificate.subject:
        assert service.problem == ''
    else:
        assert 'its certificate' in service.problem
        expected = 'expired', 'node9.example.org, node9, not for target'
        assert any(words in service.problem for words in expected)


def test_what_is_not_verified(tmp_path: pathlib.Path, files: tlsfiles.TlsFiles) -> None:
    with libvirtd(tmp_path, certificates.issue('node9', by=OTHER, days=-2)) as port:
        assert shake(port, files, verify=False).problem == ''


def test_an_authority_that_is_none(tmp_path: pathlib.Path, files: tlsfiles.TlsFiles) -> None:
    pathlib.Path(files.authority).write_text('nothing of the kind')
    with libvirtd(tmp_path) as port:
        assert shake(port, files).problem == ''


@pytest.mark.parametrize(
    'answer, words',
    [
        (b'SSH-2.0-OpenSSH\r\n', 'the TLS handshake fails'),
        (None, 'does not answer the TLS handshake'),
    ],
)
def test_what_is_no_tls(files: tlsfiles.TlsFiles, answer: Optional[bytes], words: str) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as connection:
                if answer:
                    connection.sendall(answer)
                connection.recv(4096)
                time.sleep(2)

        threading.Thread(target=serve, daemon=True).start()
        service = shake(listening.getsockname()[1], files, seconds=1.0)
    assert words in service.problem and not service.unsure


def test_nobody_listens(files: tlsfiles.TlsFiles) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening:
        port = listening.getsockname()[1]
    assert 'refused' in shake(port, files).problem
