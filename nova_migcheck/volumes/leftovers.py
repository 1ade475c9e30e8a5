# SPDX-License-Identifier: Apache-2.0
"""What is left on a host of a server that is about to come: its directory, its domain.

Nova refuses the one, libvirt the other, both after ``pre_live_migration`` has begun.
"""

from __future__ import annotations

import os
import posixpath
from typing import Any, Iterator, NamedTuple, Optional

from nova_migcheck.storage import mounts


class Leftover(NamedTuple):
    """Something that is in the way.

    :ivar kind: ``directory``, ``running`` (the same domain) or ``other`` (another domain)
    :ivar subject: the path, or the name of the domain
    """

    kind: str
    subject: str
    detail: str


def directory(path: str) -> Iterator[Leftover]:
    """Yield the directory of a server, if it is there and belongs to this host alone.

    On a share it is the server's own; so it is on a host that serves the share.

    :param path: ``instances_path`` and the UUID
    """
    above = posixpath.dirname(path)
    while above not in ('/', ''):
        if os.path.islink(above):
            return  # it may lead to a share, whose server may be gone: nothing is touched there
        above = posixpath.dirname(above)
    mount = mounts.covering(path, mounts.read())
    if mount is None or mount.type not in mounts.LOCAL or mounts.serves_nfs():
        return
    if os.path.lexists(path):
        yield Leftover('directory', path, f'{path} is there already, on a local file system '
                       f'({mount.type}): it is left of an earlier attempt or of this server')


def domains(conn: Any, uuid: str, name: str) -> Iterator[Leftover]:
    """Yield the domains that libvirt would refuse this one for.

    An inactive definition of the same UUID and name is none: libvirt overwrites it.

    :param conn: a connection to libvirt, or Nova's wrapper of it
    :param name: of the server in libvirt, ``instance-0000002a``; '' if it is not known
    """
    same = _found(conn.lookupByUUIDString, uuid)
    if same is not None and name and same.name() != name:
        yield Leftover('other', same.name(), f'domain {same.name()} has the UUID {uuid} of the '
                       f'server, whose name is {name}')
    elif same is not None and same.isActive():
        yield Leftover('running', same.name(), f'domain {same.name()} with the UUID {uuid} of the '
                       'server is active there already')
    other = _found(conn.lookupByName, name) if name else None
    if other is not None and other.UUIDString().lower() != uuid.lower():
        yield Leftover('other', name, f'domain {name} is there already, with the UUID '
                       f'{other.UUIDString()} of another server')


def _found(lookup: Any, word: str) -> Optional[Any]:
    """Return a domain, None if there is none, or if libvirt does not say.

    Where it does not answer, other checks report that.
    """
    try:
        return lookup(word)
    except Exception as error:
        # libvirt.libvirtError, of the module that Nova has loaded, which may be none.
        if hasattr(error, 'get_error_code'):
            return None
        raise
