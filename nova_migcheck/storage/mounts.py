# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of mounts: which file system a path is on, and what of that two hosts can compare.

Reading ``/proc/self/mountinfo`` touches no mount, so it answers when the server of one is gone.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import posixpath
import re
from typing import Iterable, Optional

TABLE = '/proc/self/mountinfo'

# Type -> what it is, for the file systems that several hosts can mount at once: those of libvirt's virFileIsSharedFSType
# (src/util/virfile.c), on which it lets a live migration keep the disks where they are, and Lustre.
SHARED = {
    'nfs': 'nfs', 'nfs4': 'nfs', 'cifs': 'smb', 'smb3': 'smb', 'smbfs': 'smb', 'ceph': 'ceph', 'fuse.ceph': 'ceph',
    'fuse.ceph-fuse': 'ceph', 'glusterfs': 'glusterfs', 'fuse.glusterfs': 'glusterfs', 'ocfs2': 'ocfs2', 'gfs2': 'gfs2', 'gpfs': 'gpfs',
    'afs': 'afs', 'lustre': 'lustre', 'beegfs': 'beegfs', 'fuse.quobyte': 'quobyte', 'acfs': 'acfs',
}
# Those of them whose source is a block device: it says nothing to another host.
_ON_DEVICES = ('ocfs2', 'gfs2', 'gpfs', 'acfs')
# Those that number a file alike on all clients: the number is the server's own. (SMB's may be made up by each client.)
_NUMBERED = ('nfs', 'ceph', 'glusterfs', 'ocfs2', 'gfs2', 'gpfs', 'lustre')

_ESCAPED = re.compile(r'\\([0-7]{3})')


@dataclasses.dataclass(frozen=True)
class Mount:
    """One line of the table.

    :param root: what of the file system is mounted; not ``/`` for a bind mount
    :param options: of the mount and of the file system together
    """

    number: int
    parent: int
    root: str
    point: str
    type: str
    source: str
    options: frozenset[str] = frozenset()

    @property
    def read_only(self) -> bool:
        return 'ro' in self.options

    @property
    def family(self) -> str:
        """The kind of shared file system, '' for a local one."""
        return SHARED.get(self.type, '')

    @property
    def numbered(self) -> bool:
        """Whether two hosts see the same inode number of the same file."""
        return self.family in _NUMBERED

    def export(self, path: str) -> tuple[list[str], str]:
        """(servers, path on them) of what lies at ``path`` below this mount; nothing and '' where another host can not compare it.

        The servers are names and addresses by which this one host knows them.
        """
        if not self.family or self.family in _ON_DEVICES:
            return [], ''
        inside = posixpath.join(self.root.strip('/'), posixpath.relpath(path, self.point))
        servers, base = _split(self.source, self.family)
        if not base:
            return [], ''
        addresses = {option.partition('=')[2] for option in self.options if option.startswith('addr=')}
        return sorted({*map(_host, servers), *map(_host, addresses)} - {''}), posixpath.normpath('/' + f'{base}/{inside}'.lstrip('/'))


def read(table: str = TABLE) -> list[Mount]:
    """The mounts that this process sees.

    :raises OSError: when there is no such table
    """
    with open(table, encoding='utf-8', errors='surrogateescape') as file:
        return list(parse(file))


def table() -> bytes:
    """Return the kernel's table as it is now; two that are equal hold the same mounts."""
    try:
        with open(TABLE, 'rb') as file:
            return file.read()
    except OSError:  # no /proc: then nothing is known to have changed
        return b''


def parse(lines: Iterable[str]) -> Iterable[Mount]:
    """Mounts from lines of ``proc(5)``'s ``mountinfo``; a line that is none is left out."""
    for line in lines:
        before, dash, after = line.partition(' - ')
        own, of_system = before.split(), after.split()
        if not dash or len(own) < 6 or len(of_system) < 2 or not (own[0].isdecimal() and own[1].isdecimal()):
            continue
        options = {*own[5].split(','), *(of_system[2].split(',') if len(of_system) > 2 else ())}
        yield Mount(int(own[0]), int(own[1]), _plain(own[3]), _plain(own[4]), of_system[0], _plain(of_system[1]), frozenset(options))


def covering(path: str, mounts: Iterable[Mount]) -> Optional[Mount]:
    """The mount on which ``path`` (absolute, without symbolic links) lies.

    Walks from mount to mount as the kernel does: a later mount over a parent directory hides what was mounted below it.
    """
    above = [m for m in mounts if _is_below(path, m.point)]
    numbers = {m.number for m in above}
    here = min((m for m in above if m.parent not in numbers or m.parent == m.number), key=lambda m: len(m.point), default=None)
    seen = set()
    while here is not None and here.number not in seen:
        seen.add(here.number)
        deeper = [m for m in above if m.parent == here.number and m.number != here.number]
        if not deeper:
            return here
        here = min(deeper, key=lambda m: len(m.point))
    return here


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip('/') + '/')


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def _split(source: str, family: str) -> tuple[list[str], str]:
    """``server:/path`` and its relatives, as (servers, path)."""
    if family == 'smb':
        server, _, path = source.replace('\\', '/').lstrip('/').partition('/')
        return [server], '/' + path if server else ''
    if family == 'ceph' and '=/' in source:  # user@fsid.name=/path, since Linux 5.17
        name, _, path = source.partition('=')
        return [name.rpartition('@')[2]], path
    if family == 'lustre':  # mgs@tcp:/name
        servers, _, path = source.rpartition(':/')
        return servers.split(':'), '/' + path if servers else ''
    servers, colon, path = source.rpartition(':/')
    if not colon:
        servers, colon, path = source.partition(':')  # glusterfs: server:volume
    return servers.split(',') if servers else [], '/' + path.lstrip('/') if colon else ''


def _host(name: str) -> str:
    """A server's name or address, spelt in one way; a port stays."""
    name = name.strip().rstrip('.').lower()
    try:
        return ipaddress.ip_address(name.strip('[]')).compressed
    except ValueError:
        return name
