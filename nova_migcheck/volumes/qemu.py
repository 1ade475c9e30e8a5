# SPDX-License-Identifier: Apache-2.0
"""As whom QEMU runs on a host, and what libvirt and SELinux let it have of a share."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator, Mapping, NamedTuple, Optional

from nova_migcheck.libvirtd import configfiles
from nova_migcheck.machine import offered
from nova_migcheck.storage.mounts import Mount
from nova_migcheck.volumes.opening import User

SELINUX = '/sys/fs/selinux'
# Family of a share -> the boolean that lets QEMU use it.
_BOOLEANS = {'nfs': 'virt_use_nfs', 'smb': 'virt_use_samba'}


class Who(NamedTuple):
    """What libvirt says of its QEMU.

    :ivar selinux: whether libvirt confines it with SELinux
    """

    user: User
    selinux: bool


def of_libvirt(capabilities: ElementTree.Element) -> Optional[Who]:
    """Return as whom libvirt starts QEMU, None if it does not say."""
    numbers = offered.qemu_user(capabilities)
    models = {one.findtext('model') for one in capabilities.iterfind('host/secmodel')}
    return Who(User(*numbers), 'selinux' in models) if numbers else None


def cannot_give(squashed: bool) -> str:
    """Return why libvirt here cannot give a disk to QEMU's user, '' if it can or who knows.

    :param squashed: whether root may not write to the disks
    """
    conf = configfiles.read_libvirtd_s(configfiles.QEMU_CONF)
    if conf is not None and conf.get('dynamic_ownership') == 0:
        return f'dynamic_ownership = 0 in {configfiles.QEMU_CONF}'
    return 'the share lets root write to none of them (root_squash)' if squashed else ''


def selinux_forbids(mount: Mount, files: str = SELINUX) -> str:
    """Return the boolean of SELinux that keeps QEMU from a share, '' if none does.

    :param files: where the kernel shows SELinux
    """
    name = _BOOLEANS.get(mount.family)
    # Files have other labels than that of the family where the mount names one (context=), or the
    # share itself keeps them (seclabel).
    if name is None or any('context=' in one or one == 'seclabel' for one in mount.options):
        return ''
    enforced, allowed = (_read(f'{files}/{one}') for one in ('enforce', f'booleans/{name}'))
    return name if enforced == '1' and allowed[:1] == '0' else ''


def _read(path: str) -> str:
    try:
        with open(path, encoding='ascii') as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ''


def between(source: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield why guests of the source may not open their disks on the target: subject and words.

    :param source: the fact ``qemu`` of a host, which may be anything
    """
    ours, theirs = User.of(source), User.of(target)
    why = target.get('cannot_give')
    if ours and theirs and ours != theirs and theirs.number and isinstance(why, str) and why:
        yield (str(theirs), f'QEMU runs as {theirs} on the target and as {ours} on the source, and '
               f'libvirt there cannot give it the disks: {why}')
