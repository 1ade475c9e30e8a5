# SPDX-License-Identifier: Apache-2.0
"""Servers on an island that behave well, or badly in one way."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import socket
import socketserver
import ssl
import struct
import threading
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import fixtures

from tests.lab.island import Island


class _Listening(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


class Server(fixtures.Fixture):
    """``handler`` on a port of an address of the island."""

    def __init__(self, island: Island, address: str, port: int, handler: Callable[..., Any],
                 context: Optional[ssl.SSLContext] = None) -> None:
        super().__init__()
        self.island, self.address, self.port, self.handler, self.context = island, address, port, handler, context

    def _setUp(self) -> None:
        with self.island.entered():
            family = socket.AF_INET6 if ':' in self.address else socket.AF_INET
            kind = type('Listening', (_Listening,), {'address_family': family, 'allow_reuse_address': True})
            self.server = kind((self.address, self.port), self.handler)
        self.server.handle_error = lambda *args: None  # a client that refuses our certificate is what is wanted
        if self.context is not None:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True,
                                                          do_handshake_on_connect=False)
        self.addCleanup(self.server.server_close)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(self.server.shutdown)


class Web(Server):
    """An API's root.

    :param status: of every answer
    :param ahead: seconds that its clock is ahead of ours
    :ivar requests: method, path and headers of all that was asked
    """

    def __init__(self, island: Island, address: str, port: int, status: int = 200, ahead: float = 0.0,
                 context: Optional[ssl.SSLContext] = None) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests.append((self.command, self.path, dict(self.headers)))
                body = b'{"versions": []}'
                self.send_response(status)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_CONNECT = do_GET

            def date_time_string(self, timestamp: Optional[float] = None) -> str:
                return super().date_time_string(time.time() + ahead)

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(island, address, port, Handler, context)


class Silent(fixtures.Fixture):
    """Accepts connections and never answers (the kernel does it, from the backlog)."""

    def __init__(self, island: Island, address: str, port: int, kind: int = socket.SOCK_STREAM) -> None:
        super().__init__()
        self.island, self.address, self.port, self.kind = island, address, port, kind

    def _setUp(self) -> None:
        with self.island.entered():
            sock = socket.socket(socket.AF_INET, self.kind)
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.address, self.port))
        if self.kind == socket.SOCK_STREAM:
            sock.listen(64)


class _Closes(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(4096)


class _Memcached(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self.request.recv(64) == b'version\r\n':
            self.request.sendall(b'VERSION 1.6.18\r\n')


class _Drips(socketserver.BaseRequestHandler):
    """A byte every so often: no single wait of the client is long."""

    def handle(self) -> None:
        self.request.recv(4096)
        while True:
            self.request.sendall(b'H')
            threading.Event().wait(0.2)


def closes(island: Island, address: str, port: int) -> Server:
    return Server(island, address, port, _Closes)


def drips(island: Island, address: str, port: int) -> Server:
    return Server(island, address, port, _Drips)


def memcached(island: Island, address: str, port: int = 11211) -> Server:
    return Server(island, address, port, _Memcached)


class Ntp(fixtures.Fixture):
    """:param ahead: seconds that its clock is ahead of ours"""

    def __init__(self, island: Island, address: str, ahead: float = 0.0) -> None:
        super().__init__()
        self.island, self.address, self.ahead = island, address, ahead

    def _setUp(self) -> None:
        ahead = self.ahead

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                request, sock = self.request
                now = time.time() + ahead + 2208988800
                stamp = struct.pack('>II', int(now), int(now % 1 * 2**32))
                assert request[0] & 7 == 3 and len(request) == 48
                sock.sendto(b'\x24\x01' + bytes(14) + 8 * b'\0' + bytes(8) + 2 * stamp, self.client_address)

        with self.island.entered():
            server = socketserver.UDPServer((self.address, 123), Handler)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.shutdown)


class NoSuchName(fixtures.Fixture):
    """A DNS server that knows no name."""

    def __init__(self, island: Island, address: str) -> None:
        super().__init__()
        self.island, self.address = island, address

    def _setUp(self) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                request, sock = self.request
                # RFC 1035, 4.1.1: the question comes back, with QR, RD, RA and NXDOMAIN.
                sock.sendto(request[:2] + b'\x81\x83' + request[4:6] + bytes(6) + request[12:], self.client_address)

        with self.island.entered():
            server = socketserver.UDPServer((self.address, 53), Handler)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.shutdown)


class Issued(NamedTuple):
    """Files of a certificate, and a server's context with it."""

    certificate: Path
    context: ssl.SSLContext


class Authority(fixtures.Fixture):
    """A CA. :ivar file: its certificate"""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _setUp(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
        self.path = Path(self.useFixture(fixtures.TempDir()).path)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (x509.CertificateBuilder().subject_name(self.subject).issuer_name(self.subject)
                       .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now - datetime.timedelta(days=9000))
                       .not_valid_after(now + datetime.timedelta(days=9000))
                       .add_extension(x509.BasicConstraints(True, None), critical=True)
                       .add_extension(usage, critical=True)
                       .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
                       .sign(self.key, hashes.SHA256()))
        self.file = self.path / 'ca.pem'
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str, first: Optional[datetime.datetime] = None,
              last: Optional[datetime.datetime] = None) -> Issued:
        """A server's certificate for host names and addresses."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
        now = datetime.datetime.now(datetime.timezone.utc)
        key = ec.generate_private_key(ec.SECP256R1())
        general = [x509.IPAddress(ipaddress.ip_address(n)) if n[-1].isdigit() else x509.DNSName(n) for n in names]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject)
                       .public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(first or now - datetime.timedelta(days=1))
                       .not_valid_after(last or now + datetime.timedelta(days=1))
                       .add_extension(x509.SubjectAlternativeName(general), critical=False)
                       .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
                       .sign(self.key, hashes.SHA256()))
        file = self.path / f'{names[0]}-{certificate.serial_number}.pem'
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM)
                         + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                             serialization.NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return Issued(file, context)


class Greets(socketserver.BaseRequestHandler):
    """As a broker begins: Connection.Start, without the rest."""

    def handle(self) -> None:
        if self.request.recv(8) == b'AMQP\x00\x00\x09\x01':
            self.request.sendall(struct.pack('>BHIHH', 1, 0, 400, 10, 10))
