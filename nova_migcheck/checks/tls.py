# SPDX-License-Identifier: Apache-2.0
"""This host's certificates as a target, where migrations are configured to use TLS.

As a source it presents others: those are looked at by the ``transport`` check, so that a host with a bad client certificate is not
refused as a target.
"""

from __future__ import annotations

from typing import ClassVar, Iterator, Mapping, Sequence

from nova_migcheck.checks.base import Check, Result, Settings
from nova_migcheck.libvirtd import conf as libvirtconf
from nova_migcheck.libvirtd import tlsfiles
from nova_migcheck.libvirtd import uri as migrationuri


class TlsCheck(Check):
    """The server certificates of libvirtd (scheme ``tls``) and of QEMU (``live_migration_with_native_tls``)."""

    NAME = 'tls'
    WHEN = 'host'
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {'libvirt': ('live_migration_inbound_addr', *migrationuri.OPTIONS)}

    def run(self, settings: Settings) -> Iterator[Result]:
        inbound = str(settings.get('libvirt', 'live_migration_inbound_addr', ''))
        visible = libvirtconf.are_libvirtd_s()
        wanted = []
        try:
            to = migrationuri.destination(settings, inbound or settings.host, bool(inbound), '')
        except ValueError:
            return  # the transport check says so
        if to.transport == 'tls':
            files = tlsfiles.of_libvirt_server(libvirtconf.read_if_any(libvirtconf.LIBVIRTD_CONF))
            wanted.append((files, [to.connect], migrationuri.tls_origin(settings)))
        if settings.get('libvirt', migrationuri.NATIVE_TLS):
            files = tlsfiles.of_qemu('server', libvirtconf.read_if_any(libvirtconf.QEMU_CONF))
            wanted.append((files, [to.data] if to.data else [], settings.origin('libvirt', migrationuri.NATIVE_TLS)))
        for files, names, origin in wanted:
            wrong = False
            for trouble in tlsfiles.troubles(files, names, visible):
                wrong = True
                yield self.found(trouble.outcome, trouble.path, trouble.detail, origin, trouble.remedy)
            if not wrong:
                yield self.ok(files.certificate, f'{files.whose} certificate is good', origin)
