# SPDX-License-Identifier: Apache-2.0
"""This host's certificates as a target, where migrations are configured to use TLS.

As a source it presents others: those are looked at by the ``transport`` check, so that a host with a bad client certificate is not
refused as a target.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Iterator, Mapping, Sequence

from nova_migcheck.checks.base import Check, Result, Settings
from nova_migcheck.finding import Finding
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import daemon as daemons
from nova_migcheck.libvirtd import tlsfiles
from nova_migcheck.libvirtd import uri as migrationuri


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """Files that are looked at.

    :param names: by which other hosts know this one
    :param doubt: why these may not be the files that are used; '' when they are
    :param remedy: what ends the doubt
    """

    files: tlsfiles.TlsFiles
    names: Sequence[str]
    origin: str
    doubt: str = ''
    remedy: str = ''


class TlsCheck(Check):
    """The server certificates of libvirt (scheme ``tls``) and of QEMU (native TLS)."""

    NAME = 'tls'
    WHEN = 'host'
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {'libvirt': ('live_migration_inbound_addr', *migrationuri.OPTIONS)}

    def run(self, settings: Settings) -> Iterator[Result]:
        inbound = str(settings.get('libvirt', 'live_migration_inbound_addr', ''))
        wanted: list[_Wanted] = []
        try:
            to = migrationuri.destination(settings, inbound or settings.host, bool(inbound), '')
        except ValueError:
            return  # the transport check says so
        if to.transport == 'tls':
            wanted += _of_libvirt(to, migrationuri.tls_origin(settings))
        if settings.get('libvirt', migrationuri.NATIVE_TLS):
            files = tlsfiles.of_qemu('server', libvirtconf.read_if_any(libvirtconf.QEMU_CONF))
            wanted.append(_Wanted(files, [to.data] if to.data else [],
                                  settings.origin('libvirt', migrationuri.NATIVE_TLS)))
        for one in wanted:
            yield from self._look(one)

    def _look(self, one: _Wanted) -> Iterator[Finding]:
        wrong = False
        for trouble in tlsfiles.troubles(one.files, one.names, libvirtconf.are_libvirtd_s()):
            wrong = True
            if one.doubt:
                yield self.unknown(trouble.path, f'{trouble.detail}; {one.doubt}', one.origin,
                                   f'{one.remedy}, or {trouble.remedy}')
            else:
                yield self.found(trouble.outcome, trouble.path, trouble.detail, one.origin,
                                 trouble.remedy)
        if not wrong:
            yield self.ok(one.files.certificate, f'{one.files.whose} certificate is good',
                          one.origin)


def _of_libvirt(to: migrationuri.Destination, origin: str) -> list[_Wanted]:
    """Return the files of the daemon that serves the port.

    Where it cannot be told which one does, and they name different files, return those of each.
    """
    serving = daemons.of_port(to.port)
    whose = serving[0].name if len(serving) == 1 else 'libvirt'
    found = [_of_daemon(daemon, whose, to, origin) for daemon in serving]
    if len({(one.files, one.doubt) for one in found}) == 1:
        return found[:1]
    names = ' or '.join(daemon.name for daemon in serving)
    doubt = f'it cannot be told whether {names} serves port {to.port}'
    remedy = 'remove the settings of the one that does not'
    return [dataclasses.replace(one, doubt=doubt, remedy=remedy)
            for one in {one.files: one for one in found}.values()]


def _of_daemon(daemon: daemons.Daemon, whose: str, to: migrationuri.Destination,
               origin: str) -> _Wanted:
    doubt = remedy = ''
    try:
        conf = libvirtconf.read(daemon.conf)
    except FileNotFoundError:
        conf = {}
    except OSError as e:
        conf, doubt = {}, f'{daemon.conf}, which may name other files, cannot be read: {e.strerror}'
        remedy = f'let nova-compute read {daemon.conf}'
    if conf.keys() & {'ca_file', 'cert_file', 'key_file'}:
        origin = f'{origin}, {daemon.conf}'
    return _Wanted(tlsfiles.of_libvirt_server(conf, whose), [to.connect], origin, doubt, remedy)
