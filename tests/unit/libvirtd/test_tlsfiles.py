# SPDX-License-Identifier: Apache-2.0
"""Certificates and keys as files; what libvirt makes of them is in tests/lab/test_tls.py."""

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


@pytest.mark.parametrize('content, words', [
    (OWN.key, None), ('no key', 'cannot be parsed'),
    (certificates.issue('node1').key, 'does not belong to'), (None, 'is missing')],
    # The keys cannot be the names, since they differ in each of xdist's processes.
    ids=['its own', 'no key', 'of another', 'missing'])
def test_the_key(tmp_path, content, words):
    files = tlsfiles.TlsFiles('QEMU\'s', *(str(tmp_path / name) for name in ('ca', 'cert', 'key')))
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
