# SPDX-License-Identifier: Apache-2.0
"""Whether the target reaches the volumes of one server, and can attach them.

It runs on the target, at the decision, and only for a server that has volumes.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar, Collection, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Check, Result, Settings
from nova_migcheck.finding import Finding
from nova_migcheck.volumes import connector
from nova_migcheck.volumes.attached import Attached, Portal

# Nova writes the UUID of a volume as the serial of its disk, and no other disk has one.
_UUID = re.compile(r'[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}')

_ORIGIN = "connection_info of Nova's block device mapping"


class AttachmentsCheck(Check):
    """Connect to the portals and monitors of a server's volumes, to all at once."""

    NAME = 'attachments'
    WHEN = 'server'
    READS_VOLUMES = True
    TRANSIENT = ('attachments',)
    CODES: ClassVar[Mapping[str, str]] = {
        'attachments-unreachable': 'None of the portals of a volume answers the target.',
        'attachments-some-unreachable': 'Some of the portals of a volume do not answer the target.',
        'attachments-unknown': 'Where a volume of the server is reached is not known.',
        'attachments-connector': 'The target lacks what os-brick needs for a volume.'}
    OPTIONS = {'libvirt': ('volume_use_multipath',)}

    @staticmethod
    def needs(domain: ElementTree.Element) -> Optional[int]:
        """Return 1 for a guest that has volumes."""
        serials = (disk.findtext('serial') or '' for disk in domain.iterfind('devices/disk'))
        return 1 if any(_UUID.fullmatch(serial.strip()) for serial in serials) else None

    def run(self, settings: Settings) -> Iterator[Result]:
        """Look at all volumes at the same time."""
        from nova_migcheck.volumes import reach
        volumes = [Attached.from_json(one) for one in settings.volumes]
        yield from self.lacks(connector.lacking(settings), volumes)
        tried = reach.tried(dict.fromkeys(portal for one in volumes for portal in one.portals),
                            settings.timeout)
        for one in volumes:
            yield self._volume(one, tried)

    @staticmethod
    def lacks(fact: Mapping[str, Any], volumes: Collection[Attached]) -> Iterator[Finding]:
        """Yield what a host lacks to attach some volumes.

        :param fact: the fact ``connector`` of the host, which may be another
        """
        for lack in connector.lacks(fact, volumes):
            yield AttachmentsCheck().failure(
                lack.subject, lack.detail, 'what os-brick needs on the target', lack.remedy,
                code='attachments-connector')

    def _volume(self, one: Attached, tried: Mapping[Portal, str]) -> Result:
        if one.unknown:
            return self.unknown(one.volume, f'volume {one.volume}: {one.unknown}', _ORIGIN,
                                'see that the target reaches it', code='attachments-unknown')
        dead = [f'{portal} ({tried[portal]})' for portal in one.portals if tried[portal]]
        remedy = "check the target's interface and routes to the storage network"
        if dead and len(dead) == len(one.portals):
            return self.failure(
                one.volume, f'volume {one.volume} ({one.driver}) cannot be reached: '
                f'{", ".join(dead)}', _ORIGIN, remedy, code='attachments-unreachable')
        if dead:
            return self.warning(
                one.volume, f'volume {one.volume} ({one.driver}): {len(dead)} of '
                f'{len(one.portals)} portals do not answer: {", ".join(dead)}', _ORIGIN, remedy,
                code='attachments-some-unreachable')
        return self.ok(one.volume, f'{one.driver}, {len(one.portals)} portals answer', _ORIGIN)
