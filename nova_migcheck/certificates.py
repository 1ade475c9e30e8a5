# SPDX-License-Identifier: Apache-2.0
"""Read X.509 certificates: from a PEM file or a TLS server, their dates and their names.

cryptography is imported where it is used, since most checks never need it.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from cryptography import x509

# X509_V_ERR_* of OpenSSL's x509_vfy.h, by the part of the certificate that was refused.
EXPIRED = 10
DATES = (9, EXPIRED)                # not yet valid, expired
NAMES = (62, 64)                    # another host name, another address
ISSUER = (2, 18, 19, 20, 21)        # self-signed, or the issuer was not found


def read(path: str) -> list[x509.Certificate]:
    """Return the certificates in a PEM file, at least one.

    :raises OSError: if the file cannot be read
    :raises ValueError: if it holds no certificate, or a malformed one
    """
    from cryptography import x509
    begin = b'-----BEGIN CERTIFICATE-----'
    with open(path, 'rb') as file:
        parts = file.read().split(begin)[1:]
    if not parts:
        raise ValueError(f'there is no certificate in {path}')
    return [x509.load_pem_x509_certificate(begin + part) for part in parts]


def fetch(address: str, port: int, timeout: float, name: Optional[str] = None) -> x509.Certificate:
    """Return the certificate that a TLS server presents, without verifying it.

    :param timeout: in seconds
    :param name: the server name to ask for (SNI)
    :raises OSError: if the server does not answer with TLS in time
    :raises ValueError: if its certificate is malformed
    """
    from cryptography import x509
    with socket.create_connection((address, port), timeout=timeout) as plain, \
            unverifying_context().wrap_socket(plain, server_hostname=name) as wrapped:
        return x509.load_der_x509_certificate(wrapped.getpeercert(binary_form=True) or b'')


def unverifying_context() -> ssl.SSLContext:
    """Return a client context that accepts any certificate, and keys as short as GnuTLS does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLError):
        context.set_ciphers('DEFAULT@SECLEVEL=1')
    return context


def validity(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    """Return the first and the last time at which the certificate is valid, in UTC."""
    try:
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except AttributeError:  # cryptography < 42
        utc = datetime.timezone.utc
        return (certificate.not_valid_before.replace(tzinfo=utc),
                certificate.not_valid_after.replace(tzinfo=utc))


def outdated(certificate: x509.Certificate) -> str:
    """Return ``expired on …`` or ``is not valid before …``, or '' if it is valid now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    first, last = validity(certificate)
    if now > last:
        return f'expired on {last:%Y-%m-%d %H:%M} UTC'
    return f'is not valid before {first:%Y-%m-%d %H:%M} UTC' if now < first else ''


def subject(certificate: x509.Certificate) -> str:
    """Return whose a certificate is, as libvirt writes it: ``O=lab,CN=node1``.

    GnuTLS keeps the order in the certificate, which RFC 4514 and OpenSSL turn around.
    """
    return ','.join(rdn.rfc4514_string() for rdn in certificate.subject.rdns)


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses in its subjectAltName."""
    from cryptography import x509
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(general.value) for general in extension.value]


def names(certificate: x509.Certificate) -> list[str]:
    """Return its alternative names, then its common name, each once."""
    from cryptography import x509
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return list(dict.fromkeys(alternative_names(certificate) + [str(one.value) for one in common]))


def matches(certificate: x509.Certificate, name: str) -> bool:
    """Return whether it is for this name or address.

    This follows GnuTLS's ``gnutls_x509_crt_check_hostname``, and errs on the lenient side.
    """
    expected = name.lower().rstrip('.')
    for own in map(str.lower, names(certificate)):
        if own == expected:
            return True
        if own.startswith('*.') and expected.partition('.')[2] == own[2:]:
            return True
        try:
            if ipaddress.ip_address(own) == ipaddress.ip_address(expected):
                return True
        except ValueError:
            continue
    return False
