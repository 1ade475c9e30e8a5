# SPDX-License-Identifier: Apache-2.0
"""Check where this host keeps the disks of its servers, and whether that is usable.

A process of its own touches the file system. On a share whose server is gone, even ``stat`` does
not return.
"""

from __future__ import annotations

import errno
import functools
import os
import posixpath
import stat
from typing import Any, ClassVar, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Check, Fact, Keep, Offer, Result, Settings
from nova_migcheck.storage import comparison, looking, mounts, place

# Nova's image cache records here which computes use a directory (nova.virt.storage_users): every
# host that shares the directory sees the same file.
_MARKER = 'compute_nodes'
# Share of the timeout for the file system. The rest is for reporting that it did not answer.
_SHARE = 0.8
# Errors of a share whose server is gone or has restarted.
_SERVER_GONE = (errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.EHOSTDOWN)


class StorageCheck(Check):
    """Check ``[DEFAULT] instances_path`` and ``[libvirt] images_type`` of this host."""

    NAME = 'storage'
    TRANSIENT = ('storage',)
    OF_SERVICES = ('storage',)
    CODES: ClassVar[Mapping[str, str]] = {
        'storage-full': 'The instances directory is full.',
        'storage-local': 'The instances directory is local and should be shared.',
        'storage-no-directory': 'instances_path is not a directory.',
        'storage-not-writable': 'nova-compute cannot write to the instances directory.',
        'storage-read-only': 'The instances directory is mounted read-only.',
        'storage-silent': 'The instances directory does not answer.',
        'storage-unusable': 'The instances directory cannot be used.',
        **comparison.CODES}
    OFFERS = (Offer('storage', ('free_bytes', 'total_bytes', 'device'), keep=2,
                    between=comparison.compare),)
    OPTIONS = {
        'DEFAULT': ('instances_path', 'state_path'),
        'libvirt': ('images_type', 'images_rbd_pool'),
        'migcheck': ('instances_shared',),
    }

    def run(self, settings: Settings) -> Iterator[Result]:
        path = place.instances(settings)
        origin = settings.origin('DEFAULT', 'instances_path')
        expect = settings.get('migcheck', 'instances_shared', 'auto')
        images = place.images(settings)
        # Read before anything is touched, to name it in the finding if it does not answer.
        mount = mounts.covering(path, mounts.read())
        stuck = looking.stuck(settings.memory)
        found = None if stuck else looking.Look(functools.partial(_look, path)).wait(
            settings.timeout * _SHARE)
        if found is None or 'stuck' in found:
            stuck = stuck or (found or {}).get('stuck')
            yield self._silent(_place(path, mount), path, origin, settings.timeout * _SHARE, stuck)
            yield Keep(stuck)
            return
        yield Keep(None)
        # Read again: an automounter may have mounted it meanwhile.
        mount = mounts.covering(str(found.get('real', path)), mounts.read())
        trouble = self._trouble(path, mount, origin, found)
        if trouble is not None:
            yield trouble
        fact = _fact(path, images, expect, mount, found, settings)
        if fact is None:
            return
        yield Fact('storage', fact)
        if images == 'path' and expect == 'yes' and not fact['shared']:
            yield self.failure(
                path, f'{path} is on {fact["type"]} mounted at {fact["mount"]}, a local file '
                'system; it should be on a shared one',
                settings.origin('migcheck', 'instances_shared'), 'mount the share there',
                comparison.SCOPE, 'storage-local')
        elif trouble is None:
            yield self.ok(path, _text(fact), origin)

    def _silent(self, place: str, path: str, origin: str, seconds: float, stuck: Any) -> Result:
        detail = f'{place} did not answer within {seconds:.2g} s'
        if stuck:
            detail = (f'{place} did not answer within {seconds:.2g} s: process {stuck["pid"]} '
                      'hangs there, and none is started until it ends')
        return self.failure(
            path, detail, origin, 'check that the server of the share answers; nova-compute hangs '
            'there too', code='storage-silent')

    def _trouble(self, path: str, mount: Optional[mounts.Mount], origin: str,
                 found: Mapping[str, Any]) -> Optional[Result]:
        place, user = _place(path, mount), os.geteuid()
        number = found.get('errno')
        if number is not None:
            remedy = 'create it, or correct [DEFAULT] instances_path'
            if number in _SERVER_GONE:
                remedy = ('mount it again: the server of the share is gone or has forgotten this '
                          'host')
            elif number in (errno.EACCES, errno.EPERM):
                remedy = f'let user {user} use it'
            return self.failure(path, f'{place}: {os.strerror(number)}', origin, remedy,
                                code='storage-unusable')
        if not found.get('directory'):
            return self.failure(path, f'{path} is not a directory', origin,
                                'correct [DEFAULT] instances_path', code='storage-no-directory')
        if mount is not None and mount.read_only:
            return self.failure(path, f'{place} is mounted read-only', origin,
                                f'mount -o remount,rw {mount.point}', code='storage-read-only')
        if found.get('access'):
            return self.failure(
                path, f'user {user} cannot write to {place}: {os.strerror(found["access"])}',
                origin, "let nova-compute's user write there", code='storage-not-writable')
        if found.get('free') == 0 and found.get('total'):
            return self.warning(path, f'{place} is full', origin, 'free some space',
                                code='storage-full')
        return None


