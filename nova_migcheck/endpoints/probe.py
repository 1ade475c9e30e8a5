# SPDX-License-Identifier: Apache-2.0
"""Probe one target at one address, and classify what is wrong with it (:class:`Fault`)."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
import ssl
import time

from nova_migcheck.endpoints import greeting, tls, web
from nova_migcheck.endpoints.losses import Watched
from nova_migcheck.endpoints.values import Answer, Fault, Target
from nova_migcheck.finding import without_credentials

WEB = ('http', 'https')

_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN,
                errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.EINVAL)


def ask(target: Target, address: str, deadline: float, seconds: float, proxy: str = '',
        greet: bool = True) -> Answer:
    """Probe ``target`` at ``address``, which is the proxy's if one is used.

    :param deadline: on :func:`time.monotonic`'s clock; no single wait goes beyond it
    :param seconds: the whole time that was given, for the text
    :param greet: whether to begin the protocol, or only to connect (if it is not HTTP)
    """
    timeout = max(0.05, deadline - time.monotonic())
    shown = without_credentials(proxy)
    watched = Watched()
    try:
        if target.scheme in WEB:
            answer = _web(target, address, proxy, shown, timeout, watched)
        else:
            answer = _greet(target, address, timeout, seconds, greet, watched)
    except Exception as error:
        fault, detail = classify(error, seconds)
        if fault is Fault.TLS and target.scheme in ('https', 'amqps') and not proxy:
            left = max(0.05, deadline - time.monotonic())
            detail = tls.explain(error, target.host, address, target.port, target.tls, left)
        answer = Answer(address, fault, detail, proxy=shown)
    return dataclasses.replace(answer, losses=watched.end())


def _web(target: Target, address: str, proxy: str, shown: str, timeout: float,
         watched: Watched) -> Answer:
    reply = web.get(target, address, proxy, timeout, watched)
    fault = Fault.STATUS if reply.status >= 500 else None
    detail = (f'HTTP {reply.status}' if fault else
              f'HTTP {reply.status} in {reply.seconds * 1000:.0f} ms')
    return Answer(address, fault, detail, reply.status, reply.skew, shown)


def _greet(target: Target, address: str, timeout: float, seconds: float, speak: bool,
           watched: Watched) -> Answer:
    greet = greeting.GREETINGS.get(target.scheme) if speak else greeting.tcp
    if greet is None:
        return Answer(address, Fault.INVALID,
                      f'{target.scheme}:// is not one of http, https, tcp, ntp')
    kind = socket.SOCK_DGRAM if target.scheme == 'ntp' else socket.SOCK_STREAM
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(family, kind))
        sock.settimeout(timeout)
        try:
            sock.connect((address, target.port))
        except (TimeoutError, socket.timeout):
            return Answer(address, Fault.SILENT, waited(seconds))
        watched.watch(sock)
        if target.scheme == 'amqps':
            context = tls.context(target.tls, own_socket=True)
            sock = stack.enter_context(
                context.wrap_socket(sock, server_hostname=tls.server_name(target.host)))
        greeted = greet(sock)
    if greeted.wrong:
        return Answer(address, Fault.PROTOCOL, greeted.wrong, skew=greeted.skew)
    return Answer(address, None, greeted.text, skew=greeted.skew)


def waited(seconds: float) -> str:
    """Return the text for an answer that did not arrive in time."""
    return f'no answer within the deadline of {seconds:g} s'


def classify(error: BaseException, seconds: float) -> tuple[Fault, str]:
    """Return the fault that an exception means, and its text.

    It may come from requests, urllib3, keystoneauth1, ssl or a socket.

    :param seconds: the deadline, for the text
    """
    inside = list(tls.causes(error))
    names = {type(e).__name__ for e in inside}
    if names & {'ConnectTimeoutError', 'ConnectTimeout'}:
        return Fault.SILENT, waited(seconds)
    for cause in inside:
        if isinstance(cause, tls.UnusableFile):
            return Fault.TLS, str(cause)
        if isinstance(cause, ssl.SSLError) and not _ended(cause):
            return Fault.TLS, str(getattr(cause, 'reason', '') or cause)
        if isinstance(cause, ssl.SSLError):
            continue  # its errno is OpenSSL's: 1 is not EPERM
        if isinstance(cause, socket.gaierror):
            return Fault.NAME, cause.strerror or str(cause)
        if isinstance(cause, ConnectionRefusedError):
            return Fault.REFUSED, 'connection refused'
        if isinstance(cause, OSError) and cause.errno in _UNREACHABLE:
            return Fault.UNREACHABLE, (cause.strerror or str(cause)).lower()
        if isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT:
            return Fault.SILENT, 'connection timed out'
    if 'ReadTimeout' in names or any(isinstance(e, (TimeoutError, socket.timeout)) for e in inside):
        return Fault.NO_ANSWER, waited(seconds)
    if names & {'RemoteDisconnected', 'ProtocolError'} \
            or any(isinstance(e, (ConnectionError, ssl.SSLError)) for e in inside):
        return Fault.CLOSED, 'connection closed before an answer'
    if 'CertificateError' in names:
        return Fault.TLS, 'certificate for another name'
    if 'ProxyError' in names:
        return Fault.CLOSED, 'the proxy rejected the connection'
    return Fault.INVALID, without_credentials(f'{type(error).__name__}: {error}')[:200]


def _ended(error: ssl.SSLError) -> bool:
    """Return whether the connection was closed or timed out, and TLS itself was not refused."""
    return (isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
            or 'timed out' in str(error)
            or getattr(error, 'reason', '') == 'UNEXPECTED_EOF_WHILE_READING')


def resolve(host: str) -> list[str]:
    """Return every address of a name, in the order in which a client tries them.

    :raises socket.gaierror: if it does not resolve
    """
    addresses: dict[str, None] = {}
    for family, *_rest, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        text = str(address[0])
        if family == socket.AF_INET6 and len(address) == 4 and address[3] and '%' not in text:
            text += f'%{socket.if_indextoname(address[3])}'
        addresses[text] = None
    return list(addresses)
