# SPDX-License-Identifier: Apache-2.0
"""Certificates and keys as files; what libvirt makes of them is in tests/lab/test_tls.py."""

import dataclasses
import os
import pwd

import pytest

from nova_migcheck.finding import Outcome
from nova_migcheck.libvirtd import tlsfiles
from tests.lab import certificates

AUTHORITY = certificates.authority()
OWN = certificates.issue('node1', by=AUTHORITY)


def test_where_libvirt_looks():
    assert tlsfiles.of_libvirt_client('/srv/pki').certificate == '/srv/pki/clientcert.pem'
    assert tlsfiles.of_libvirt_client().certificate == '/etc/pki/libvirt/clientcert.pem'


def test_users():
    assert tlsfiles._uid('+107') == 107 and tlsfiles._uid('nobody') == pwd.getpwnam('nobody').pw_uid
    assert tlsfiles._uid('no-such-user') is None


@pytest.mark.parametrize(
    'content, words',
    [
        (OWN.key, None),
        ('no key', 'cannot be parsed'),
        (certificates.issue('node1').key, 'does not belong to'),
        (None, 'is missing'),
    ],
    # The keys cannot be the names, since they differ in each of xdist's processes.
    ids=['its own', 'no key', 'of another', 'missing'],
)
def test_the_key(tmp_path, content, words):
    files = tlsfiles.TlsFiles("QEMU's", *(str(tmp_path / name) for name in ('ca', 'cert', 'key')))
    if content is not None:
        (tmp_path / 'key').write_text(content)
    told = list(tlsfiles._key(files, OWN.certificate, True))
    if words is None:
        assert not told
    else:
        (trouble,) = told
        assert trouble.outcome is Outcome.FAILURE and trouble.path == files.key
        assert words in trouble.detail


@pytest.mark.root
def test_a_key_that_qemu_may_not_read(tmp_path):
    (tmp_path / 'key').write_text(OWN.key)
    os.chmod(tmp_path / 'key', 0o600)
    paths = (str(tmp_path / name) for name in ('ca', 'cert', 'key'))
    files = tlsfiles.TlsFiles("QEMU's", *paths, user='nobody')
    os.chown(tmp_path / 'key', 1, 1)
    (trouble,) = tlsfiles._key(files, OWN.certificate, True)
    assert trouble.outcome is Outcome.FAILURE and 'QEMU runs as nobody' in trouble.detail
    os.chown(tmp_path / 'key', pwd.getpwnam('nobody').pw_uid, -1)
    assert not list(tlsfiles._key(files, OWN.certificate, True))


def test_the_files_of_each_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tlsfiles, '_PKI', str(tmp_path))

    def paths(files):
        return tuple(
            path.replace(str(tmp_path), 'PKI')
            for path in (files.authority, files.certificate, files.key)
        )

    client = (
        'PKI/CA/cacert.pem',
        'PKI/libvirt/clientcert.pem',
        'PKI/libvirt/private/clientkey.pem',
    )
    assert paths(tlsfiles.of_libvirt_client()) == client
    assert paths(tlsfiles.of_libvirt_client('/p')) == (
        '/p/cacert.pem',
        '/p/clientcert.pem',
        '/p/clientkey.pem',
    )
    server = tuple(path.replace('client', 'server') for path in client)
    assert paths(tlsfiles.of_libvirt_server({})) == server
    assert (
        tlsfiles.of_libvirt_server({}, 'virtproxyd').whose == "virtproxyd's"
        and tlsfiles.of_libvirt_server({}).whose == "libvirtd's"
    )
    for place, name in enumerate(('ca_file', 'cert_file', 'key_file')):
        found = paths(tlsfiles.of_libvirt_server({name: '/x'}))
        assert found == tuple(
            '/x' if number == place else path for number, path in enumerate(server)
        )


@pytest.mark.parametrize(
    'conf, migrate, directory',
    [
        ({}, False, 'PKI/qemu'),
        ({}, True, 'PKI/libvirt-migrate'),
        ({'default_tls_x509_cert_dir': '/d'}, False, '/d'),
        ({'default_tls_x509_cert_dir': '/d'}, True, 'PKI/libvirt-migrate'),
        ({'migrate_tls_x509_cert_dir': '/m'}, True, '/m'),
        ({'migrate_tls_x509_cert_dir': '/m', 'default_tls_x509_cert_dir': '/d'}, False, '/m'),
    ],
)
def test_where_qemu_looks(tmp_path, monkeypatch, conf, migrate, directory):
    """As the comments in qemu.conf say."""
    monkeypatch.setattr(tlsfiles, '_PKI', str(tmp_path))
    if migrate:
        (tmp_path / 'libvirt-migrate').mkdir()
    for end in ('server', 'client'):
        found = tlsfiles.of_qemu(end, conf)
        place = directory.replace('PKI', str(tmp_path))
        assert (found.whose, found.authority, found.certificate, found.key) == (
            f"QEMU's {end}",
            f'{place}/ca-cert.pem',
            f'{place}/{end}-cert.pem',
            f'{place}/{end}-key.pem',
        )


