# SPDX-License-Identifier: Apache-2.0
"""Whether QEMU's user may open what is in the instances directory.

libvirt starts QEMU as a user of its own. It gives a disk to that user (``dynamic_ownership``), but
no directory, and no disk on a share that takes root for nobody (``root_squash``).

Who may become that user, tries. Others compare the modes, which says less. All of this may hang
on a share whose server is gone, so a process of its own does it (``storage.looking``). That process
gives up its rights, and opens files for reading only.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import posixpath
import pwd
import stat
from typing import Any, Mapping, NamedTuple, Optional

from nova_migcheck.storage import mounts

_ACL = 'system.posix_acl_access'
_PR_SET_DUMPABLE = 4
# Disks of guests that are looked at to find out whether root is nobody there.
_SAMPLE = 3
_DENIED = (errno.EACCES, errno.EPERM)


class User(NamedTuple):
    """As whom QEMU runs: numbers."""

    number: int
    group: int

    @classmethod
    def of(cls, fact: Any) -> Optional[User]:
        """Return the user in the fact ``qemu`` of a host, which may be anything."""
        if not isinstance(fact, Mapping):
            return None
        number, group = fact.get('number'), fact.get('group')
        # True is an int, too.
        return cls(number, group) if type(number) is type(group) is int else None

    def __str__(self) -> str:
        return f'user {self.number} (group {self.group})'


def directory(user: User, path: str, shared: bool) -> dict[str, Any]:
    """Return what is found of the instances directory, as JSON.

    :param shared: whether it is on a share
    :returns: ``squashed``: whether root may not write there; ``denied`` as of :meth:`Rights.denied`
    """
    # In this order: the rights are gone after the second.
    squashed = shared and os.geteuid() == 0 and _closed_to_root(path)
    # The dot makes an automounter mount it.
    return {'squashed': squashed, 'denied': Rights(user).denied(posixpath.join(path, '.'))}


def disks(user: User, path: str) -> dict[str, Any]:
    """Return the first disk of a server that the user may not open, as JSON: ``denied``.

    :param path: the directory of the server
    """
    names = sorted(name for name in os.listdir(path)
                   if name.startswith('disk') and name != 'disk.info')
    rights = Rights(user)
    # QEMU only reads a config drive.
    tried = (rights.denied(posixpath.join(path, name),
                           stat.S_IROTH | (0 if name == 'disk.config' else stat.S_IWOTH))
             for name in names)
    return {'denied': next(filter(None, tried), None)}


def _closed_to_root(path: str) -> bool:
    """Return whether root may not write to the directory, or to the disk of a guest in it."""
    if not os.access(path, os.W_OK | os.X_OK):
        return True
    with os.scandir(path) as entries:
        disks = (posixpath.join(entry.path, 'disk') for entry in entries)
        some = list(itertools.islice(filter(os.path.exists, disks), _SAMPLE))
    return not all(os.access(disk, os.W_OK) for disk in some)


class Rights:
    """The rights of QEMU's user. This process gives up its own for them, if it can.

    :ivar groups: its groups
    """

    def __init__(self, user: User) -> None:
        self.user = user
        self.groups = {user.group}
        self._groups_known = True
        try:
            self.groups.update(os.getgrouplist(pwd.getpwuid(user.number).pw_name, user.group))
        except KeyError:  # libvirtd is in another container, with another list of users
            self._groups_known = False
        own = os.geteuid()
        self._tries = own == user.number or (own == 0 and _become(user, self.groups))
        if self._tries:
            self._groups_known &= self.groups <= {os.getegid(), *os.getgroups()}

    def denied(self, path: str, bits: int = stat.S_IXOTH) -> Optional[dict[str, Any]]:
        """Return what keeps the user from opening a path, None if nothing does, as far as known.

        :param bits: what it needs of the path itself: by default to enter a directory
        :returns: ``path``; ``words``; ``tried``, and ``certain``: whether nothing that is not known
            here can let the user in
        """
        if not self.user.number:
            return None  # root: whether QEMU keeps root's rights is not known
        here = self._by_modes(os.path.realpath(path), bits)
        if not self._tries:
            return here
        if _open(path, bits) not in _DENIED:
            return None
        return {**(here or {'path': posixpath.normpath(path), 'words': os.strerror(errno.EACCES)}),
                'tried': True, 'certain': self._groups_known}

    def _by_modes(self, path: str, bits: int) -> Optional[dict[str, Any]]:
        """Return the first of the directories above a path, or itself, whose mode denies it."""
        parts = path.split('/')
        for above in range(1, len(parts) + 1):
            one = '/'.join(parts[:above]) or '/'
            wanted = bits if above == len(parts) else stat.S_IXOTH
            try:
                status = os.stat(one)
            except OSError:
                return None
            shift = 6 if status.st_uid == self.user.number else (
                3 if status.st_gid in self.groups else 0)
            if wanted & ~(status.st_mode >> shift):
                words = (f'{os.strerror(errno.EACCES)}: it belongs to user {status.st_uid}, group '
                         f'{status.st_gid}, with mode {stat.S_IMODE(status.st_mode):04o}')
                return {'path': one, 'words': words, 'tried': False,
                        'certain': self._groups_known and _only_modes_count(one)}
        return None


def _become(user: User, groups: set[int]) -> bool:
    """Give up all rights but those of a user. Root in a container may not have the right to it."""
    # Others of that user may not look into this process.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        os.setgroups(list(groups))
        os.setresgid(user.group, user.group, user.group)
        os.setresuid(user.number, user.number, user.number)
    except OSError:
        return False
    return True


def _open(path: str, bits: int) -> int:
    """Open a path for reading, or enter it; the number of the error, 0 for none."""
    try:
        if bits & stat.S_IXOTH:
            os.stat(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            if bits & stat.S_IWOTH and not os.access(path, os.W_OK):
                return errno.EACCES
    except OSError as e:
        return e.errno or 0
    return 0


def _only_modes_count(path: str) -> bool:
    """Return whether no access list and no server can let somebody in whom the mode denies it."""
    mount = mounts.covering(path, mounts.read())
    try:
        os.getxattr(path, _ACL)
    except OSError as e:
        return (e.errno in (errno.ENODATA, errno.ENOTSUP) and mount is not None
                and mount.type in mounts.LOCAL)
    return False
