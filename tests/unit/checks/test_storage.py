# SPDX-License-Identifier: Apache-2.0
"""What of the storage check needs no mount; the rest is in tests/lab/test_storage_mounts.py."""

import dataclasses
import errno
import os
import pathlib
import types

import pytest

from nova_migcheck.checks import storage
from nova_migcheck.checks.base import Fact, Keep, Settings
from nova_migcheck.checks.storage import StorageCheck
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rounds.child import start_time
from nova_migcheck.storage import mounts


def run(path, memory=None, **options):
    told = {
        'DEFAULT': {'instances_path': str(path)},
        'libvirt': {'images_type': 'default'},
        'migcheck': {'instances_shared': 'auto'},
    }
    for group, values in options.items():
        told.setdefault(group, {}).update(values)
    results = list(StorageCheck().run(Settings(options=told, timeout=60.0, memory=memory)))
    return (
        [r for r in results if isinstance(r, Finding)],
        [r.value for r in results if isinstance(r, Fact)],
        [r.value for r in results if isinstance(r, Keep)],
    )


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
    assert (
        found.outcome is Outcome.FAILURE and str(tmp_path / 'gone') in found.detail and facts == []
    )


def test_nothing_is_written_and_nothing_left(tmp_path):
    before = (
        os.listdir('/proc/self/fd'),
        pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text(),
    )
    run(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert (
        os.listdir('/proc/self/fd'),
        pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text(),
    ) == before


NFS = mounts.Mount(1, 0, '/', '/i', 'nfs4', '10.0.0.5:/nova', frozenset({'rw'}))
READ_ONLY = dataclasses.replace(NFS, options=frozenset({'ro'}))


@pytest.mark.parametrize(
    'mount, found, detail, remedy',
    [
        (NFS, {'errno': errno.ESTALE}, 'Stale file handle', 'mount it again'),
        (
            NFS,
            {'errno': errno.ENOTCONN},
            '/i (nfs4 10.0.0.5:/nova, mounted at /i)',
            'mount it again',
        ),
        (NFS, {'errno': errno.EACCES}, 'Permission denied', f'let user {os.geteuid()} use it'),
        (None, {'errno': errno.ENOENT}, 'No such file', 'create it'),
        (NFS, {'directory': False}, 'is not a directory', 'correct [DEFAULT] instances_path'),
        (READ_ONLY, {'directory': True}, 'is mounted read-only', 'remount,rw /i'),
        (
            NFS,
            {'directory': True, 'access': errno.EACCES},
            'cannot write to /i',
            'let nova-compute',
        ),
        (NFS, {'directory': True, 'free': 0, 'total': 9}, 'is full', 'free some space'),
        (
            NFS,
            {'directory': True, 'free': 0, 'total': 0},
            '',
            '',
        ),  # a file system that does not count
        (NFS, {'directory': True, 'free': 1, 'total': 9}, '', ''),
    ],
)
def test_each_trouble_and_what_to_do(mount, found, detail, remedy):
    finding = StorageCheck()._trouble('/i', mount, '[DEFAULT] instances_path', found)
    if not detail:
        assert finding is None
        return
    assert finding.outcome is (Outcome.WARNING if 'full' in detail else Outcome.FAILURE)
    assert detail in finding.detail and remedy in finding.remedy and finding.origin
    assert finding.code in StorageCheck.CODES


def found(**values):
    return {
        'directory': True,
        'real': '/i',
        'inode': 7,
        'free': 5,
        'total': 9,
        'marker': 8,
        **values,
    }


def fact(mount=NFS, images='path', seen=None, **options):
    return storage._fact(
        '/i', images, 'auto', mount, seen or found(), Settings(options={'libvirt': options})
    )


COMMON = {'images': 'path', 'expect': 'auto', 'path': '/i'}
LOCAL = mounts.Mount(1, 0, '/', '/', 'ext4', '/dev/vda1')


def test_the_fact_of_each_kind_of_storage():
    system = {
        'type': 'nfs4',
        'mount': '/i',
        'shared': True,
        'free_bytes': 5,
        'total_bytes': 9,
        'family': 'nfs',
    }
    assert fact() == {
        **COMMON,
        **system,
        'source': '10.0.0.5:/nova',
        'servers': ['10.0.0.5'],
        'export': '/nova',
        'inode': 7,
        'marker': 8,
    }
    assert fact(LOCAL) == {
        **COMMON,
        'type': 'ext4',
        'mount': '/',
        'shared': False,
        'free_bytes': 5,
        'total_bytes': 9,
        'device': '/dev/vda1',
    }
    gfs = dataclasses.replace(NFS, type='gfs2', source='/dev/mapper/x')
    assert fact(gfs) == {
        **COMMON,
        **system,
        'type': 'gfs2',
        'family': 'gfs2',
        'device': '/dev/mapper/x',
        'inode': 7,
        'marker': 8,
    }
    smb = fact(dataclasses.replace(NFS, type='cifs', source='//a/b'))
    assert smb['family'] == 'smb' and {'inode', 'marker'}.isdisjoint(smb)
    seen = found()
    del seen['marker']
    assert 'marker' not in fact(seen=seen) and fact(seen=seen)['inode'] == 7
    assert fact(images='rbd') == {**COMMON, 'images': 'rbd', 'pool': 'rbd'}
    assert fact(images='rbd', images_rbd_pool='vms')['pool'] == 'vms'
    assert fact(images='lvm') == {**COMMON, 'images': 'lvm'}
    for values in ({'mount': None}, {'seen': found(errno=2)}, {'seen': found(directory=False)}):
        assert fact(**values) is None


@pytest.mark.parametrize(
    'kind, images',
    [('rbd', 'rbd'), ('lvm', 'lvm'), ('qcow2', 'path'), ('default', 'path'), (None, 'path')],
)
def test_where_the_disks_are(tmp_path, kind, images):
    (ok,), (seen,), _kept = run(tmp_path, libvirt={'images_type': kind, 'images_rbd_pool': 'vms'})
    assert seen['images'] == images and ok.subject == str(tmp_path)
    assert ok.detail == {
        'rbd': 'disks are kept in rbd, pool vms',
        'lvm': 'disks are kept in lvm',
    }.get(images, ok.detail)


def test_the_words_about_a_directory():
    assert (
        storage._text(fact(LOCAL, seen=found(free=2**31))) == 'on ext4 /dev/vda1, local, 2 GiB free'
    )
    assert (
        storage._text(fact(seen=found(free=2**30 - 1)))
        == 'on nfs4 10.0.0.5:/nova, shared, 0 GiB free'
    )
    assert (
        storage._place('/i', None) == '/i'
        and storage._place('/i', NFS) == '/i (nfs4 10.0.0.5:/nova, mounted at /i)'
    )


@pytest.mark.parametrize('number', [errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.EHOSTDOWN])
def test_a_server_that_is_gone(number):
    assert 'mount it again' in StorageCheck()._trouble('/i', NFS, '', {'errno': number}).remedy


@pytest.mark.parametrize(
    'number, words',
    [
        (errno.EACCES, 'let user'),
        (errno.EPERM, 'let user'),
        (errno.ENOENT, 'create it'),
        (errno.ELOOP, 'create it'),
    ],
)
def test_other_errors(number, words):
    finding = StorageCheck()._trouble('/i', NFS, 'here', {'errno': number})
    assert (
        words in finding.remedy and finding.code == 'storage-unusable' and finding.origin == 'here'
    )


@pytest.mark.parametrize(
    'expect, outcome', [('auto', Outcome.OK), ('no', Outcome.OK), ('yes', Outcome.FAILURE)]
)
def test_a_directory_that_should_be_shared(tmp_path, expect, outcome):
    (one,), (seen,), _kept = run(tmp_path, migcheck={'instances_shared': expect})
    assert one.outcome is outcome and seen['expect'] == expect
    if outcome is Outcome.FAILURE:
        assert (one.code, one.scope) == ('storage-local', 'local-disk') and one.origin.endswith(
            '[migcheck] instances_shared'
        )


def look(path):
    return storage._look(str(path))


def test_what_is_seen_of_a_directory(tmp_path):
    (tmp_path / 'i').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'i')
    (tmp_path / 'i' / 'compute_nodes').touch()
    seen, system = look(tmp_path / 'link'), os.statvfs(tmp_path)
    assert (seen['directory'], seen['real']) == (True, str(tmp_path / 'i'))
    assert (
        seen['inode'] == (tmp_path / 'i').stat().st_ino
        and seen['marker'] == (tmp_path / 'i' / 'compute_nodes').stat().st_ino
    )
    assert (
        seen['total'] == system.f_blocks * system.f_frsize
        and 0 < seen['free'] <= seen['total']
        and 'access' not in seen
    )
    assert 'marker' not in look(tmp_path)