@pytest.mark.parametrize(
    'known, configured, user',
    [
        (['libvirt-qemu', 'qemu'], {}, 'libvirt-qemu'),
        (['qemu'], {}, 'qemu'),
        ([], {}, ''),
        (['qemu'], {'user': 'root'}, 'root'),
    ],
)
def test_who_runs_qemu(monkeypatch, known, configured, user):
    monkeypatch.setattr(tlsfiles, '_uid', lambda name: 1 if name in known else None)
    assert tlsfiles.of_qemu('server', configured).user == user


@pytest.fixture
def files(tmp_path):
    """Return the files of one end, written as given."""

    def write(authority=AUTHORITY.pem, certificate=OWN.pem, key=OWN.key):
        for name, text in (('ca', authority), ('cert', certificate), ('key', key)):
            if text is not None:
                (tmp_path / name).write_text(text)
        return tlsfiles.TlsFiles(
            "QEMU's server", *(str(tmp_path / name) for name in ('ca', 'cert', 'key'))
        )

    return write


def kinds(*args, **values):
    return [
        (one.kind, os.path.basename(one.path), one.outcome, one.absent)
        for one in tlsfiles.troubles(*args, **values)
    ]


EXPIRED = certificates.issue('node1', by=AUTHORITY, days=-3)
OLD_CA = certificates.issue('Old CA', days=-3)


@pytest.mark.parametrize(
    'content, expected',
    [
        ({}, []),
        ({'authority': None}, [('missing', 'ca', False)]),
        ({'certificate': None}, [('missing', 'cert', True)]),
        ({'key': None}, [('missing', 'key', True)]),
        ({'authority': 'x'}, [('malformed', 'cert', False)]),
        ({'certificate': 'x'}, [('malformed', 'cert', False)]),
        ({'key': 'x'}, [('malformed', 'key', False)]),
        ({'certificate': EXPIRED.pem, 'key': EXPIRED.key}, [('dates', 'cert', False)]),
        ({'authority': OLD_CA.pem}, [('dates', 'ca', False), ('authority', 'cert', False)]),
        ({'authority': OLD_CA.pem + AUTHORITY.pem}, [('dates', 'ca', False)]),
        ({'authority': AUTHORITY.pem + OLD_CA.pem}, []),
        ({'authority': certificates.authority('Other CA').pem}, [('authority', 'cert', False)]),
        (
            {
                'authority': certificates.authority('Other CA').pem,
                'certificate': OWN.pem + AUTHORITY.pem,
            },
            [],
        ),
        ({'key': EXPIRED.key}, [('key', 'key', False)]),
    ],
)
def test_each_trouble(files, content, expected):
    found = kinds(files(**content))
    assert found == [(kind, path, Outcome.FAILURE, absent) for kind, path, absent in expected]
    assert {kind for kind, *_rest in found} <= set(tlsfiles.KINDS)


@pytest.mark.parametrize(
    'content, path, absent',
    [
        ({'authority': None}, 'ca', False),
        ({'certificate': None}, 'cert', True),
        ({'key': None}, 'key', True),
    ],
)
def test_what_is_elsewhere_proves_nothing(files, content, path, absent):
    assert kinds(files(**content), visible=False) == [('unreadable', path, Outcome.UNKNOWN, absent)]


def test_a_directory_in_the_place_of_a_file(files, tmp_path):
    made = files(certificate=None)
    (tmp_path / 'cert').mkdir()
    assert kinds(made) == [('unreadable', 'cert', Outcome.UNKNOWN, True)]


def test_each_name_by_which_it_is_contacted(files):
    found = list(tlsfiles.troubles(files(), ['node1', 'node2', '10.77.0.12']))
    assert [one.kind for one in found] == ['name', 'name']
    assert (
        'is for node1 and not for node2' in found[0].detail
        and 'not for 10.77.0.12' in found[1].detail
    )


def test_the_codes_of_a_check():
    assert set(tlsfiles.codes('tls')) == {
        f'tls-{kind}'
        for kind in ('authority', 'dates', 'key', 'malformed', 'missing', 'name', 'unreadable')
    }


@pytest.mark.parametrize(
    'name, number', [('+0', 0), ('+107', 107), ('+', None), ('+x', None), ('107', None)]
)
def test_numbers_of_users(name, number):
    assert tlsfiles._uid(name) == number


@pytest.mark.root
@pytest.mark.parametrize(
    'mode, owner, user, readable',
    [
        (0o600, 0, 'nobody', False),
        (0o640, 0, 'nobody', True),
        (0o604, 0, 'nobody', True),
        (0o600, 65534, 'nobody', True),
        (0o600, 1, 'root', True),
        (0o600, 1, '', True),
        (0o600, 1, 'no-such-user', True),
    ],
)
def test_who_may_read_the_key(files, tmp_path, mode, owner, user, readable):
    made = files()
    os.chmod(tmp_path / 'key', mode)
    os.chown(tmp_path / 'key', owner if owner != 65534 else pwd.getpwnam('nobody').pw_uid, -1)
    assert kinds(dataclasses.replace(made, user=user)) == (
        [] if readable else [('key', 'key', Outcome.FAILURE, False)]
    )
