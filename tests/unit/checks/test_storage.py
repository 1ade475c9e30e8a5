# SPDX-License-Identifier: Apache-2.0
"""What of the storage check needs no mount; the rest is in tests/lab/test_storage_mounts.py."""
import dataclasses
import errno
import os
import pathlib

import pytest

from nova_migcheck.checks.base import Fact, Keep, Settings
from nova_migcheck.checks.storage import StorageCheck
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rounds.child import start_time
from nova_migcheck.storage import mounts


def run(path, memory=None, **options):
    told = {'DEFAULT': {'instances_path': str(path)}, 'libvirt': {'images_type': 'default'}, 'migcheck': {'instances_shared': 'auto'}}
    for group, values in options.items():
        told.setdefault(group, {}).update(values)
    results = list(StorageCheck().run(Settings(options=told, timeout=60.0, memory=memory)))
    return ([r for r in results if isinstance(r, Finding)], [r.value for r in results if isinstance(r, Fact)],
            [r.value for r in results if isinstance(r, Keep)])


def test_a_local_directory(tmp_path):
    (found,), (fact,), (kept,) = run(tmp_path)
    assert found.outcome is Outcome.OK and fact['shared'] is False and kept is None
    assert fact['free_bytes'] > 0 and {'inode', 'source'}.isdisjoint(fact)


def test_the_default_is_below_state_path(tmp_path):
    (tmp_path / 'instances').mkdir()
    told = {'DEFAULT': {'state_path': str(tmp_path)}}
    facts = [r.value for r in StorageCheck().run(Settings(options=told)) if isinstance(r, Fact)]
    assert facts[0]['path'] == str(tmp_path / 'instances')


def test_no_second_process_beside_one_that_the_kernel_holds(tmp_path):
    """Our own stands for one in uninterruptible sleep: it is as alive."""
    held = {'pid': os.getpid(), 'since': start_time(os.getpid())}
    (found,), facts, (kept,) = run(tmp_path, held)
    assert found.outcome is Outcome.FAILURE and f'process {os.getpid()} hangs there' in found.detail
    assert facts == [] and kept == held
    (found,), _facts, (kept,) = run(tmp_path, {'pid': os.getpid(), 'since': '1'})
    assert found.outcome is Outcome.OK and kept is None


def test_a_missing_directory_names_it_and_leaves_no_fact(tmp_path):
    (found,), facts, _kept = run(tmp_path / 'gone')
    assert found.outcome is Outcome.FAILURE and str(tmp_path / 'gone') in found.detail and facts == []


def test_nothing_is_written_and_nothing_left(tmp_path):
    before = os.listdir('/proc/self/fd'), pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text()
    run(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert (os.listdir('/proc/self/fd'), pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text()) == before


NFS = mounts.Mount(1, 0, '/', '/i', 'nfs4', '10.0.0.5:/nova', frozenset({'rw'}))
READ_ONLY = dataclasses.replace(NFS, options=frozenset({'ro'}))


@pytest.mark.parametrize('mount, found, detail, remedy', [
    (NFS, {'errno': errno.ESTALE}, 'Stale file handle', 'mount it again'),
    (NFS, {'errno': errno.ENOTCONN}, '/i (nfs4 10.0.0.5:/nova, mounted at /i)', 'mount it again'),
    (NFS, {'errno': errno.EACCES}, 'Permission denied', f'let user {os.geteuid()} use it'),
    (None, {'errno': errno.ENOENT}, 'No such file', 'create it'),
    (NFS, {'directory': False}, 'is not a directory', 'correct [DEFAULT] instances_path'),
    (READ_ONLY, {'directory': True}, 'is mounted read-only', 'remount,rw /i'),
    (NFS, {'directory': True, 'access': errno.EACCES}, 'cannot write to /i', 'let nova-compute'),
    (NFS, {'directory': True, 'free': 0, 'total': 9}, 'is full', 'free some space'),
    (NFS, {'directory': True, 'free': 0, 'total': 0}, '', ''),  # a file system that does not count
    (NFS, {'directory': True, 'free': 1, 'total': 9}, '', ''),
])
def test_each_trouble_and_what_to_do(mount, found, detail, remedy):
    finding = StorageCheck()._trouble('/i', mount, '[DEFAULT] instances_path', found)
    if not detail:
        assert finding is None
        return
    assert finding.outcome is (Outcome.WARNING if 'full' in detail else Outcome.FAILURE)
    assert detail in finding.detail and remedy in finding.remedy and finding.origin
    assert finding.code in StorageCheck.CODES
