# SPDX-License-Identifier: Apache-2.0
"""Whether QEMU and Nova on the target can have the files of one server.

It runs on the target, at the decision, and only where that is in doubt: QEMU's user must open the
disks on a share as they are, or Nova must copy a config drive from the source.
"""

from __future__ import annotations

import functools
import posixpath
import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Arrival, Check, Result, Settings
from nova_migcheck.storage import looking, mounts
from nova_migcheck.volumes import copying, opening

# Share of the timeout for the file system.
_SHARE = 0.8


class FilesCheck(Check):
    """Open the disks of a server as QEMU's user, and log in where Nova copies from."""

    NAME = 'files'
    WHEN = 'server'
    TRANSIENT = ('files',)
    CODES: ClassVar[Mapping[str, str]] = {
        'files-denied': "QEMU's user on the target may not open a disk of the server.",
        'files-copy': 'Nova on the target cannot copy the config drive from the source.'}
    OPTIONS = {'libvirt': ('remote_filesystem_transport',)}

    @staticmethod
    def needs(domain: ElementTree.Element) -> Optional[list[str]]:
        """Return which files a guest has: ``disks``, and ``config`` for a config drive."""
        names = {posixpath.basename(source.get('file', ''))
                 for source in domain.iterfind("devices/disk[@type='file']/source")}
        kinds = {'config': 'disk.config' in names, 'disks': bool(names)}
        return [kind for kind, has in kinds.items() if has] or None

    @classmethod
    def concerns(cls, server: Arrival, needs: Optional[Mapping[str, Any]]) -> bool:
        """Return whether the target cannot give disks to QEMU's user, or Nova copies something."""
        kinds = (needs or {}).get(cls.NAME) or ()
        return ('disks' in kinds and _opened_as_they_are(server)) or (
            'config' in kinds and _copied(server))

    def run(self, settings: Settings) -> Iterator[Result]:
        """Log in first, and look at the disks then."""
        kinds = settings.arrival['needs']
        server = Arrival(**{key: value for key, value in settings.arrival.items()
                            if key != 'needs'})
        if 'config' in kinds and _copied(server):
            yield from self._copy(settings, server)
        if 'disks' in kinds and _opened_as_they_are(server):
            yield from self._disks(settings, server)

    def _copy(self, settings: Settings, server: Arrival) -> Iterator[Result]:
        transport = settings.get('libvirt', 'remote_filesystem_transport', 'ssh')
        why = copying.refused(server.host, transport, settings.timeout)
        if why:
            yield self.failure(
                server.host, f'Nova here copies the config drive from {server.host}, and user '
                f'{copying.user()} cannot log in there: {why}',
                settings.origin('libvirt', 'remote_filesystem_transport'),
                'give that user a key and the host key of the source, or keep config drives on '
                'shared storage', code='files-copy')

    def _disks(self, settings: Settings, server: Arrival) -> Iterator[Result]:
        fact = server.here['qemu']
        user = opening.User.of(fact)
        if user is None:
            return
        found = looking.Look(functools.partial(opening.disks, user, server.directory)).wait(
            settings.timeout * _SHARE)
        denied = (found or {}).get('denied')
        if not denied:
            return
        say = self.failure if denied['certain'] else self.unknown
        yield say(
            denied['path'], f'QEMU runs here as {user}, which may not open {denied["path"]}: '
            f'{denied["words"]}; libvirt cannot give it the disk: {fact["cannot_give"]}',
            "libvirt's capabilities", 'give QEMU the same user and group on all hosts that share '
            'disks (qemu.conf), or let the share keep root (no_root_squash)', code='files-denied')


def _opened_as_they_are(server: Arrival) -> bool:
    return bool(server.here.get('qemu', {}).get('cannot_give'))


def _copied(server: Arrival) -> bool:
    """Return whether Nova copies the config drive, since neither host has a share."""
    places = [facts.get('storage', {}) for facts in (server.source, server.here)]
    return server.copies and all(
        one.get('images') == 'path' and one.get('type') in mounts.LOCAL and 'serves' not in one
        for one in places)
