# SPDX-License-Identifier: Apache-2.0
"""Contexts as requests would make them, and what is wrong with a certificate that one of them refused."""

from __future__ import annotations

import functools
import os
import ssl
import threading
from typing import Any, Iterator, Optional

from nova_migcheck import certificates
from nova_migcheck.endpoints.values import Tls, is_address

_LOCK = threading.Lock()


class UnusableFile(Exception):
    """A file that the TLS settings name cannot be read, or is not what it should be."""


def context(tls: Tls, own_socket: bool = False) -> ssl.SSLContext:
    """The context by which requests (and so keystoneauth1) would verify; the same one for the same settings.

    :param own_socket: it is not for urllib3, whose older releases compare the name themselves

    Reading a system's bundle of CAs costs 10–50 ms of CPU, and each of a dozen endpoints would read it again.

    :raises UnusableFile: for a CA file, certificate or key
    """
    with _LOCK:
        return _context(tls, own_socket)


@functools.cache
def _context(tls: Tls, own_socket: bool) -> ssl.SSLContext:
    import requests.certs
    from urllib3.util.ssl_ import create_urllib3_context
    made: ssl.SSLContext = create_urllib3_context()
    if tls.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        if own_socket:
            made.check_hostname = tls.check_name
        made.verify_mode = ssl.CERT_REQUIRED
        # As requests.Session.merge_environment_settings does where the caller gave no bundle.
        bundle = (tls.cafile or os.environ.get('REQUESTS_CA_BUNDLE') or os.environ.get('CURL_CA_BUNDLE')
                  or requests.utils.DEFAULT_CA_BUNDLE_PATH)
        try:
            if os.path.isdir(bundle):
                made.load_verify_locations(capath=bundle)
            else:
                made.load_verify_locations(cafile=bundle)
        except OSError as error:
            raise UnusableFile(f'the CA file {bundle} cannot be used: {error.strerror or error}') from error
    if tls.certfile:
        try:
            made.load_cert_chain(tls.certfile, tls.keyfile or None)
        except OSError as error:
            raise UnusableFile(f'the client certificate {tls.certfile} cannot be used: '
                               f'{error.strerror or error}') from error
    return made


def causes(error: Optional[BaseException]) -> Iterator[BaseException]:
    """An exception and all that is inside of it: requests wraps urllib3's, which wraps the socket's."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        current = todo.pop(0)
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            todo += [getattr(current, 'reason', None), *current.args, current.__cause__, current.__context__]


def explain(error: BaseException, host: str, address: str, port: int, tls: Tls, timeout: float) -> str:
    """What is wrong, in a few words: the dates, the names or the issuer of the certificate that was refused.

    :param timeout: seconds for the one more connection that fetches the certificate
    """
    unusable = next((e for e in causes(error) if isinstance(e, UnusableFile)), None)
    if unusable is not None:
        return str(unusable)
    found = next((e for e in causes(error) if isinstance(e, ssl.SSLCertVerificationError)), None)
    code, message = (found.verify_code, found.verify_message) if found else (0, '')
    if any(type(e).__name__ == 'CertificateError' for e in causes(error)):  # by urllib3 < 2 itself
        code = certificates.NAMES[0]
    if not code:
        other = next((e for e in causes(error) if isinstance(e, ssl.SSLError)), error)
        reason = getattr(other, 'reason', '') or str(other)
        if reason in ('WRONG_VERSION_NUMBER', 'RECORD_LAYER_FAILURE', 'UNKNOWN_PROTOCOL', 'HTTP_REQUEST'):
            return 'what answers there does not speak TLS'
        return str(reason).lower().replace('_', ' ')
    try:
        certificate = certificates.fetch(address, port, timeout, host)
        return _refused(code, message, certificate, host, tls)
    except Exception:  # the certificate cannot be fetched or read: OpenSSL's own words must do
        return message or str(found or error)


def _refused(code: int, message: str, certificate: Any, host: str, tls: Tls) -> str:
    if code in certificates.DATES:
        first, last = (f'{time:%Y-%m-%d %H:%M} UTC' for time in certificates.validity(certificate))
        which = 'expired' if code == certificates.EXPIRED else 'not yet valid'
        # It may be one of the chain that has expired; the dates below are then fine, and must not be blamed.
        return f'certificate {which}: of {_subject(certificate)}, valid from {first} to {last}'
    if code in certificates.NAMES:
        return f'certificate for another name: it is for {_names(certificate)}, not for {host}'
    if code in certificates.ISSUER:
        issuer = certificate.issuer.rfc4514_string() or 'nobody'
        where = f'{tls.cafile} does not hold' if tls.cafile else 'the default CAs do not include'
        return f'certificate from an unknown CA: issued by {issuer}, which {where}'
    return f'certificate refused: {message}'


def _subject(certificate: Any) -> str:
    return certificate.subject.rfc4514_string() or _names(certificate)


def _names(certificate: Any, most: int = 5) -> str:
    names = certificates.alternative_names(certificate)
    if not names:
        return f'no name ({certificate.subject.rfc4514_string()} has no subjectAltName)'
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def server_name(host: str) -> str:
    """What a certificate must be for: the host without the zone index of a link-local address."""
    return host.partition('%')[0] if is_address(host) else host
