# SPDX-License-Identifier: Apache-2.0
"""What os-brick needs on a host for the volumes of a server. It only looks at files."""

from __future__ import annotations

import os
import shutil
from typing import Any, Callable, Collection, Iterator, Mapping, NamedTuple

from nova_migcheck.checksettings import Settings
from nova_migcheck.volumes.attached import Attached

INITIATOR = '/etc/iscsi/initiatorname.iscsi'
FC_HOSTS = '/sys/class/fc_host'
SOCKETS = '/proc/net/unix'
# What multipathd listens on; so does systemd for it.
_MULTIPATHD = ('@/org/kernel/linux/storage/multipathd', '/multipathd.socket')
# os-brick runs programs as root, whose path has these.
_SBIN = ('/usr/local/sbin', '/usr/sbin', '/sbin')


class Lack(NamedTuple):
    """Something that is missing for a volume."""

    subject: str
    detail: str
    remedy: str


class _Part(NamedTuple):
    """Something that os-brick needs for volumes of some drivers."""

    drivers: tuple[str, ...]
    subject: str
    detail: str
    remedy: str


_PARTS = {
    'initiator': _Part(('iscsi',), INITIATOR, 'there is no iSCSI initiator name', 'install '
                       'open-iscsi (or mount /etc/iscsi into the container of nova-compute)'),
    'fc': _Part(('fibre_channel',), FC_HOSTS, 'there is no Fibre Channel port',
                'choose a target with an HBA, or load its driver'),
    # os-brick makes a host NQN where there is none, with this program.
    'nvme': _Part(('nvmeof',), 'nvme', 'there is no program nvme, which gives the host its NQN and '
                  'connects it', 'install nvme-cli'),
    'multipathd': _Part(('iscsi', 'fibre_channel'), 'multipathd', 'multipathd does not listen, '
                        'and volume_use_multipath is set', 'start multipathd'),
}


def lacking(settings: Settings) -> dict[str, list[str]]:
    """Return what this host certainly lacks, as a fact; most hosts need none of it.

    :param settings: with ``[libvirt] volume_use_multipath``
    """
    path = os.pathsep.join((os.environ.get('PATH', os.defpath), *_SBIN))
    found = {
        'initiator': _says(os.path.lexists, INITIATOR),
        'fc': _says(lambda path: bool(os.listdir(path)), FC_HOSTS),
        'nvme': shutil.which('nvme', path=path) is None,
        'multipathd': bool(settings.get('libvirt', 'volume_use_multipath', False)
                           and os.path.exists(SOCKETS) and _says(_has_multipathd, SOCKETS))}
    return {'lacks': [name for name, lacks in found.items() if lacks]}


def lacks(fact: Mapping[str, Any], volumes: Collection[Attached]) -> Iterator[Lack]:
    """Yield what a host lacks for some of the volumes.

    :param fact: of :func:`lacking`; it may come from another host
    """
    missing = fact.get('lacks')
    for name in missing if isinstance(missing, list) else ():
        part = _PARTS.get(str(name))
        one = next((one for one in volumes if part and one.driver in part.drivers), None)
        if part is not None and one is not None:
            yield Lack(part.subject, f'{part.detail}: volume {one.volume} ({one.driver}) needs it',
                       part.remedy)


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
