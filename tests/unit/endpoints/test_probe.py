# SPDX-License-Identifier: Apache-2.0
"""What an exception means. The real ones are met in tests/lab."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest
import requests
import urllib3

from nova_migcheck.endpoints import probe, tls
from nova_migcheck.endpoints.probe import classify
from nova_migcheck.endpoints.values import Fault, Target


def wrapped(inner: BaseException) -> Exception:
    """As requests hands on what a socket raised."""
    reason = urllib3.exceptions.NewConnectionError(None, 'no')  # type: ignore[arg-type]
    reason.__cause__ = inner
    error = urllib3.exceptions.MaxRetryError(None, '/', reason)  # type: ignore[arg-type]
    return requests.ConnectionError(error)


@pytest.mark.parametrize('inner, fault', [
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
    (ssl.SSLError(1, 'WRONG_VERSION_NUMBER'), Fault.TLS),
    (tls.UnusableFile('the CA file /ca.pem cannot be used: Permission denied'), Fault.TLS),
    (RuntimeError('?'), Fault.INVALID),
])
def test_classify(inner: BaseException, fault: Fault) -> None:
    assert classify(inner, 5)[0] is fault
    if fault is not Fault.INVALID:
        assert classify(wrapped(inner), 5)[0] is fault


@pytest.mark.parametrize('error, fault, said', [
    (requests.exceptions.ConnectTimeout('?'), Fault.SILENT, 'no answer within the deadline of 5 s'),
    (urllib3.exceptions.ProtocolError('?'), Fault.CLOSED, 'connection closed before an answer'),
    (ssl.CertificateError('?'), Fault.TLS, ''),
    (requests.exceptions.ProxyError('?'), Fault.CLOSED, 'the proxy rejected the connection'),
])
def test_what_the_libraries_make_themselves(error: BaseException, fault: Fault, said: str) -> None:
    found, detail = classify(error, 5)
    assert found is fault and said in detail


def test_an_unknown_scheme_is_said() -> None:
    answer = probe._greet(Target('gopher://10.0.0.5:70'), '127.0.0.1', 1.0, 1.0, speak=True)
    assert answer.fault is Fault.INVALID and 'gopher:// is not one of' in answer.detail


def test_no_credentials() -> None:
    text = classify(RuntimeError('cannot ask http://user:geheim@10.0.0.5/'), 5)[1]
    assert 'geheim' not in text and '10.0.0.5' in text


def test_an_exception_that_contains_itself() -> None:
    error = OSError(errno.ECONNREFUSED, 'refused')
    error.__cause__ = error
    assert classify(error, 5)[0] is Fault.REFUSED
