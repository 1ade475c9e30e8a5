# SPDX-License-Identifier: Apache-2.0
"""Compare the storage of two hosts, to find a target that lacks a server's disks.

If the share is not mounted on the target, stock Nova assumes that the target has local disks.
It then copies the disks into a local directory of the target and silently deletes those on the
share. Between two hosts with local directories, that copy is what the operator wants.
"""

from __future__ import annotations

from typing import Any, Mapping

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.storage.mounts import TABLE

SCOPE = 'local-disk'

#: Code of each finding about two hosts -> what it means.
CODES = {
    'storage-images-type': 'The source and the target have different images_type.',
    'storage-not-shared': "The source's instances directory is shared, the target's is local.",
    'storage-other-directory': 'The source and the target share different directories.',
    'storage-pool': 'The source and the target have different images_rbd_pool.',
    'storage-undetermined': 'It is unknown whether both hosts share the same directory.',
}

_OFF = '; if this is intended, set [migcheck] instances_shared = no on one of the two hosts'


def compare(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """Return what is wrong with a migration from ``source`` to ``target``.

    Both are ``storage`` facts without the keys that differ on every host. A fact comes from
    another host and may be anything, so this never raises. Every finding has the scope
    ``local-disk``: servers whose disks are all volumes are not affected.
    """
    if not _is_fact(source) or not _is_fact(target):
        return []
    found = _compare_images(source, target)
    if 'rbd' in (source['images'], target['images']) or source['images'] != target['images']:
        return found
    not_shared = 'no' in (source.get('expect'), target.get('expect'))
    if source['images'] != 'path' or not_shared or source['shared'] is not True:
        return []
    if target['shared'] is not True:
        if _intersect(source.get('servers'), target.get('serves')):
            return _compare_server(source, target)
        detail = (f'{_where(target)}, a local file system; the source has it on '
                  f'{_system(source)}: Nova would copy the disks there and delete them from the '
                  'share')
        return [_finding('storage-not-shared', Outcome.FAILURE, target, detail,
                         f'mount it on the target{_OFF}')]
    return _compare_shared(source, target)


def _compare_images(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """Compare ``[libvirt] images_type``, which decides where Nova keeps the disks."""
    ours, theirs = source['images'], target['images']
    if ours != theirs:
        outcome = Outcome.FAILURE if ours == 'rbd' else Outcome.WARNING
        detail = (f'the target keeps disks in {_images(theirs)}, '
                  f'but the source keeps them in {_images(ours)}')
        return [_finding('storage-images-type', outcome, target, detail,
                         'set the same [libvirt] images_type on both hosts', 'images_type')]
    pools = source.get('pool'), target.get('pool')
    if ours == 'rbd' and all(isinstance(pool, str) for pool in pools) and pools[0] != pools[1]:
        detail = (f'the target keeps disks in the pool {pools[1]}, '
                  f'but the source keeps them in the pool {pools[0]}')
        return [_finding('storage-pool', Outcome.WARNING, target, detail,
                         'set the same [libvirt] images_rbd_pool on both hosts',
                         'images_rbd_pool')]
    return []


def _compare_server(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """Compare a share with the directory of a target that is itself the server of the share.

    NFS gives its clients the inode numbers of the server's own file system.
    """
    if _same_number('inode', source, target):
        return []
    both = (f'{_where(target)}, and the target is itself the server of the share; the source has '
            f'it on {_system(source)}')
    if _differ('inode', source, target):
        return [_finding('storage-other-directory', Outcome.FAILURE, target,
                         f'{both}: that is another directory (inode {target["inode"]} on the '
                         f'target, {source["inode"]} on the source)',
                         f'set [DEFAULT] instances_path to what the target exports{_OFF}')]
    return [_finding('storage-undetermined', Outcome.UNKNOWN, target,
                     f'{both}: cannot determine whether that is the same directory',
                     'compare "stat -c %i" of the directory on both hosts')]


def _compare_shared(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """Compare two shared file systems.

    The same directory may have different names on two hosts, so the inode number decides, which
    the file server assigns.
    """
    exports = [fact.get('export') for fact in (source, target)]
    same_servers = _intersect(source.get('servers'), target.get('servers'))
    same_export = bool(exports[0]) and exports[0] == exports[1]
    same_name = same_servers and same_export
    both = f'{_where(target)}; the source has it on {_system(source)}'
    if _different(source, target, same_name):
        detail = f'{both}: that is another directory'
        differing = [f'{key} {target[key]} on the target, {source[key]} on the source'
                     for key in ('inode', 'marker') if _differ(key, source, target)]
        # Show the numbers where the names are the same, or another host could not read them.
        if differing and (same_name or not all(exports)):
            detail = f'{both}: that is another directory ({"; ".join(differing)})'
        return [_finding('storage-other-directory', Outcome.FAILURE, target, detail,
                         f'mount the same export on both hosts{_OFF}')]
    if not any(exports) and all(_same_number(key, source, target) for key in ('inode', 'marker')):
        return []
    # Every server of a Gluster volume serves it, and a host often names the nearest one.
    if same_export and (same_servers or source.get('family') == 'glusterfs'):
        return []
    return [_finding('storage-undetermined', Outcome.UNKNOWN, target,
                     f'{both}: cannot determine whether that is the same directory',
                     'mount it by the same name on both hosts')]


def _different(source: Mapping[str, Any], target: Mapping[str, Any], same_name: bool) -> bool:
    """Return whether two shared file systems are certainly different directories."""
    if source.get('family') != target.get('family') or _differ('inode', source, target):
        return True
    if same_name:
        return False
    if _differ('marker', source, target):
        return True
    exports = [fact.get('export') for fact in (source, target)]
    no_inode = None in (source.get('inode'), target.get('inode'))
    return all(exports) and exports[0] != exports[1] and no_inode


def _differ(key: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    ours, theirs = source.get(key), target.get(key)
    return isinstance(ours, int) and isinstance(theirs, int) and ours != theirs


def _same_number(key: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    return isinstance(source.get(key), int) and source.get(key) == target.get(key)


def _intersect(ours: Any, theirs: Any) -> bool:
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return False
    return bool({x for x in ours if isinstance(x, str)} & {x for x in theirs if isinstance(x, str)})


def _is_fact(value: Any) -> bool:
    if not isinstance(value, Mapping) or value.get('images') not in ('path', 'rbd', 'lvm'):
        return False
    if value['images'] != 'path':
        return True
    return isinstance(value.get('shared'), bool) and isinstance(value.get('path'), str)


def _where(fact: Mapping[str, Any]) -> str:
    return f'{fact["path"]} is on {_system(fact)}'


def _system(fact: Mapping[str, Any]) -> str:
    """Return text like ``nfs4 10.0.0.5:/export, mounted at /var/lib/nova/instances``."""
    words = [str(fact[key]) for key in ('type', 'source') if fact.get(key)]
    return f'{" ".join(words) or "an unknown file system"}, mounted at {fact.get("mount") or "?"}'


def _images(kind: str) -> str:
    return {'path': 'the instances directory', 'rbd': 'Ceph (rbd)', 'lvm': 'LVM'}[kind]


def _finding(code: str, outcome: Outcome, target: Mapping[str, Any], detail: str,
             remedy: str, option: str = '') -> Finding:
    subject = option or str(target['path'])
    origin = f'[libvirt] {option} of both hosts' if option else f'{TABLE} of both hosts'
    return Finding('storage', outcome, subject, detail, origin, remedy, SCOPE, code=code)
