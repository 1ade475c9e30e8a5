# SPDX-License-Identifier: Apache-2.0
"""Read the kernel's table of mounts, and what two hosts can compare of a file system.

Reading ``/proc/self/mountinfo`` accesses no mount, so it works while a file server is down.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import posixpath
import re
from typing import Iterable, Optional

TABLE = '/proc/self/mountinfo'

# File system type -> family, of those that several hosts can mount at once. They are those of
# libvirt's virFileIsSharedFSType (src/util/virfile.c), where a live migration leaves the disks in
# place, and Lustre.
SHARED = {
    'nfs': 'nfs', 'nfs4': 'nfs', 'cifs': 'smb', 'smb3': 'smb', 'smbfs': 'smb', 'ceph': 'ceph',
    'fuse.ceph': 'ceph', 'fuse.ceph-fuse': 'ceph', 'glusterfs': 'glusterfs',
    'fuse.glusterfs': 'glusterfs', 'ocfs2': 'ocfs2', 'gfs2': 'gfs2', 'gpfs': 'gpfs', 'afs': 'afs',
    'lustre': 'lustre', 'beegfs': 'beegfs', 'fuse.quobyte': 'quobyte', 'acfs': 'acfs',
}
# Types that one host has for itself. Any other, whether known here or not, may be a share.
LOCAL = ('ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'zfs', 'f2fs', 'overlay', 'tmpfs')
# Those whose source is a block device, whose name means nothing on another host.
_ON_DEVICES = ('ocfs2', 'gfs2', 'gpfs', 'acfs')
# Those whose clients all see the server's own inode numbers. An SMB client may make up its own.
_NUMBERED = ('nfs', 'ceph', 'glusterfs', 'ocfs2', 'gfs2', 'gpfs', 'lustre')

_ESCAPED = re.compile(r'\\([0-7]{3})')


@dataclasses.dataclass(frozen=True)
class Mount:
    """Hold one line of the table.

    :param root: the directory of the file system that is mounted; not ``/`` for a bind mount
    :param options: those of the mount and those of the file system
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
        """Return the kind of shared file system, or '' for a local one."""
        return SHARED.get(self.type, '')

    @property
    def numbered(self) -> bool:
        """Return whether two hosts see the same inode number for the same file."""
        return self.family in _NUMBERED

    def export(self, path: str) -> tuple[list[str], str]:
        """Return the servers of ``path``, which is below this mount, and its path on them.

        The servers are the names and addresses that this host uses. Return ``([], '')`` if
        another host cannot compare them.
        """
        if not self.family or self.family in _ON_DEVICES:
            return [], ''
        inside = posixpath.join(self.root.strip('/'), posixpath.relpath(path, self.point))
        servers, base = _split(self.source, self.family)
        if not base:
            return [], ''
        servers += [option[5:] for option in self.options if option.startswith('addr=')]
        path_there = posixpath.normpath('/' + f'{base}/{inside}'.lstrip('/'))
        return sorted(set(map(_host, servers)) - {''}), path_there


def read(table: str = TABLE) -> list[Mount]:
    """Return the mounts that this process sees.

    :raises OSError: if the table cannot be read
    """
    with open(table, encoding='utf-8', errors='surrogateescape') as file:
        return list(parse(file))


# Port 2049, and TCP_LISTEN, as the kernel's tables have them.
_NFS_PORT, _LISTENS = ':0801', '0A'


def table() -> bytes:
    """Return the kernel's table as it is now, to compare it with a later one."""
    try:
        with open(TABLE, 'rb') as file:
            return file.read()
    except OSError:  # without /proc, no change can be seen
        return b''


def parse(lines: Iterable[str]) -> Iterable[Mount]:
    """Yield the mounts in the lines of a ``mountinfo`` file, see ``proc(5)``.

    Malformed lines are skipped.
    """
    for line in lines:
        before, dash, after = line.partition(' - ')
        mount, system = before.split(), after.split()
        if not dash or len(mount) < 6 or len(system) < 2:
            continue
        if not (mount[0].isdecimal() and mount[1].isdecimal()):
            continue
        options = ','.join((mount[5], *system[2:3])).split(',')
        yield Mount(int(mount[0]), int(mount[1]), _unescaped(mount[3]), _unescaped(mount[4]),
                    system[0], _unescaped(system[1]), frozenset(options))


def covering(path: str, mounts: Iterable[Mount]) -> Optional[Mount]:
    """Return the mount that ``path`` is on, which is absolute and without symbolic links.

    This goes from mount to mount as the kernel does: a later mount over a parent directory hides
    what was mounted below it.
    """
    above = [m for m in mounts if _is_below(path, m.point)]
    numbers = {m.number for m in above}
    roots = (m for m in above if m.parent not in numbers or m.parent == m.number)
    here = min(roots, key=lambda m: len(m.point), default=None)
    seen = set()
    while here is not None and here.number not in seen:
        seen.add(here.number)
        deeper = [m for m in above if m.parent == here.number and m.number != here.number]
        if not deeper:
            return here
        here = min(deeper, key=lambda m: len(m.point))
    return here


def serves_nfs(tables: Iterable[str] = ('/proc/net/tcp', '/proc/net/tcp6')) -> bool:
    """Return whether something on this host listens on the port of an NFS server.

    :param tables: the kernel's tables of TCP sockets, see ``proc_net(5)``
    """
    for name in tables:
        try:
            with open(name, encoding='ascii') as lines:
                rows = [line.split() for line in lines]
        except (OSError, ValueError):
            continue
        if any(len(row) > 3 and row[1].endswith(_NFS_PORT) and row[3] == _LISTENS for row in rows):
            return True
    return False


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip('/') + '/')


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def _split(source: str, family: str) -> tuple[list[str], str]:
    """Return the servers and the path in ``server:/path`` and its variants."""
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
    """Return a server's name or address in its canonical form. A port is kept."""
    name = name.strip().rstrip('.').lower()
    try:
        return ipaddress.ip_address(name.strip('[]')).compressed
    except ValueError:
        return name
