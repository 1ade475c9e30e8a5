# SPDX-License-Identifier: Apache-2.0
"""Check the certificates that libvirt's daemons and QEMU use for a migration over TLS.

For paths and names see https://libvirt.org/kbase/tlscerts.html, and the comments in qemu.conf,
libvirtd.conf and virtproxyd.conf.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
from typing import TYPE_CHECKING, Iterator, Mapping, Optional, Sequence, Union

from nova_migcheck import certificates
from nova_migcheck.finding import Outcome

if TYPE_CHECKING:
    from cryptography import x509

_PKI = '/etc/pki'
# QEMU's user if qemu.conf does not set one: each distribution builds in another default.
_QEMU_USERS = ('libvirt-qemu', 'qemu')

#: Kind of trouble -> what it means.
KINDS = {
    'authority': 'A certificate was not issued by the authority that is configured.',
    'dates': 'A certificate is not valid now.',
    'key': 'A private key cannot be read by QEMU, or belongs to another certificate.',
    'malformed': 'A certificate or a key cannot be parsed.',
    'missing': 'A file for TLS is missing.',
    'name': 'A certificate is for another name.',
    'unreadable': 'nova-compute cannot read a file for TLS.',
}


def codes(check: str, without: str = '') -> dict[str, str]:
    """Return the codes of a check that reports troubles.

    :param without: a kind that it never reports
    """
    return {f'{check}-{kind}': text for kind, text in KINDS.items() if kind != without}


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """Hold the paths of one end's files.

    :param whose: owner of the files, for findings: ``QEMU's server``
    :param user: the user who must be able to read the key; '' for root (libvirt's daemons)
    """

    whose: str
    authority: str
    certificate: str
    key: str
    user: str = ''


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Hold what is wrong with one file.

    :param kind: end of its code, one of :data:`KINDS`
    :param absent: whether a certificate or a key is missing, or not visible to this process
    """

    kind: str
    outcome: Outcome
    path: str
    detail: str
    remedy: str
    absent: bool = False


Conf = Mapping[str, Union[int, str]]


def of_libvirt_client(pkipath: str = '') -> TlsFiles:
    """Return the files that libvirt on a source presents to the daemon on the target."""
    whose = "libvirt's client"
    if pkipath:
        return TlsFiles(whose, f'{pkipath}/cacert.pem', f'{pkipath}/clientcert.pem',
                        f'{pkipath}/clientkey.pem')
    return TlsFiles(whose, f'{_PKI}/CA/cacert.pem', f'{_PKI}/libvirt/clientcert.pem',
                    f'{_PKI}/libvirt/private/clientkey.pem')


def of_libvirt_server(conf: Conf, daemon: str = 'libvirtd') -> TlsFiles:
    """Return the files that a target's daemon presents.

    :param conf: the daemon's own settings
    :param daemon: the daemon's name, for findings
    """
    return TlsFiles(f"{daemon}'s", str(conf.get('ca_file') or f'{_PKI}/CA/cacert.pem'),
                    str(conf.get('cert_file') or f'{_PKI}/libvirt/servercert.pem'),
                    str(conf.get('key_file') or f'{_PKI}/libvirt/private/serverkey.pem'))


def of_qemu(end: str, qemu_conf: Conf) -> TlsFiles:
    """Return the files that QEMU presents in a migration with native TLS.

    :param end: ``server`` on the target, ``client`` on the source
    """
    directory = qemu_conf.get('migrate_tls_x509_cert_dir')
    if not directory and os.path.isdir(f'{_PKI}/libvirt-migrate'):
        directory = f'{_PKI}/libvirt-migrate'
    directory = directory or qemu_conf.get('default_tls_x509_cert_dir') or f'{_PKI}/qemu'
    default_user = next((name for name in _QEMU_USERS if _uid(name) is not None), '')
    return TlsFiles(f"QEMU's {end}", f'{directory}/ca-cert.pem', f'{directory}/{end}-cert.pem',
                    f'{directory}/{end}-key.pem', str(qemu_conf.get('user') or default_user))


def troubles(files: TlsFiles, names: Sequence[str] = (), visible: bool = True) -> Iterator[Trouble]:
    """Yield what is wrong with one end's files.

    :param names: the names by which the other end contacts this one; the certificate must have all
    :param visible: whether this process sees libvirt's file system; if not, a missing file proves
        nothing
    """
    whose, path = files.whose, files.certificate
    try:
        authorities = certificates.read(files.authority)
        chain = certificates.read(path)
    except OSError as e:
        yield _unreadable(files, str(e.filename), e, visible)
        return
    except ValueError as e:
        yield Trouble('malformed', Outcome.FAILURE, path,
                      f'{whose} certificate or authority cannot be parsed: {e}', 'renew it')
        return
    certificate = chain[0]
    outdated = certificates.outdated(certificate)
    if outdated:
        yield Trouble('dates', Outcome.FAILURE, path, f'{whose} certificate {outdated}',
                      'renew the certificate')
    outdated = certificates.outdated(authorities[0])
    if outdated:
        yield Trouble('dates', Outcome.FAILURE, files.authority,
                      f'the authority of {whose} certificate {outdated}', 'renew the certificate')
    if not any(one.subject == certificate.issuer for one in (*authorities, *chain[1:])):
        yield Trouble('authority', Outcome.FAILURE, path,
                      f'{whose} certificate was issued by {certificate.issuer.rfc4514_string()}, '
                      f'which is not in {files.authority}', 'install the right authority')
    for name in names:
        if not certificates.matches(certificate, name):
            own = ', '.join(certificates.names(certificate))
            yield Trouble('name', Outcome.FAILURE, path,
                          f'{whose} certificate is for {own} and not for {name}, by which this '
                          'host is contacted', 'issue it for that name or address')
    yield from _key(files, certificate, visible)


def _key(files: TlsFiles, certificate: x509.Certificate, visible: bool) -> Iterator[Trouble]:
    from cryptography.hazmat.primitives import serialization
    try:
        status = os.stat(files.key)
        owner = _uid(files.user) if files.user else 0
        # An ACL that admits another user shows in the bits of the group.
        if files.user and owner not in (None, 0, status.st_uid) and not status.st_mode & 0o077:
            yield Trouble('key', Outcome.FAILURE, files.key,
                          f'{files.whose} key can be read by its owner only, but QEMU runs as '
                          f'{files.user}', f'let {files.user} read it')
        with open(files.key, 'rb') as file:
            key = serialization.load_pem_private_key(file.read(), None)
    except PermissionError:
        return  # nova-compute should not be able to read libvirt's key
    except OSError as e:
        yield _unreadable(files, files.key, e, visible)
        return
    except (ValueError, TypeError) as e:
        yield Trouble('malformed', Outcome.FAILURE, files.key,
                      f'{files.whose} key cannot be parsed: {e}', 'renew it')
        return
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        yield Trouble('key', Outcome.FAILURE, files.key,
                      f'{files.whose} key does not belong to {files.certificate}',
                      'install the right one')


def _unreadable(files: TlsFiles, path: str, e: OSError, visible: bool) -> Trouble:
    absent = path != files.authority
    if isinstance(e, FileNotFoundError) and visible:
        return Trouble('missing', Outcome.FAILURE, path,
                       f'{files.whose} TLS file {path} is missing',
                       'install it, or switch TLS off', absent)
    return Trouble('unreadable', Outcome.UNKNOWN, path,
                   f'{files.whose} TLS file {path} cannot be read by nova-compute: {e.strerror}',
                   'let nova-compute read the certificates of libvirt (not the keys)', absent)


def _uid(name: str) -> Optional[int]:
    if name.startswith('+') and name[1:].isdigit():
        return int(name[1:])
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
