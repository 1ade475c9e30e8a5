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


@pytest.mark.parametrize('code', [62, 64])
def test_a_certificate_for_few_names(code: int) -> None:
    for count in (1, 5, 6):
        names = [f'a{number}' for number in range(count)]
        text = tls._refused(
            code, '', certificates.issue('one', names, by=CA).certificate, 'vip', Tls()
        )
        assert text.endswith(
            f'it is for {", ".join(names[:5])}{" and 1 more" if count > 5 else ""}, not for vip'
        )


@pytest.mark.parametrize('code', [2, 18, 19, 20, 21])
def test_a_certificate_of_an_unknown_ca(code: int) -> None:
    certificate = certificates.issue('one', by=CA).certificate
    assert tls._refused(code, '', certificate, 'vip', Tls('/ca')).endswith(
        'issued by CN=Test CA, which /ca does not contain'
    )
    assert 'the default CAs' in tls._refused(code, '', certificate, 'vip', Tls())


def test_a_certificate_without_a_subject() -> None:
    class Nameless:
        class subject:
            rfc4514_string = staticmethod(lambda: '')

        issuer = subject
        extensions = certificates.issue('x', ['a1'], by=CA).certificate.extensions
        not_valid_before_utc = certificates.issue('x').certificate.not_valid_before_utc
        not_valid_after_utc = not_valid_before_utc

    assert 'expired: of a1, valid from ' in tls._refused(10, '', Nameless, 'vip', Tls())
    assert 'issued by an unnamed issuer, which' in tls._refused(20, '', Nameless, 'vip', Tls())


@pytest.mark.parametrize(
    'reason', ['WRONG_VERSION_NUMBER', 'RECORD_LAYER_FAILURE', 'UNKNOWN_PROTOCOL', 'HTTP_REQUEST']
)
def test_answers_in_another_protocol(reason: str) -> None:
    error = ssl.SSLError(1, 'failed')
    error.reason = reason
    outer = RuntimeError('outer')
    outer.__cause__ = error
    for one in (error, outer, RuntimeError(error)):
        assert (
            tls.explain(one, 'vip', '127.0.0.1', 1, Tls(), 1.0)
            == 'the server there does not speak TLS'
        )


def test_what_is_no_reason_of_openssl_s() -> None:
    assert (
        tls.explain(ssl.SSLError(1, 'Odd_Thing'), 'vip', '127.0.0.1', 1, Tls(), 1.0) == 'odd thing'
    )
    assert tls.explain(RuntimeError('Odd_Thing'), 'vip', '127.0.0.1', 1, Tls(), 1.0) == 'odd thing'


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list:
    asked: list = []
    certificate = certificates.issue('one', ['a1'], by=CA).certificate
    monkeypatch.setattr(tls.certificates, 'fetch', lambda *args: asked.append(args) or certificate)
    return asked


def test_the_refused_certificate_is_looked_at(fetched: list) -> None:
    error = ssl.SSLCertVerificationError(1, 'failed')
    error.verify_code, error.verify_message = 62, 'Hostname mismatch'
    assert tls.explain(error, 'vip', '127.0.0.1', 1, Tls(), 1.5).endswith('for a1, not for vip')
    assert fetched == [('127.0.0.1', 1, 1.5, 'vip')]


def test_an_older_urllib3_compares_names_itself(fetched: list) -> None:
    class CertificateError(Exception):
        pass

    assert tls.explain(
        CertificateError("hostname 'vip' doesn't match"), 'vip', '::1', 1, Tls(), 1.5
    ).endswith('for a1, not for vip')


def test_a_certificate_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError('gone')

    monkeypatch.setattr(tls.certificates, 'fetch', fail)
    error = ssl.SSLCertVerificationError(1, 'failed')
    error.verify_code, error.verify_message = 62, ''
    assert 'failed' in tls.explain(error, 'vip', '::1', 1, Tls(), 1.5)

    class CertificateError(Exception):
        pass

    assert (
        tls.explain(CertificateError('other words'), 'vip', '::1', 1, Tls(), 1.5) == 'other words'
    )


def test_exceptions_within_exceptions() -> None:
    first, second, third, fourth = (RuntimeError(number) for number in range(4))
    outer = RuntimeError(first, 'text')
    outer.reason = second
    outer.__cause__, outer.__context__ = third, fourth
    first.__context__ = outer
    assert list(tls.causes(outer)) == [outer, second, first, third, fourth]
    assert list(tls.causes(None)) == []


@pytest.mark.parametrize(
    'settings, own_socket, checks_name, verifies',
    [
        (Tls(), True, True, True),
        (Tls(check_name=False), True, False, True),
        (Tls(insecure=True), True, False, False),
        (Tls(insecure=True), False, False, False),
    ],
)
def test_what_a_context_verifies(
    settings: Tls, own_socket: bool, checks_name: bool, verifies: bool
) -> None:
    made = tls.context(settings, own_socket)
    assert (
        made.check_hostname is checks_name and (made.verify_mode is ssl.CERT_REQUIRED) is verifies
    )
    assert tls.context(settings, own_socket) is made


@pytest.mark.parametrize('name', ['REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'])
def test_the_bundle_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, name: str
) -> None:
    for other in ('REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, str(tmp_path / 'absent'))
    tls._context.cache_clear()
    try:
        with pytest.raises(tls.UnusableFile, match='absent'):
            tls.context(Tls())
        (tmp_path / 'ca').write_text(CA.pem)
        assert tls.context(Tls(str(tmp_path / 'ca'))).get_ca_certs()
    finally:
        tls._context.cache_clear()


@pytest.mark.parametrize(
    'host, name',
    [('fe80::1%eth0', 'fe80::1'), ('10.0.0.1', '10.0.0.1'), ('vip%example', 'vip%example')],
)
def test_the_name_to_verify(host: str, name: str) -> None:
    assert tls.server_name(host) == name


def test_a_name_that_python_itself_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As match_hostname() raises it, for urllib3 before 2: without a code of OpenSSL."""

    def unreachable(*_args: object) -> None:
        raise OSError('no route')

    monkeypatch.setattr(tls.certificates, 'fetch', unreachable)
    error = ssl.SSLCertVerificationError("hostname 'a' doesn't match 'b'")
    for missing in ('verify_code', 'verify_message'):
        assert not hasattr(error, missing)
    assert "doesn't match 'b'" in tls.explain(error, 'a', '10.0.0.5', 443, Tls(), 1.0)
