# SPDX-License-Identifier: Apache-2.0
"""The libvirt secrets that disks of a guest name, and those that a host has.

A secret is named by its UUID or by the text of its ``<usage>``. Its value is never kept.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator, Mapping, NamedTuple, Optional

# virSecretUsageType: none and ceph. Nova makes the others itself, on each target.
_USAGES = {0: 'none', 2: 'ceph'}
# A host with more has no fact: what is cut would be missed, and refuse a target that is well.
MAX_SECRETS = 40
# A text from another host is shown on a terminal.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9 ._:@/-]{0,199}')

# virErrorNumber
_NO_SUPPORT, _NO_SECRET, _UNKNOWN_PROCEDURE = 3, 66, 39


class Missing(NamedTuple):
    """A secret that a target cannot give.

    :ivar disk: the first that names it, e.g. ``vda``
    :ivar name: ``UUID 5c1f…`` or ``usage client.cinder secret``
    :ivar empty: whether it is defined there, and has no value
    """

    disk: str
    name: str
    empty: bool


def needs(domain: ElementTree.Element) -> dict[str, str]:
    """Return the secrets that the disks of a guest log in with: name -> first disk.

    A secret of ``<encryption>`` is none of them: Nova makes it on the target.

    :param domain: the guest's live XML
    """
    found: dict[str, str] = {}
    for disk in domain.iterfind('devices/disk'):
        target = disk.find('target')
        device = (target.get('dev') if target is not None else None) or 'disk'
        for auth in (*disk.findall('auth'), *disk.findall('source/auth')):
            secret = auth.find('secret')
            if secret is None or secret.get('type') == 'iscsi':
                continue  # Nova makes that of CHAP on the target
            name = _name(secret.get('uuid'), secret.get('usage'))
            if name and _NAME.fullmatch(device):
                found.setdefault(name, device)
    return found


def _name(uuid: Optional[str], usage: Optional[str]) -> Optional[str]:
    if uuid and _NAME.fullmatch(uuid):
        return f'UUID {uuid.lower()}'
    return f'usage {usage}' if usage and _NAME.fullmatch(usage) else None


def offered(conn: Any) -> Optional[dict[str, Any]]:
    """Return the names of a host's secrets, in two lists: ``set`` and ``empty``.

    A private secret never tells whether it has a value; it counts as one that has.

    :param conn: a connection to libvirt that may write, since others may not ask
    :returns: None where libvirt keeps no secrets, or too many
    """
    import libvirt
    try:
        secrets = conn.listAllSecrets(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (_NO_SUPPORT, _UNKNOWN_PROCEDURE):
            return None
        raise
    found: dict[str, list[str]] = {'set': [], 'empty': []}
    count = 0
    for secret in secrets:
        if secret.usageType() not in _USAGES:
            continue
        count += 1
        usage = secret.usageID() if secret.usageType() else None
        names = (_name(secret.UUIDString(), None), _name(None, usage))
        found['set' if _has_value(secret) else 'empty'] += [name for name in names if name]
    if count > MAX_SECRETS:
        return None
    return {key: sorted(set(names)) for key, names in found.items()}


def _has_value(secret: Any) -> bool:
    import libvirt
    try:
        secret.value(0)
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() != _NO_SECRET)
    return True


def missing(wanted: Mapping[str, str], there: Optional[Mapping[str, Any]]) -> Iterator[Missing]:
    """Yield which secrets of a guest a target lacks. What it does not tell, fits.

    :param wanted: of :func:`needs`
    :param there: of :func:`offered`
    """
    if not there:
        return
    for name, disk in sorted(wanted.items()):
        if name in there.get('empty', ()):
            yield Missing(disk, name, True)
        elif name not in there.get('set', ()):
            yield Missing(disk, name, False)
