# SPDX-License-Identifier: Apache-2.0
"""Check the certificates that this host presents as a target, if migrations use TLS.

As a source it presents others. The ``transport`` check covers those, so that a host with a bad
client certificate is not rejected as a target.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Iterator, Mapping, Sequence

from nova_migcheck import wording
from nova_migcheck.checks.base import Check, Result, Settings
from nova_migcheck.deadline import Call
from nova_migcheck.finding import Finding
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import daemon as daemons
from nova_migcheck.libvirtd import hostname as libvirthost
from nova_migcheck.libvirtd import tlsfiles
from nova_migcheck.libvirtd import uri as migrationuri


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """Hold files to check.

    :param names: the names by which other hosts contact this one
    :param doubt: why these may not be the files in use; '' if they are
    :param remedy: what to do about the doubt
    """

    files: tlsfiles.TlsFiles
    names: Sequence[str]
    origin: str
    doubt: str = ''
    remedy: str = ''


class TlsCheck(Check):
    """Check the server certificates of libvirt (scheme ``tls``) and of QEMU (native TLS)."""

    NAME = 'tls'
    TRANSIENT = ('tls',)
    WHEN = 'host'
    CODES: ClassVar[Mapping[str, str]] = tlsfiles.codes(NAME)
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {
        'libvirt': ('live_migration_inbound_addr', 'connection_uri', *migrationuri.OPTIONS)}

    def run(self, settings: Settings) -> Iterator[Result]:
        inbound = str(settings.get('libvirt', 'live_migration_inbound_addr', ''))
        candidates: list[_Candidate] = []
        try:
            to = migrationuri.destination(settings, inbound or settings.host, bool(inbound), '')
        except ValueError:
            return  # the transport check reports it
        if to.transport == 'tls':
            candidates += _of_libvirt(to, migrationuri.tls_origin(settings))
        if settings.get('libvirt', migrationuri.NATIVE_TLS):
            files = tlsfiles.of_qemu('server', libvirtconf.read_if_any(libvirtconf.QEMU_CONF))
            # QEMU on the source looks for the name to which it connects.
            name = to.data if to.data != '' else _libvirt_s_name(settings)
            candidates.append(_Candidate(files, [name] if name else [],
                                         settings.origin('libvirt', migrationuri.NATIVE_TLS)))
        for one in candidates:
            yield from self._check(one)

    def _check(self, one: _Candidate) -> Iterator[Finding]:
        good = True
        for trouble in tlsfiles.troubles(one.files, one.names, libvirtconf.are_libvirtd_s()):
            good = False
            if one.doubt:
                yield self.unknown(trouble.path, f'{trouble.detail}; {one.doubt}', one.origin,
                                   f'{one.remedy}, or {trouble.remedy}',
                                   code=f'{self.NAME}-{trouble.kind}')
            else:
                yield self.found(trouble.outcome, trouble.path, trouble.detail, one.origin,
                                 trouble.remedy, code=f'{self.NAME}-{trouble.kind}')
        if good:
            yield self.ok(one.files.certificate, f'{one.files.whose} certificate is good',
                          one.origin)


def _libvirt_s_name(settings: Settings) -> str:
    """Return libvirt's name of this host, '' if libvirt does not answer."""
    try:
        return Call(libvirthost.for_migrations, settings).wait(settings.timeout)
    except TimeoutError:
        return ''  # the address check reports it


def _of_libvirt(to: migrationuri.Destination, origin: str) -> list[_Candidate]:
    """Return the files of the daemon that serves the port.

    If that daemon is unknown, and the two use different files, return the files of each.
    """
    serving = daemons.of_port(to.port)
    whose = serving[0].name if len(serving) == 1 else 'libvirt'
    found = [_of_daemon(daemon, whose, to, origin) for daemon in serving]
    if len({(one.files, one.doubt) for one in found}) == 1:
        return found[:1]
    names = wording.either(daemon.name for daemon in serving)
    doubt = f'cannot determine whether {names} serves port {to.port}'
    remedy = 'remove the settings of the one that does not'
    return [dataclasses.replace(one, doubt=doubt, remedy=remedy)
            for one in {one.files: one for one in found}.values()]


def _of_daemon(daemon: daemons.Daemon, whose: str, to: migrationuri.Destination,
               origin: str) -> _Candidate:
    doubt = remedy = ''
    try:
        conf = libvirtconf.read(daemon.conf)
    except FileNotFoundError:
        conf = {}
    except OSError as e:
        conf, doubt = {}, f'{daemon.conf}, which may set other files, cannot be read: {e.strerror}'
        remedy = f'let nova-compute read {daemon.conf}'
    if conf.keys() & {'ca_file', 'cert_file', 'key_file'}:
        origin = f'{origin}, {daemon.conf}'
    return _Candidate(tlsfiles.of_libvirt_server(conf, whose), [to.connect], origin, doubt, remedy)
