# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made on the spot."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
from typing import Optional, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAY = datetime.timedelta(days=1)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key(self) -> str:
        return self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()).decode()


def authority(name: str = 'Test CA') -> Certificate:
    """A certificate authority."""
    return issue(name)


def issue(common_name: str, names: Sequence[str] = (), by: Optional[Certificate] = None,
          days: int = 30, since: int = -365, organization: str = '') -> Certificate:
    """A certificate.

    :param names: names and addresses that it is for
    :param by: its authority; itself when None
    :param days: until it expires, negative when that is past
    :param since: days until it becomes valid
    :param organization: comes before the common name
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    private = ec.generate_private_key(ec.SECP256R1())
    words = {x509.NameOID.ORGANIZATION_NAME: organization, x509.NameOID.COMMON_NAME: common_name}
    subject = x509.Name([x509.NameAttribute(key, word) for key, word in words.items() if word])
    builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(by.certificate.subject if by else subject)
               .public_key(private.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now + since * _DAY).not_valid_after(now + days * _DAY)
               .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
    return Certificate(builder.sign((by.private if by else private), hashes.SHA256()), private)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
