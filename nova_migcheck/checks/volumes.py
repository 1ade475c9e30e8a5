# SPDX-License-Identifier: Apache-2.0
"""What a target must have, and must not have, for the disks of a server.

It must have the libvirt secrets that its disks name, and let QEMU's user into the directory of the
disks. It must not have a directory or a domain of the server that an earlier attempt has left. Nova
and libvirt notice each after ``pre_live_migration`` has begun.
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar, Iterable, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Arrival, Check, Fact, Keep, Offer, Result, Settings
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import configfiles, connection
from nova_migcheck.storage import looking, mounts, place
from nova_migcheck.storage.comparison import SCOPE
from nova_migcheck.volumes import connector, leftovers, opening, qemu, secrets

# Share of the timeout for the file system. That it is silent is for the check of storage to say.
_SHARE = 0.8
_QEMU_USER = "libvirt's capabilities"
_REMEDIES = {
    'directory': ('volumes-directory-left', 'see that the server does not run here (virsh list '
                  '--all), then move the directory away'),
    'running': ('volumes-domain-running', 'find out which of the two is the server before you '
                'end one: openstack server show, virsh list'),
    'other': ('volumes-domain-other', 'virsh undefine it, if no server of Nova has it'),
}


def _between(source: Mapping[str, Any], target: Mapping[str, Any]) -> Iterable[Finding]:
    """Yield that QEMU is another user on the target, where that may matter."""
    for subject, detail in qemu.between(source, target):
        yield VolumesCheck().warning(
            subject, detail, f'{_QEMU_USER} of both', 'give QEMU the same numbers on all hosts '
            'that share disks: user and group in qemu.conf', SCOPE, 'volumes-qemu-numbers')


class VolumesCheck(Check):
    """Report secrets for volumes and QEMU's user, and look for leftovers."""

    NAME = 'volumes'
    TRANSIENT = ('volumes',)
    # Nova writes the secret of a volume as Cinder names it now, which may be another.
    SOURCE_MAY_LACK = True
    CODES: ClassVar[Mapping[str, str]] = {
        'volumes-secret-missing': "The target does not have a libvirt secret of the guest's disk.",
        'volumes-secret-empty': "A libvirt secret of the guest's disk has no value on the target.",
        'volumes-directory-left': 'A local directory of the server is on the target already.',
        'volumes-domain-running': 'A domain of the server is active on the target already.',
        'volumes-domain-other': 'Another domain on the target has the UUID or the name.',
        'volumes-qemu-directory': "QEMU's user may not enter the instances directory.",
        'volumes-qemu-numbers': "QEMU's user has other numbers on the source and on the target.",
        'volumes-selinux': 'SELinux keeps QEMU from the share with the disks.'}
    OFFERS = (Offer('secrets', keep=3), Offer('qemu', keep=3, between=_between),
              Offer('connector', keep=1))
    OPTIONS = {'DEFAULT': place.OPTIONS['DEFAULT'],
               'libvirt': (*place.OPTIONS['libvirt'], 'virt_type', 'connection_uri',
                           'volume_use_multipath')}

    def run(self, settings: Settings) -> Iterator[Result]:
        """Ask libvirt for its secrets and for QEMU's user, and what that user may open.

        What os-brick lacks is published for ``explain``; a server that needs it is looked at when
        its migration is decided.
        """
        if connection.uri(settings) is None:
            return
        yield Fact('connector', connector.lacking(settings))
        who = None
        for result in connection.ask(self, settings, self._answers):
            if isinstance(result, qemu.Who):
                who = result
            else:
                yield result
        if who is not None and place.images(settings) == 'path':
            yield from self._directory(settings, who)

    def _directory(self, settings: Settings, who: qemu.Who) -> Iterator[Result]:
        """Look at the instances directory with the rights of QEMU's user."""
        path, stuck = place.instances(settings), looking.stuck(settings.memory)
        mount = mounts.covering(path, mounts.read())
        shared = mount is not None and mount.type not in mounts.LOCAL
        found = None if stuck else looking.Look(functools.partial(
            opening.directory, who.user, path, shared)).wait(settings.timeout * _SHARE)
        yield Keep(stuck or (found or {}).get('stuck'))
        if found is None or 'denied' not in found:
            return
        # Of root it is not known what QEMU keeps of its rights.
        why = qemu.cannot_give(found['squashed']) if shared and who.user.number else ''
        yield Fact('qemu', {**who.user._asdict(), **({'cannot_give': why} if why else {})})
        boolean = qemu.selinux_forbids(mount) if mount is not None and who.selinux else ''
        if boolean:
            yield self.failure(
                path, f'SELinux keeps QEMU from {path} ({mount.type if mount else ""}): {boolean} '
                'is off', qemu.SELINUX, f'setsebool -P {boolean} 1', SCOPE, 'volumes-selinux')
        yield self._entered(settings, who.user, path, found['denied'])

    def _entered(self, settings: Settings, user: opening.User, path: str,
                 denied: Optional[Mapping[str, Any]]) -> Finding:
        if denied is None:
            return self.ok(f'QEMU as {user}', f'may enter {path}, as far as is known')
        # Where libvirtd is in another container, its user may have more groups.
        certain = denied['certain'] and configfiles.are_libvirtd_s()
        if certain:
            detail = f'QEMU runs as {user}, which may not enter {denied["path"]}: {denied["words"]}'
        else:
            detail = (f'QEMU runs as {user}, which may not enter {denied["path"]}: '
                      f'{denied["words"]}; an access list, a server or a group that is not seen '
                      'here may let it in')
        return self.found(
            Outcome.FAILURE if certain else Outcome.UNKNOWN, path, detail,
            f'{_QEMU_USER}; {settings.origin("DEFAULT", "instances_path")}',
            f'let that user enter it: chmod o+x {denied["path"]}, or set user and group in '
            'qemu.conf', SCOPE, 'volumes-qemu-directory')

    def _answers(self, conn: Any) -> Iterator[Any]:
        found = secrets.offered(conn)
        if found is not None:
            yield Fact('secrets', found)
            yield self.ok('libvirt secrets',
                          f'{len(found["set"])} with a value, {len(found["empty"])} without')
        # Last, since libvirt may have to probe QEMU for it.
        who = qemu.of_libvirt(cpuxml.parse(conn.getCapabilities()))
        if who is not None:
            yield who

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
