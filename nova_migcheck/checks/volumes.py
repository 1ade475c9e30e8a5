# SPDX-License-Identifier: Apache-2.0
"""What a target must have, and must not have, for the disks of a server.

It must have the libvirt secrets that its disks name. It must not have a directory or a domain of
the server that an earlier attempt has left. Nova and libvirt notice each after
``pre_live_migration`` has begun.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar, Iterable, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Arrival, Check, Fact, Offer, Result, Settings
from nova_migcheck.finding import Finding
from nova_migcheck.libvirtd import connection
from nova_migcheck.volumes import leftovers, secrets

_REMEDIES = {
    'directory': ('volumes-directory-left', 'see that the server does not run here (virsh list '
                  '--all), then move the directory away'),
    'running': ('volumes-domain-running', 'find out which of the two is the server before you '
                'end one: openstack server show, virsh list'),
    'other': ('volumes-domain-other', 'virsh undefine it, if no server of Nova has it'),
}


class VolumesCheck(Check):
    """Report the secrets that libvirt has here for volumes, and look for leftovers."""

    NAME = 'volumes'
    TRANSIENT = ('volumes',)
    # Nova writes the secret of a volume as Cinder names it now, which may be another.
    SOURCE_MAY_LACK = True
    CODES: ClassVar[Mapping[str, str]] = {
        'volumes-secret-missing': "The target does not have a libvirt secret of the guest's disk.",
        'volumes-secret-empty': "A libvirt secret of the guest's disk has no value on the target.",
        'volumes-directory-left': 'A local directory of the server is on the target already.',
        'volumes-domain-running': 'A domain of the server is active on the target already.',
        'volumes-domain-other': 'Another domain on the target has the UUID or the name.'}
    OFFERS = (Offer('secrets', keep=3),)
    OPTIONS = {'libvirt': ('virt_type', 'connection_uri')}

    def run(self, settings: Settings) -> Iterator[Result]:
        """Ask libvirt for its secrets."""
        if connection.uri(settings) is not None:
            yield from connection.ask(self, settings, self._answers)

    def _answers(self, conn: Any) -> Iterator[Result]:
        found = secrets.offered(conn)
        if found is None:
            return
        yield Fact('secrets', found)
        yield self.ok('libvirt secrets',
                      f'{len(found["set"])} with a value, {len(found["empty"])} without')

    @staticmethod
    def needs(domain: ElementTree.Element) -> Optional[dict[str, str]]:
        """Return the secrets that the disks of a guest name."""
        return secrets.needs(domain) or None

    @staticmethod
    def compare(needs: Any, target: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
        """Yield the secrets that the target lacks."""
        for one in secrets.missing(needs, target.get('secrets')):
            what = 'has no value' if one.empty else 'is not defined'
            yield VolumesCheck().failure(
                one.name, f'the libvirt secret ({one.name}) of disk {one.disk} {what} on the '
                'target', 'libvirt secrets of the target',
                'virsh secret-define it there, and give it its value: virsh secret-set-value',
                code='volumes-secret-empty' if one.empty else 'volumes-secret-missing')

    @staticmethod
    def arrives(server: Arrival, connection: Any) -> Iterable[Finding]:
        """Yield what an earlier attempt has left of a server."""
        for one in (*leftovers.directory(server.directory),
                    *leftovers.domains(connection, server.uuid, server.name)):
            code, remedy = _REMEDIES[one.kind]
            origin = 'instances_path' if one.kind == 'directory' else "this host's libvirt"
            yield VolumesCheck().failure(one.subject, one.detail, origin, remedy, code=code)