def _look(path: str) -> dict[str, Any]:
    """Examine the path, in the process that may hang."""
    found: dict[str, Any] = {}
    try:
        # The dot makes an automounter mount it; stat of the directory itself does not.
        status = os.stat(posixpath.join(path, '.'))
        found['directory'] = stat.S_ISDIR(status.st_mode)
        found['real'] = os.path.realpath(path)
        found['inode'] = status.st_ino
        system = os.statvfs(path)
        # A file system that does not count its blocks reports 0 of 0, which is not full.
        found['free'] = system.f_bavail * system.f_frsize
        found['total'] = system.f_blocks * system.f_frsize
        if not os.access(path, os.W_OK | os.X_OK):
            found['access'] = errno.EROFS if system.f_flag & os.ST_RDONLY else errno.EACCES
        try:
            found['marker'] = os.stat(posixpath.join(path, _MARKER)).st_ino
        except OSError:
            pass
    except OSError as e:
        found['errno'] = errno.ENOENT if e.errno is None else e.errno
        if e.errno == errno.ENOTDIR and os.path.lexists(path):
            found = {'directory': False}
    return found


def _fact(path: str, images: str, expect: str, mount: Optional[mounts.Mount],
          found: Mapping[str, Any], settings: Settings) -> Optional[dict[str, Any]]:
    """Return the fact that is compared with another host's; None if it is unknown."""
    fact: dict[str, Any] = {'images': images, 'expect': expect, 'path': path}
    if images == 'rbd':
        return {**fact, 'pool': settings.get('libvirt', 'images_rbd_pool', 'rbd')}
    if images == 'lvm':
        return fact
    if mount is None or 'errno' in found or not found.get('directory'):
        return None
    fact.update(type=mount.type, mount=mount.point, shared=bool(mount.family),
                free_bytes=found['free'], total_bytes=found['total'])
    if not mount.family:
        # The name of a disk differs from host to host. So do these two, but few hosts serve NFS.
        if mounts.serves_nfs():
            fact.update(serves=_own_addresses(), inode=found['inode'])
        return {**fact, 'device': mount.source}
    servers, export = mount.export(str(found['real']))
    fact.update(family=mount.family)
    if export:
        fact.update(source=mount.source, servers=servers, export=export)
    else:
        fact.update(device=mount.source)
    if mount.numbered:
        fact.update({key: found[key] for key in ('inode', 'marker') if key in found})
    return fact


def _own_addresses() -> list[str]:
    """Return the addresses of this host by which others may mount what it serves."""
    from nova_migcheck.network.interfaces import Kernel
    with Kernel() as kernel:
        found = {str(one.ip) for one in kernel.network().addresses}
    return sorted(found - {'127.0.0.1', '::1'})


def _place(path: str, mount: Optional[mounts.Mount]) -> str:
    """Return a path with what is mounted there."""
    if mount is None:
        return path
    return f'{path} ({mount.type} {mount.source}, mounted at {mount.point})'


def _text(fact: Mapping[str, Any]) -> str:
    if fact['images'] != 'path':
        if 'pool' in fact:
            return f'disks are kept in {fact["images"]}, pool {fact["pool"]}'
        return f'disks are kept in {fact["images"]}'
    kind = 'shared' if fact['shared'] else 'local'
    return (f'on {fact["type"]} {fact.get("source") or fact.get("device")}, {kind}, '
            f'{fact["free_bytes"] // 2 ** 30} GiB free')
