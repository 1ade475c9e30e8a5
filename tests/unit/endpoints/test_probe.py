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

from nova_migcheck.endpoints.model import Fault
from nova_migcheck.endpoints.probe import classify


def wrapped(inner: BaseException) -> Exception:
    """As requests hands on what a socket raised."""
    reason = urllib3.exceptions.NewConnectionError(None, 'no')  # type: ignore[arg-type]
    reason.__cause__ = inner
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, '/', reason))  # type: ignore[arg-type]


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
    (RuntimeError('?'), Fault.INVALID),
])
def test_classify(inner: BaseException, fault: Fault) -> None:
    assert classify(inner, 5)[0] is fault
    if fault is not Fault.INVALID:
        assert classify(wrapped(inner), 5)[0] is fault


def test_no_credentials() -> None:
    text = classify(RuntimeError('cannot ask http://user:geheim@10.0.0.5/'), 5)[1]
    assert 'geheim' not in text and '10.0.0.5' in text


def test_an_exception_that_contains_itself() -> None:
    error = OSError(errno.ECONNREFUSED, 'refused')
    error.__cause__ = error
    assert classify(error, 5)[0] is Fault.REFUSED
