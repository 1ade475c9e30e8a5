# SPDX-License-Identifier: Apache-2.0
"""Where this host keeps the disks of its servers, and whether that can be used.

What touches the file system happens in a process of its own: of a share whose server is gone even ``stat`` does not come back.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import select
import signal
import stat
import time
from typing import Any, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Check, Fact, Keep, Offer, Result, Settings
from nova_migcheck.processes import start_time
from nova_migcheck.storage import mounts
from nova_migcheck.storage.comparison import SCOPE, compare

# [libvirt] images_type -> where the disks are. All others are files in the instances directory.
_ELSEWHERE = {'rbd': 'rbd', 'lvm': 'lvm'}
# Nova's image cache writes here which computes use a directory (nova.virt.storage_users): every host that shares it sees the same file.
_MARKER = 'compute_nodes'
# Of the time that a wait may take, the part left for saying what did not answer.
_SHARE = 0.8
# Seconds that a killed process is given to be gone. One in uninterruptible sleep never is.
_REAP = 0.3


class StorageCheck(Check):
    """``[DEFAULT] instances_path`` and ``[libvirt] images_type`` as this host has them."""

    NAME = 'storage'
    OFFERS = (Offer('storage', ('free_bytes', 'total_bytes', 'device'), keep=2, between=compare),)
    OPTIONS = {
        'DEFAULT': ('instances_path', 'state_path'),
        'libvirt': ('images_type', 'images_rbd_pool'),
        'migcheck': ('instances_shared',),
    }

    def run(self, settings: Settings) -> Iterator[Result]:
        state = settings.get('DEFAULT', 'state_path', '/var/lib/nova')
        path = posixpath.normpath(settings.get('DEFAULT', 'instances_path') or posixpath.join(state, 'instances'))
        origin = settings.origin('DEFAULT', 'instances_path')
        expect = settings.get('migcheck', 'instances_shared', 'auto')
        images = _ELSEWHERE.get(settings.get('libvirt', 'images_type', 'default'), 'path')
        # Known before anything is touched: what to say when it hangs.
        before = mounts.covering(path, mounts.read())
        stuck = _stuck(settings.memory)
        found = None if stuck else _Look(path).wait(settings.timeout * _SHARE)
        if found is None or 'stuck' in found:
            held = stuck or (found or {}).get('stuck')
            yield self._hangs(path, before, origin, settings.timeout * _SHARE, held)
            yield Keep(held)
            return
        yield Keep(None)
        # Looked at again, since looking may have made an automounter mount it.
        mount = mounts.covering(str(found.get('real', path)), mounts.read())
        trouble = list(self._trouble(path, mount, origin, found))
        yield from trouble
        fact = _fact(path, images, expect, mount, found, settings)
        if fact is None:
            return
        yield Fact('storage', fact)
        if images == 'path' and expect == 'yes' and not fact['shared']:
            yield self.failure(
                path, f'{path} is on {fact["type"]} mounted at {fact["mount"]}, a local file system; it should be on a shared one',
                settings.origin('migcheck', 'instances_shared'), 'mount the share there', SCOPE)
        elif not trouble:
            yield self.ok(path, _said(fact), origin)

    def _hangs(self, path: str, mount: Optional[mounts.Mount], origin: str, seconds: float, held: Any) -> Result:
        where = f' ({_named(mount)})' if mount else ''
        detail = f'{path}{where} did not answer within {seconds:.2g} s'
        if held:
            detail += f': process {held["pid"]} hangs in it, and no other is sent there until that is gone'
        return self.failure(path, detail, origin, 'see that the server of the share answers; nova-compute hangs there too')

    def _trouble(self, path: str, mount: Optional[mounts.Mount], origin: str, found: Mapping[str, Any]) -> Iterator[Result]:
        where = f' ({_named(mount)})' if mount else ''
        if 'errno' in found:
            remedy = 'mount it again: the server of the share is gone or has forgotten this host' if found['errno'] in (
                errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.EHOSTDOWN) else 'create it, or set [DEFAULT] instances_path right'
            if found['errno'] in (errno.EACCES, errno.EPERM):
                remedy = f'let user {os.geteuid()} use it'
            yield self.failure(path, f'{path}{where}: {os.strerror(found["errno"])}', origin, remedy)
        elif not found.get('directory'):
            yield self.failure(path, f'{path} is not a directory', origin, 'set [DEFAULT] instances_path right')
        elif mount is not None and mount.read_only:
            yield self.failure(path, f'{path} is mounted read-only{where}', origin, f'mount -o remount,rw {mount.point}')
        elif found.get('access'):
            yield self.failure(path, f'{path}{where} cannot be written by user {os.geteuid()}: {os.strerror(found["access"])}', origin,
                               'let nova-compute\'s user write there')
        elif found.get('free') == 0 and found.get('total'):
            yield self.warning(path, f'{path}{where} is full', origin, 'make room')


class _Look:
    """A process that looks at a path, and what it says. Nothing here waits for longer than it is told."""

    def __init__(self, path: str) -> None:
        self._answer, said = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                _look(path, said)
            finally:
                os._exit(0)
        os.close(said)

    def wait(self, seconds: float) -> Optional[dict[str, Any]]:
        """What it found; None when it did not answer; ``stuck`` when it could not even be killed then."""
        end = time.monotonic() + seconds
        text = b''
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        try:
            while poll.poll(max(0.0, end - time.monotonic()) * 1000):
                data = os.read(self._answer, 65536)
                if not data:
                    break
                text += data
        finally:
            os.close(self._answer)
        gone = self._end()
        try:
            found = json.loads(text)
        except ValueError:
            return None if gone else {'stuck': {'pid': self._pid, 'since': start_time(self._pid)}}
        return found if isinstance(found, dict) else None

    def _end(self) -> bool:
        os.kill(self._pid, signal.SIGKILL)
        end = time.monotonic() + _REAP
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True


def _look(path: str, answer: int) -> None:
    """In the process that may hang: all that is asked of the path."""
    found: dict[str, Any] = {}
    try:
        # The dot makes an automounter mount it, which stat of the directory itself does not.
        status = os.stat(posixpath.join(path, '.'))
        found['directory'] = stat.S_ISDIR(status.st_mode)
        found['real'] = os.path.realpath(path)
        found['inode'] = status.st_ino
        system = os.statvfs(path)
        # A file system that does not count its blocks says 0 of 0, which is not full.
        found['free'], found['total'] = system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize
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
    os.write(answer, json.dumps(found).encode())


def _stuck(memory: Any) -> Optional[dict[str, Any]]:
    """The process of an earlier round that the kernel still holds, if it does."""
    if isinstance(memory, dict) and memory.get('since') and start_time(memory.get('pid', 0)) == memory['since']:
        return memory
    return None


def _fact(path: str, images: str, expect: str, mount: Optional[mounts.Mount], found: Mapping[str, Any],
          settings: Settings) -> Optional[dict[str, Any]]:
    """What another host's is compared with; None when nothing can be said."""
    fact: dict[str, Any] = {'images': images, 'expect': expect, 'path': path}
    if images == 'rbd':
        return {**fact, 'pool': settings.get('libvirt', 'images_rbd_pool', 'rbd')}
    if images == 'lvm':
        return fact
    if mount is None or 'errno' in found or not found.get('directory'):
        return None
    fact.update(type=mount.type, mount=mount.point, shared=bool(mount.family), free_bytes=found['free'], total_bytes=found['total'])
    if not mount.family:
        # The name of a disk differs from host to host and says nothing to another one.
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


def _named(mount: mounts.Mount) -> str:
    return f'{mount.type} {mount.source}, mounted at {mount.point}'


def _said(fact: Mapping[str, Any]) -> str:
    if fact['images'] != 'path':
        return f'disks are kept in {fact["images"]}' + (f', pool {fact["pool"]}' if 'pool' in fact else '')
    kind = 'shared' if fact['shared'] else 'local'
    return f'on {fact["type"]} {fact.get("source") or fact.get("device")}, {kind}, {fact["free_bytes"] // 2 ** 30} GiB free'