def test_what_is_no_directory(tmp_path):
    (tmp_path / 'file').touch()
    assert look(tmp_path / 'file') == {'directory': False}
    assert look(tmp_path / 'file' / 'below') == {'errno': errno.ENOTDIR}
    assert look(tmp_path / 'gone') == {'errno': errno.ENOENT}


@pytest.mark.parametrize('flag, number', [(0, errno.EACCES), (os.ST_RDONLY, errno.EROFS)])
def test_a_directory_that_cannot_be_written(tmp_path, monkeypatch, flag, number):
    real = os.statvfs
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK | os.X_OK)
    monkeypatch.setattr(
        os,
        'statvfs',
        lambda path: types.SimpleNamespace(
            **{name: getattr(real(path), name) for name in ('f_bavail', 'f_frsize', 'f_blocks')},
            f_flag=flag,
        ),
    )
    assert look(tmp_path)['access'] == number


def test_a_silent_directory(tmp_path, monkeypatch):
    seconds = []

    class Silent:
        def __init__(self, look):
            assert look.args == (str(tmp_path),)

        def wait(self, given):
            seconds.append(given)
            return {'stuck': {'pid': 5, 'since': '1'}}

    monkeypatch.setattr(storage.looking, 'Look', Silent)
    (one,), facts, (kept,) = run(tmp_path)
    assert (one.outcome, one.code) == (
        Outcome.FAILURE,
        'storage-silent',
    ) and 'process 5 hangs' in one.detail
    assert (
        facts == []
        and kept == {'pid': 5, 'since': '1'}
        and seconds == [48.0]
        and 'within 48 s' in one.detail
    )
    monkeypatch.setattr(Silent, 'wait', lambda self, given: None)
    (one,), _facts, (kept,) = run(tmp_path)
    assert 'hangs' not in one.detail and kept is None


def test_what_two_hosts_do_not_compare():
    (offer,) = StorageCheck.OFFERS
    assert (offer.name, set(offer.per_host)) == ('storage', {'free_bytes', 'total_bytes', 'device'})
    assert StorageCheck.TRANSIENT == ('storage',)
