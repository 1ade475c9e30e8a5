# SPDX-License-Identifier: Apache-2.0
"""The certificates that a migration over TLS needs, where libvirt's daemons and QEMU look for them.

Places and names: https://libvirt.org/kbase/tlscerts.html, and the comments in qemu.conf,
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
# The user that QEMU runs as when qemu.conf does not say: a choice of the distribution's build.
_QEMU_USERS = ('libvirt-qemu', 'qemu')


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """One end's files.

    :param user: who must be able to read the key, '' for root (libvirt's daemons)
    """

    whose: str
    authority: str
    certificate: str
    key: str
    user: str = ''


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What is wrong with one file, and how sure that is.

    :param absent: whether it is a certificate or a key that is missing or not seen from here
    """

    outcome: Outcome
    path: str
    detail: str
    remedy: str
    absent: bool = False


Conf = Mapping[str, Union[int, str]]


def of_libvirt_client(pkipath: str = '') -> TlsFiles:
    """What libvirt on a source presents to the daemon on the target."""
    if pkipath:
        return TlsFiles("libvirt's client", f'{pkipath}/cacert.pem', f'{pkipath}/clientcert.pem', f'{pkipath}/clientkey.pem')
    return TlsFiles("libvirt's client", f'{_PKI}/CA/cacert.pem', f'{_PKI}/libvirt/clientcert.pem',
                    f'{_PKI}/libvirt/private/clientkey.pem')


def of_libvirt_server(conf: Conf, daemon: str = 'libvirtd') -> TlsFiles:
    """What a target's daemon presents.

    :param conf: its own settings
    :param daemon: its name, for the findings
    """
    return TlsFiles(f"{daemon}'s", str(conf.get('ca_file') or f'{_PKI}/CA/cacert.pem'),
                    str(conf.get('cert_file') or f'{_PKI}/libvirt/servercert.pem'),
                    str(conf.get('key_file') or f'{_PKI}/libvirt/private/serverkey.pem'))


def of_qemu(end: str, qemu_conf: Conf) -> TlsFiles:
    """What QEMU presents in a migration with native TLS; ``end`` is ``server`` on the target, ``client`` on the source."""
    directory = qemu_conf.get('migrate_tls_x509_cert_dir')
    if not directory:
        own = f'{_PKI}/libvirt-migrate'
        directory = own if os.path.isdir(own) else qemu_conf.get('default_tls_x509_cert_dir') or f'{_PKI}/qemu'
    user = str(qemu_conf.get('user') or next((name for name in _QEMU_USERS if _uid(name) is not None), ''))
    return TlsFiles(f"QEMU's {end}", f'{directory}/ca-cert.pem', f'{directory}/{end}-cert.pem', f'{directory}/{end}-key.pem', user)


def troubles(files: TlsFiles, names: Sequence[str] = (), visible: bool = True) -> Iterator[Trouble]:
    """What is wrong with one end's files.

    :param names: by which the other end will know this one; all must be in the certificate
    :param visible: whether libvirt's file system can be seen from here; else a missing file proves nothing
    """
    try:
        authorities = certificates.read(files.authority)
        chain = certificates.read(files.certificate)
    except OSError as e:
        yield _unreadable(files, str(e.filename), e, visible)
        return
    except ValueError as e:
        yield Trouble(Outcome.FAILURE, files.certificate, f'{files.whose} certificate or authority cannot be parsed: {e}', 'renew it')
        return
    certificate = chain[0]
    for path, one in ((files.certificate, certificate), *((files.authority, authority) for authority in authorities[:1])):
        what = f'{files.whose} certificate' if one is certificate else f'the authority of {files.whose} certificate'
        wrong = certificates.outdated(one)
        if wrong:
            yield Trouble(Outcome.FAILURE, path, f'{what} {wrong}', 'renew the certificate')
    if not any(one.subject == certificate.issuer for one in (*authorities, *chain[1:])):
        yield Trouble(Outcome.FAILURE, files.certificate, f'{files.whose} certificate was issued by '
                      f'{certificate.issuer.rfc4514_string()}, which is not in {files.authority}', 'install the right authority')
    for name in names:
        if not certificates.matches(certificate, name):
            own = ', '.join(certificates.names(certificate))
            yield Trouble(Outcome.FAILURE, files.certificate, f'{files.whose} certificate is for {own} and '
                          f'not for {name}, by which this host is contacted', 'issue it for that name or address')
    yield from _key(files, certificate, visible)


def _key(files: TlsFiles, certificate: x509.Certificate, visible: bool) -> Iterator[Trouble]:
    from cryptography.hazmat.primitives import serialization
    try:
        status = os.stat(files.key)
        owner = _uid(files.user) if files.user else 0
        # An ACL that lets somebody else in shows in the group's bits.
        if files.user and owner not in (None, 0, status.st_uid) and not status.st_mode & 0o077:
            yield Trouble(Outcome.FAILURE, files.key, f'{files.whose} key can be read by its owner only, and QEMU runs as {files.user}',
                          f'let {files.user} read it')
        with open(files.key, 'rb') as file:
            key = serialization.load_pem_private_key(file.read(), None)
    except PermissionError:
        return  # it is right that nova-compute may not read libvirt's key
    except OSError as e:
        yield _unreadable(files, files.key, e, visible)
        return
    except (ValueError, TypeError) as e:
        yield Trouble(Outcome.FAILURE, files.key, f'{files.whose} key cannot be parsed: {e}', 'renew it')
        return
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        yield Trouble(Outcome.FAILURE, files.key, f'{files.whose} key does not belong to {files.certificate}', 'install the right one')


def _unreadable(files: TlsFiles, path: str, e: OSError, visible: bool) -> Trouble:
    absent = path != files.authority
    if isinstance(e, FileNotFoundError) and visible:
        return Trouble(Outcome.FAILURE, path, f'{files.whose} TLS file {path} is missing',
                       'install it, or switch TLS off', absent)
    return Trouble(Outcome.UNKNOWN, path, f'{files.whose} TLS file {path} cannot be read from here: {e.strerror}',
                   'let nova-compute see the certificates of libvirt (not the keys)', absent)


def _uid(name: str) -> Optional[int]:
    if name.startswith('+') and name[1:].isdigit():
        return int(name[1:])
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
