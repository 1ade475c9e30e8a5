# SPDX-License-Identifier: Apache-2.0
"""What an exception means. The real ones are met in tests/lab."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import socket
import ssl
import threading
import time
import types
from typing import Any, Iterator, Optional

import pytest
import requests
import urllib3

from nova_migcheck.endpoints import probe, tls
from nova_migcheck.endpoints.probe import classify
from nova_migcheck.endpoints.values import Answer, Fault, Target, in_url


def wrapped(inner: BaseException) -> Exception:
    """As requests hands on what a socket raised."""
    reason = urllib3.exceptions.NewConnectionError(None, 'no')  # type: ignore[arg-type]
    reason.__cause__ = inner
    error = urllib3.exceptions.MaxRetryError(None, '/', reason)  # type: ignore[arg-type]
    return requests.ConnectionError(error)


@pytest.mark.parametrize(
    'inner, fault',
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, 'refused'), Fault.REFUSED),
        (OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)), Fault.UNREACHABLE),
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), Fault.UNREACHABLE),
        (OSError(errno.ETIMEDOUT, 'Connection timed out'), Fault.SILENT),
        (ConnectionResetError(errno.ECONNRESET, 'reset'), Fault.CLOSED),
        (BrokenPipeError(errno.EPIPE, 'broken'), Fault.CLOSED),
        (TimeoutError('timed out'), Fault.NO_ANSWER),
        (socket.timeout('timed out'), Fault.NO_ANSWER),
        (socket.gaierror(socket.EAI_NONAME, 'unknown'), Fault.NAME),
        (ssl.SSLEOFError(8, 'EOF occurred'), Fault.CLOSED),
        # OpenSSL's number 1 is not EPERM, which would be "unreachable".
        (ssl.SSLEOFError(1, 'EOF occurred'), Fault.CLOSED),
        (ssl.SSLError(1, 'WRONG_VERSION_NUMBER'), Fault.TLS),
        (tls.UnusableFile('the CA file /ca.pem cannot be used: Permission denied'), Fault.TLS),
        (RuntimeError('?'), Fault.INVALID),
    ],
)
def test_classify(inner: BaseException, fault: Fault) -> None:
    assert classify(inner, 5)[0] is fault
    if fault is not Fault.INVALID:
        assert classify(wrapped(inner), 5)[0] is fault


@pytest.mark.parametrize(
    'error, fault, said',
    [
        (
            requests.exceptions.ConnectTimeout('?'),
            Fault.SILENT,
            'no answer within the deadline of 5 s',
        ),
        (urllib3.exceptions.ProtocolError('?'), Fault.CLOSED, 'connection closed before an answer'),
        (ssl.CertificateError('?'), Fault.TLS, ''),
        (requests.exceptions.ProxyError('?'), Fault.CLOSED, 'the proxy rejected the connection'),
    ],
)
def test_what_the_libraries_make_themselves(error: BaseException, fault: Fault, said: str) -> None:
    found, detail = classify(error, 5)
    assert found is fault and said in detail


def test_an_unknown_scheme_is_said() -> None:
    answer = probe._greet(Target('gopher://10.0.0.5:70'), '127.0.0.1', 1.0, 1.0, speak=True, watched=probe.Watched())
    assert answer.fault is Fault.INVALID and 'gopher:// is not one of' in answer.detail


def test_no_credentials() -> None:
    text = classify(RuntimeError('cannot ask http://user:geheim@10.0.0.5/'), 5)[1]
    assert 'geheim' not in text and '10.0.0.5' in text


def test_an_exception_that_contains_itself() -> None:
    error = OSError(errno.ECONNREFUSED, 'refused')
    error.__cause__ = error
    assert classify(error, 5)[0] is Fault.REFUSED


@pytest.mark.parametrize(
    'number',
    [
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
        errno.EACCES,
        errno.EPERM,
        errno.EAFNOSUPPORT,
        errno.EINVAL,
    ],
)
def test_no_way_there(number: int) -> None:
    assert classify(OSError(number, 'Odd'), 5) == (Fault.UNREACHABLE, 'odd')
    without_text = OSError()
    without_text.errno = number
    assert classify(without_text, 5)[0] is Fault.UNREACHABLE


@pytest.mark.parametrize(
    'error, fault',
    [
        (ssl.SSLZeroReturnError(6, 'closed'), Fault.CLOSED),
        (ssl.SSLError('The handshake operation timed out'), Fault.CLOSED),
        (urllib3.exceptions.ConnectTimeoutError('?'), Fault.SILENT),
        (requests.exceptions.ReadTimeout('?'), Fault.NO_ANSWER),
        (http.client.RemoteDisconnected('?'), Fault.CLOSED),
    ],
)
def test_the_end_of_a_connection(error: BaseException, fault: Fault) -> None:
    assert classify(error, 5)[0] is fault


def test_an_unexpected_end_within_tls() -> None:
    error = ssl.SSLError('?')
    error.reason = 'UNEXPECTED_EOF_WHILE_READING'
    assert classify(error, 5)[0] is Fault.CLOSED
    error.reason = 'CERTIFICATE_VERIFY_FAILED'
    assert classify(error, 5) == (Fault.TLS, 'CERTIFICATE_VERIFY_FAILED')


def test_how_long_it_waited() -> None:
    assert probe.waited(5.0) == 'no answer within the deadline of 5 s' and '2.5 s' in probe.waited(
        2.5
    )
    assert len(classify(RuntimeError('x' * 500), 5)[1]) == 200


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A server on the loopback that says one thing to whoever connects; its address and port."""
    address, said = request.param
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:

        def work() -> None:
            connection, _peer = server.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.sendall(said)
                connection.recv(100)

        threading.Thread(target=work, daemon=True).start()
        yield address, server.getsockname()[1]


