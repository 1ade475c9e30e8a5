# SPDX-License-Identifier: Apache-2.0
"""What os-brick needs on a host for the volumes of a server. It only looks at files."""

from __future__ import annotations

import os
from typing import Callable, Collection, Iterator, NamedTuple

from nova_migcheck.checksettings import Settings
from nova_migcheck.volumes.attached import Attached

INITIATOR = '/etc/iscsi/initiatorname.iscsi'
FC_HOSTS = '/sys/class/fc_host'
SOCKETS = '/proc/net/unix'
# What multipathd listens on; so does systemd for it.
_MULTIPATHD = ('@/org/kernel/linux/storage/multipathd', '/multipathd.socket')


class Lack(NamedTuple):
    """Something that is missing."""

    subject: str
    detail: str
    origin: str
    remedy: str


def lacks(settings: Settings, volumes: Collection[Attached]) -> Iterator[Lack]:
    """Yield what this host lacks for some of the volumes.

    :param settings: with ``[libvirt] volume_use_multipath``
    """
    iscsi = next((one for one in volumes if one.driver == 'iscsi'), None)
    fibre = next((one for one in volumes if one.driver == 'fibre_channel'), None)
    if iscsi is not None and _says(os.path.lexists, INITIATOR):
        yield Lack(INITIATOR, f'this host has no iSCSI initiator name, for volume '
                   f'{iscsi.volume}', INITIATOR, 'install open-iscsi (or mount /etc/iscsi into the '
                   'container of nova-compute)')
    if fibre is not None and _says(lambda path: bool(os.listdir(path)), FC_HOSTS):
        yield Lack(FC_HOSTS, f'this host has no Fibre Channel port, for volume '
                   f'{fibre.volume}', FC_HOSTS, 'choose a target with an HBA, or load its driver')
    volume = iscsi or fibre
    if volume is not None and settings.get('libvirt', 'volume_use_multipath', False) \
            and os.path.exists(SOCKETS) and _says(_has_multipathd, SOCKETS):
        yield Lack('multipathd', f'multipathd does not listen on this host, for volume '
                   f'{volume.volume}', settings.origin('libvirt', 'volume_use_multipath'),
                   'start multipathd')


def _says(has: Callable[[str], bool], path: str) -> bool:
    """Return whether a host certainly lacks something: not where one may not look."""
    try:
        return not has(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _has_multipathd(path: str) -> bool:
    with open(path, encoding='utf-8', errors='replace') as lines:
        return any(line.rstrip('\n').endswith(_MULTIPATHD) for line in lines)
