# SPDX-License-Identifier: Apache-2.0
"""Whether the disks that a server has on one host are there on another: the storages of two hosts compared.

Stock Nova takes a target whose share is not mounted for one with local disks: it copies the disks into the target's own directory and
deletes those on the share, silently. Where two local directories are compared, that copy is what the operator wants.
"""

from __future__ import annotations

from typing import Any, Mapping

from nova_migcheck.finding import Finding, Outcome

SCOPE = 'local-disk'

_OFF = '; if that is meant, set [migcheck] instances_shared = no on one of the two hosts'


def compare(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with going from ``source`` to ``target``, two ``storage`` facts without their host's own keys.

    Never raises: a fact comes from another host and may be anything. Every finding has the scope ``local-disk``: a server whose
    disks are all volumes needs none of it.
    """
    if not _is_fact(source) or not _is_fact(target):
        return []
    images = _compare_images(source, target)
    if 'rbd' in (source['images'], target['images']) or source['images'] != target['images']:
        return images
    if source['images'] != 'path' or 'no' in (source.get('expect'), target.get('expect')) or source['shared'] is not True:
        return []
    if target['shared'] is not True:
        return [_finding(Outcome.FAILURE, target, f'{_where(target)}, a local file system; the source has it on {_system(source)}: '
                         'Nova would copy the disks there and delete them from the share',
                         f'mount it on the target{_OFF}')]
    return _compare_shared(source, target)


def _compare_images(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """``[libvirt] images_type`` of both: where Nova keeps the disks."""
    ours, theirs = source['images'], target['images']
    if ours != theirs:
        outcome = Outcome.FAILURE if ours == 'rbd' else Outcome.WARNING
        return [_finding(outcome, target, f'the target keeps disks in {_images(theirs)}, the source in {_images(ours)}',
                         'give both hosts one [libvirt] images_type', 'images_type')]
    pools = source.get('pool'), target.get('pool')
    if ours == 'rbd' and all(isinstance(pool, str) for pool in pools) and pools[0] != pools[1]:
        return [_finding(Outcome.WARNING, target, f'the target keeps disks in the pool {pools[1]}, the source in {pools[0]}',
                         'give both hosts one [libvirt] images_rbd_pool', 'images_rbd_pool')]
    return []


def _compare_shared(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[Finding]:
    """Two shared file systems: the same one? Names differ where things do not, so the inode numbers, which are the server's, decide."""
    families = source.get('family'), target.get('family')
    same_servers = _meet(source.get('servers'), target.get('servers'))
    same_export = bool(source.get('export')) and source.get('export') == target.get('export')
    if families[0] != families[1]:
        different = True
    elif same_servers and same_export:
        different = _differ('inode', source, target)
    else:
        different = _differ('inode', source, target) or _differ('marker', source, target)
        exports = bool(source.get('export')) and bool(target.get('export'))
        if not different and exports and not same_export and None in (source.get('inode'), target.get('inode')):
            different = True
    both = f'{_where(target)}; the source has it on {_system(source)}'
    if different:
        numbers = ''
        if (same_servers and same_export) or not all(fact.get('export') for fact in (source, target)):
            # The names are the same, or there are none that another host could read.
            told = [f'{key} {target[key]} there, {source[key]} on the source' for key in ('inode', 'marker')
                    if _differ(key, source, target)]
            numbers = f' ({"; ".join(told)})' if told else ''
        return [_finding(Outcome.FAILURE, target, f'{both}: that is another directory{numbers}', f'mount the same export on both{_OFF}')]
    if not any(fact.get('export') for fact in (source, target)) and _same_number('inode', source, target) and _same_number(
            'marker', source, target):
        return []
    # Every server of a Gluster volume serves it, and each host commonly names the nearest one.
    if same_export and (same_servers or families[0] == 'glusterfs'):
        return []
    return [_finding(Outcome.UNKNOWN, target, f'{both}: whether that is the same directory cannot be told',
                     'mount it by the same name on both')]


def _differ(key: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    ours, theirs = source.get(key), target.get(key)
    return isinstance(ours, int) and isinstance(theirs, int) and ours != theirs


def _same_number(key: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
    return isinstance(source.get(key), int) and source.get(key) == target.get(key)


def _meet(ours: Any, theirs: Any) -> bool:
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return False
    return bool({x for x in ours if isinstance(x, str)} & {x for x in theirs if isinstance(x, str)})


def _is_fact(value: Any) -> bool:
    if not isinstance(value, Mapping) or value.get('images') not in ('path', 'rbd', 'lvm'):
        return False
    return value['images'] != 'path' or (isinstance(value.get('shared'), bool) and isinstance(value.get('path'), str))


def _where(fact: Mapping[str, Any]) -> str:
    return f'{fact["path"]} is on {_system(fact)}'


def _system(fact: Mapping[str, Any]) -> str:
    """``nfs4 10.0.0.5:/export, mounted at /var/lib/nova/instances``."""
    words = [str(fact[key]) for key in ('type', 'source') if fact.get(key)]
    return f'{" ".join(words) or "an unknown file system"}, mounted at {fact.get("mount") or "?"}'


def _images(kind: str) -> str:
    return {'path': 'the instances directory', 'rbd': 'Ceph (rbd)', 'lvm': 'LVM'}[kind]


def _finding(outcome: Outcome, target: Mapping[str, Any], detail: str, remedy: str, option: str = '') -> Finding:
    if option:
        return Finding('storage', outcome, option, detail, f'[libvirt] {option} of both hosts', remedy, SCOPE)
    return Finding('storage', outcome, str(target['path']), detail, '/proc/self/mountinfo of both hosts', remedy, SCOPE)