def ask(scheme: str, address: str, port: int, **options: Any) -> Answer:
    target = Target(f'{scheme}://{in_url(address)}:{port}')
    return probe.ask(target, address, time.monotonic() + 60, 60, **options)


@pytest.mark.parametrize(
    'serve, scheme, detail',
    [
        (('127.0.0.1', b'VERSION 1.6\r\n'), 'memcached', 'VERSION 1.6'),
        (('::1', b'VERSION 1.6\r\n'), 'memcached', 'VERSION 1.6'),
        (('127.0.0.1', b''), 'tcp', 'accepts connections'),
    ],
    indirect=['serve'],
)
def test_a_server_that_is_well(serve: tuple[str, int], scheme: str, detail: str) -> None:
    assert ask(scheme, *serve) == Answer(serve[0], None, detail)


@pytest.mark.parametrize(
    'serve, greet, fault',
    [
        (('127.0.0.1', b'hello\r\n'), True, Fault.PROTOCOL),
        (('127.0.0.1', b'hello\r\n'), False, None),
    ],
    indirect=['serve'],
)
def test_one_that_need_not_be_greeted(
    serve: tuple[str, int], greet: bool, fault: Optional[Fault]
) -> None:
    assert ask('memcached', *serve, greet=greet).fault is fault


@pytest.mark.parametrize(
    'status, fault, words',
    [(200, None, 'HTTP 200 in 40 ms'), (499, None, 'HTTP 499'), (500, Fault.STATUS, 'HTTP 500')],
)
def test_a_web_server(
    monkeypatch: pytest.MonkeyPatch, status: int, fault: Optional[Fault], words: str
) -> None:
    monkeypatch.setattr(
        probe.web, 'get', lambda *args: types.SimpleNamespace(status=status, seconds=0.04, skew=7.0)
    )
    for scheme in probe.WEB:
        answer = ask(scheme, '127.0.0.1', 1, proxy='http://u:p@proxy:3128')
        assert (answer.fault, answer.status, answer.skew, answer.proxy) == (
            fault,
            status,
            7.0,
            'http://proxy:3128',
        )
        assert answer.detail.startswith(words) and (' ms' in answer.detail) is (fault is None)


@pytest.mark.parametrize(
    'scheme, proxy, explained',
    [('https', '', True), ('http', '', False), ('https', 'http://proxy', False)],
)
def test_a_certificate_is_looked_at_where_no_proxy_is_between(
    monkeypatch: pytest.MonkeyPatch, scheme: str, proxy: str, explained: bool
) -> None:
    def fail(*args: Any) -> None:
        raise ssl.SSLError(1, 'WRONG')

    monkeypatch.setattr(probe.web, 'get', fail)
    monkeypatch.setattr(probe.tls, 'explain', lambda *args: 'explained')
    answer = ask(scheme, '127.0.0.1', 1, proxy=proxy)
    assert answer.fault is Fault.TLS and (answer.detail == 'explained') is explained


def test_the_addresses_of_a_name() -> None:
    assert probe.resolve('127.0.0.1') == ['127.0.0.1'] and probe.resolve('::1') == ['::1']
    assert probe.resolve('fe80::1%lo') == ['fe80::1%lo']


def test_a_link_local_address_names_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    index = socket.if_nametoindex('lo')
    monkeypatch.setattr(
        socket,
        'getaddrinfo',
        lambda *args, **kwargs: [
            (socket.AF_INET6, 1, 6, '', ('fe80::1', 0, 0, index)),
            (socket.AF_INET6, 1, 6, '', ('fe80::2%lo', 0, 0, index)),
            (socket.AF_INET6, 1, 6, '', ('fd00::1', 0, 0, 0)),
            (socket.AF_INET, 1, 6, '', ('10.0.0.1', 0)),
        ],
    )
    assert probe.resolve('x') == ['fe80::1%lo', 'fe80::2%lo', 'fd00::1', '10.0.0.1']
