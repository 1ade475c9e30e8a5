# SPDX-License-Identifier: Apache-2.0
"""Make TLS contexts as requests does, and explain why one of them refused a certificate."""

from __future__ import annotations

import functools
import os
import ssl
import threading
from typing import Any, Iterator, Optional

from nova_migcheck import certificates, wording
from nova_migcheck.endpoints.values import Tls, is_address

_LOCK = threading.Lock()

# OpenSSL's reasons for an answer in another protocol.
_NO_TLS = ('WRONG_VERSION_NUMBER', 'RECORD_LAYER_FAILURE', 'UNKNOWN_PROTOCOL', 'HTTP_REQUEST')


class UnusableFile(Exception):
    """Report a file in the TLS settings that cannot be read, or has the wrong content."""


def context(tls: Tls, own_socket: bool = False) -> ssl.SSLContext:
    """Return a context that verifies as requests does, and so keystoneauth1.

    Contexts are cached by their settings. Reading a system's CA bundle costs 10–50 ms of CPU, and
    each of a dozen endpoints would read it again.

    :param own_socket: whether it is used without urllib3, whose older releases verify the name
        themselves
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
        # As requests.Session.merge_environment_settings does if the caller gives no bundle.
        bundle = (tls.cafile or os.environ.get('REQUESTS_CA_BUNDLE')
                  or os.environ.get('CURL_CA_BUNDLE') or requests.utils.DEFAULT_CA_BUNDLE_PATH)
        try:
            if os.path.isdir(bundle):
                made.load_verify_locations(capath=bundle)
            else:
                made.load_verify_locations(cafile=bundle)
        except OSError as error:
            raise UnusableFile(f'the CA file {bundle} cannot be used: '
                               f'{error.strerror or error}') from error
    if tls.certfile:
        try:
            made.load_cert_chain(tls.certfile, tls.keyfile or None)
        except OSError as error:
            raise UnusableFile(f'the client certificate {tls.certfile} cannot be used: '
                               f'{error.strerror or error}') from error
    return made


def causes(error: Optional[BaseException]) -> Iterator[BaseException]:
    """Yield an exception and all that it wraps.

    requests wraps urllib3's exceptions, which wrap the socket's.
    """
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        current = todo.pop(0)
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            todo += [getattr(current, 'reason', None), *current.args,
                     current.__cause__, current.__context__]


def explain(error: BaseException, host: str, address: str, port: int, tls: Tls,
            timeout: float) -> str:
    """Return why TLS failed: the dates, the names or the issuer of the refused certificate.

    :param timeout: seconds for another connection, which fetches the certificate
    """
    unusable = next((e for e in causes(error) if isinstance(e, UnusableFile)), None)
    if unusable is not None:
        return str(unusable)
    found = next((e for e in causes(error) if isinstance(e, ssl.SSLCertVerificationError)), None)
    # match_hostname() of Python and of urllib3 < 2 raises one that has neither.
    code = getattr(found, 'verify_code', certificates.NAMES[0]) if found else 0
    message = getattr(found, 'verify_message', '')
    if any(type(e).__name__ == 'CertificateError' for e in causes(error)):  # of urllib3 < 2
        code = certificates.NAMES[0]
    if not code:
        other = next((e for e in causes(error) if isinstance(e, ssl.SSLError)), error)
        reason = getattr(other, 'reason', '') or str(other)
        if reason in _NO_TLS:
            return 'the server there does not speak TLS'
        return str(reason).lower().replace('_', ' ')
    try:
        certificate = certificates.fetch(address, port, timeout, host)
        return _refused(code, message, certificate, host, tls)
    except Exception:  # without the certificate, OpenSSL's message is all there is
        return message or str(found or error)


def _refused(code: int, message: str, certificate: Any, host: str, tls: Tls) -> str:
    if code in certificates.DATES:
        first, last = (f'{time:%Y-%m-%d %H:%M} UTC' for time in certificates.validity(certificate))
        which = 'expired' if code == certificates.EXPIRED else 'not yet valid'
        # Do not blame the dates below: another certificate of the chain may have expired.
        return f'certificate {which}: of {_subject(certificate)}, valid from {first} to {last}'
    if code in certificates.NAMES:
        return f'certificate for another name: it is for {_names(certificate)}, not for {host}'
    if code in certificates.ISSUER:
        issuer = certificate.issuer.rfc4514_string() or 'an unnamed issuer'
        if tls.cafile:
            return (f'certificate from an unknown CA: issued by {issuer}, which {tls.cafile} does '
                    'not contain')
        return (f'certificate from an unknown CA: issued by {issuer}, which the default CAs do not '
                'include')
    return f'certificate refused: {message}'


def _subject(certificate: Any) -> str:
    return certificate.subject.rfc4514_string() or _names(certificate)


def _names(certificate: Any, most: int = 5) -> str:
    names = certificates.alternative_names(certificate)
    if not names:
        return f'no name ({certificate.subject.rfc4514_string()} has no subjectAltName)'
    return wording.some(names, most)


def server_name(host: str) -> str:
    """Return the name to verify: the host without the zone index of a link-local address."""
    return host.partition('%')[0] if is_address(host) else host
