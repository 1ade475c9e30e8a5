# SPDX-License-Identifier: Apache-2.0
"""Where a host keeps the disks of its servers, by its options."""

from __future__ import annotations

import posixpath
from typing import Sequence

from nova_migcheck.checksettings import Settings

#: The options that are read here.
OPTIONS: dict[str, Sequence[str]] = {
    'DEFAULT': ('instances_path', 'state_path'), 'libvirt': ('images_type',)}

# [libvirt] images_type -> where the disks are. All others are files in the instances directory.
_ELSEWHERE = {'rbd': 'rbd', 'lvm': 'lvm'}


def instances(settings: Settings) -> str:
    """Return the instances directory."""
    state = settings.get('DEFAULT', 'state_path', '/var/lib/nova')
    return posixpath.normpath(settings.get('DEFAULT', 'instances_path')
                              or posixpath.join(state, 'instances'))


def images(settings: Settings) -> str:
    """Return where disks are: ``path`` for files in the instances directory, ``rbd`` or ``lvm``."""
    return _ELSEWHERE.get(settings.get('libvirt', 'images_type', 'default'), 'path')
