# SPDX-License-Identifier: Apache-2.0
"""The texts about certificates and unusable files. Real connections are made in tests/lab."""

from __future__ import annotations

import pathlib
import ssl

import pytest

from nova_migcheck.endpoints import tls
from nova_migcheck.endpoints.values import Tls
from tests.lab import certificates

CA = certificates.authority()


@pytest.mark.parametrize(
    'code, said',
    [
        (10, 'certificate expired: of CN=one, valid from '),
        (9, 'certificate not yet valid: of CN=one, valid from '),
        (
            62,
            'certificate for another name: it is for a1, a2, a3, a4, a5 and 2 more, '
            'not for vip.example',
        ),
        (
            20,
            'certificate from an unknown CA: issued by CN=Test CA, '
            'which the default CAs do not include',
        ),
        (7, 'certificate refused: signature failure'),
    ],
)
def test_what_openssl_s_codes_mean(code: int, said: str) -> None:
    certificate = certificates.issue(
        'one', [f'a{number}' for number in range(1, 8)], by=CA
    ).certificate
    assert tls._refused(code, 'signature failure', certificate, 'vip.example', Tls()).startswith(
        said
    )


def test_a_certificate_for_no_name() -> None:
    certificate = certificates.issue('one', by=CA).certificate
    refused = tls._refused(62, '', certificate, 'vip', Tls())
    assert 'it is for no name (CN=one has no subjectAltName)' in refused


@pytest.mark.parametrize(
    'settings, said',
    [
        ({'cafile': 'missing.pem'}, 'the CA file .*missing.pem cannot be used: No such file'),
        ({'cafile': 'empty.pem'}, 'the CA file .*empty.pem cannot be used'),
        (
            {'certfile': 'missing.pem', 'insecure': True},
            'the client certificate .*missing.pem cannot be used: No such file',
        ),
        (
            {'certfile': 'empty.pem', 'keyfile': 'key.pem', 'insecure': True},
            'the client certificate .*empty.pem cannot be used',
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: pathlib.Path, settings: dict[str, str], said: str
) -> None:
    (tmp_path / 'empty.pem').write_text('')
    (tmp_path / 'key.pem').write_text(CA.key)
    told = {
        name: str(tmp_path / value) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    with pytest.raises(tls.UnusableFile, match=said) as raised:
        tls.context(Tls(**told))
    assert tls.explain(raised.value, 'vip', '127.0.0.1', 1, Tls(), 1.0) == str(raised.value)


def test_a_directory_of_cas_and_a_client_s_certificate(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'cas').mkdir()
    (tmp_path / 'one.pem').write_text(CA.pem + CA.key)
    made = tls.context(Tls(cafile=str(tmp_path / 'cas'), certfile=str(tmp_path / 'one.pem')))
    assert made.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    'reason, said',
    [
        ('WRONG_VERSION_NUMBER', 'the server there does not speak TLS'),
        ('NO_SHARED_CIPHER', 'no shared cipher'),
    ],
)
def test_other_words_of_openssl_s(reason: str, said: str) -> None:
    error = ssl.SSLError(1, 'failed')
    error.reason = reason
    assert tls.explain(error, 'vip', '127.0.0.1', 1, Tls(), 1.0) == said


def test_a_certificate_that_cannot_be_fetched_any_more_is_told_by_openssl_s_words() -> None:
    error = ssl.SSLCertVerificationError(1, 'failed')
    error.verify_code, error.verify_message = 10, 'certificate has expired'
    assert tls.explain(error, 'vip', '127.0.0.1', 1, Tls(), 1.0) == 'certificate has expired'
