# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_migcheck.finding import Outcome
from nova_migcheck.storage.comparison import SCOPE, compare

PATH = '/var/lib/nova/instances'
LOCAL = {
    'images': 'path',
    'expect': 'auto',
    'path': PATH,
    'mount': '/',
    'type': 'ext4',
    'shared': False,
}
NFS = {
    'images': 'path',
    'expect': 'auto',
    'path': PATH,
    'mount': PATH,
    'type': 'nfs4',
    'family': 'nfs',
    'shared': True,
    'source': 'nfs1:/export',
    'servers': ['10.0.0.5', 'nfs1'],
    'export': '/export',
    'inode': 128,
    'marker': 4711,
}
GLUSTER = {
    **NFS,
    'type': 'fuse.glusterfs',
    'family': 'glusterfs',
    'source': 'g1:/nova',
    'servers': ['g1'],
    'export': '/nova',
    'inode': 1,
}
CEPH_FUSE = {**NFS, 'type': 'fuse.ceph-fuse', 'family': 'ceph'}
for _key in ('source', 'servers', 'export'):
    del CEPH_FUSE[_key]
UNKNOWN = {**NFS, 'type': 'wekafs', 'source': 'backend1/default', 'shared': False}
for _key in ('family', 'servers', 'export', 'marker'):
    del UNKNOWN[_key]
RBD = {'images': 'rbd', 'expect': 'auto', 'path': PATH, 'pool': 'vms'}
LVM = {'images': 'lvm', 'expect': 'auto', 'path': PATH}


def but(fact, **changes):
    return {key: value for key, value in {**fact, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    'source, target, expected',
    [
        (LOCAL, LOCAL, None),
        (LOCAL, NFS, None),
        (NFS, LOCAL, 'failure'),
        (NFS, but(LOCAL, expect='no'), None),
        (but(NFS, expect='no'), LOCAL, None),
        (NFS, NFS, None),
        (NFS, but(NFS, type='nfs'), None),
        # The same server by name and by address; another address of it; another server.
        (NFS, but(NFS, source='10.0.0.5:/export', servers=['10.0.0.5']), None),
        (NFS, but(NFS, source='10.0.0.6:/export', servers=['10.0.0.6']), 'unknown'),
        (NFS, but(NFS, source='10.0.0.6:/export', servers=['10.0.0.6'], marker=4712), 'failure'),
        (NFS, but(NFS, source='10.0.0.6:/export', servers=['10.0.0.6'], inode=129), 'failure'),
        (NFS, but(NFS, source='10.0.0.6:/export', servers=['10.0.0.6'], inode=None), 'unknown'),
        # Another directory of the server; the same by NFS 4's pseudo root.
        (NFS, but(NFS, source='nfs1:/scratch', export='/scratch', inode=129), 'failure'),
        (NFS, but(NFS, source='nfs1:/scratch', export='/scratch', inode=None), 'failure'),
        (NFS, but(NFS, source='nfs1:/', export='/'), 'unknown'),
        # One name that leads to two servers.
        (NFS, but(NFS, inode=129), 'failure'),
        # The image cache's file was written anew a moment ago.
        (NFS, but(NFS, marker=4712), None),
        # The target is itself the server of the share (W1), or of another one.
        (NFS, but(LOCAL, serves=['10.0.0.5', '10.1.0.5'], inode=128), None),
        (NFS, but(LOCAL, serves=['10.0.0.5'], inode=129), 'failure'),
        (NFS, but(LOCAL, serves=['10.0.0.5']), 'unknown'),
        (but(NFS, inode=None), but(LOCAL, serves=['10.0.0.5'], inode=128), 'unknown'),
        (NFS, but(LOCAL, serves=['10.0.0.6'], inode=128), 'failure'),
        (NFS, but(LOCAL, serves='10.0.0.5', inode=128), 'failure'),
        (but(LOCAL, serves=['10.0.0.5'], inode=128), NFS, None),
        (NFS, GLUSTER, 'failure'),
        (GLUSTER, but(GLUSTER, source='g2:/nova', servers=['g2']), None),
        (GLUSTER, but(GLUSTER, source='g2:/nova', servers=['g2'], marker=1), 'failure'),
        (CEPH_FUSE, CEPH_FUSE, None),
        (CEPH_FUSE, but(CEPH_FUSE, marker=1), 'failure'),
        (CEPH_FUSE, but(CEPH_FUSE, marker=None), 'unknown'),
        (RBD, RBD, None),
        (RBD, but(RBD, pool='other'), 'warning'),
        (RBD, LOCAL, 'failure'),
        (RBD, NFS, 'failure'),
        (NFS, RBD, 'warning'),
        (LVM, LVM, None),
        (LVM, LOCAL, 'warning'),
        # A file system that is in nobody's table, mounted alike on both (W7).
        (UNKNOWN, UNKNOWN, None),
        (UNKNOWN, LOCAL, None),
        (NFS, {}, None),
        ({}, LOCAL, None),
    ],
)
def test_pairs(source, target, expected):
    found = compare(source, target)
    assert [str(f.outcome) for f in found] == ([expected] if expected else [])
    assert {f.scope for f in found} <= {SCOPE} and {f.check for f in found} <= {'storage'}


def test_both_are_named_and_what_to_do():
    (failure,) = compare(NFS, LOCAL)
    assert failure.subject == PATH
    assert failure.detail.startswith(
        f'{PATH} is on ext4, mounted at /, a local file system; '
        'the source has it on nfs4 nfs1:/export'
    )
    assert 'instances_shared' in failure.remedy
    (other,) = compare(NFS, but(NFS, source='nfs1:/scratch', export='/scratch', inode=129))
    assert 'nfs1:/scratch' in other.detail and 'nfs1:/export' in other.detail


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_JSON = st.recursive(
    _SCALARS,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=5,
)
_FACT = st.dictionaries(
    st.sampled_from([*NFS, 'pool']), _JSON | st.sampled_from(['path', 'rbd', 'lvm', True, False])
)


@given(_JSON | _FACT, _JSON | _FACT, st.booleans())
def test_a_hostile_fact_never_raises(source, target, plausible):
    if plausible and isinstance(source, dict) and isinstance(target, dict):
        source, target = {**NFS, **source}, {**NFS, **target}
    assert all(f.outcome in Outcome for f in compare(source, target))


@pytest.mark.parametrize(
    'source, target, named',
    [
        # Both exports. If their names are the same, or another host could not read them: the numbers.
        (
            NFS,
            but(NFS, source='nfs1:/scratch', export='/scratch', inode=129),
            ['nfs1:/export', 'nfs1:/scratch'],
        ),
        (NFS, but(NFS, inode=129), ['inode 129 on the target, 128 on the source']),
        (CEPH_FUSE, but(CEPH_FUSE, marker=1), ['marker 1 on the target, 4711 on the source']),
    ],
)
def test_a_refusal_names_what_tells_the_two_apart(source, target, named):
    (finding,) = compare(source, target)
    assert [name for name in named if name not in finding.detail] == []


@pytest.mark.parametrize(
    'source, target, code',
    [
        (NFS, LOCAL, 'not-shared'),
        (NFS, but(NFS, inode=129), 'other-directory'),
        (RBD, but(RBD, pool='other'), 'pool'),
        (RBD, LOCAL, 'images-type'),
        (NFS, but(NFS, source='nfs1:/', export='/'), 'undetermined'),
    ],
)
def test_codes_and_origins(source, target, code):
    (finding,) = compare(source, target)
    assert finding.code == f'storage-{code}'
    option = {'pool': 'images_rbd_pool', 'images-type': 'images_type'}.get(code)
    assert finding.subject == (option or PATH)
    assert finding.origin == (
        f'[libvirt] {option} of both hosts' if option else '/proc/self/mountinfo of both hosts'
    )


@pytest.mark.parametrize(
    'ours, theirs, told',
    [
        ('vms', 'vms', False),
        ('vms', 'x', True),
        (None, 'x', False),
        ('vms', None, False),
        (3, 'x', False),
    ],
)
def test_pools(ours, theirs, told):
    assert bool(compare(but(RBD, pool=ours), but(RBD, pool=theirs))) is told


@pytest.mark.parametrize(
    'kind, words', [(LOCAL, 'the instances directory'), (RBD, 'Ceph (rbd)'), (LVM, 'LVM')]
)
def test_the_words_for_images(kind, words):
    other = LVM if kind is not LVM else LOCAL
    (finding,) = compare(other, kind)
    assert f'the target keeps disks in {words}' in finding.detail


@pytest.mark.parametrize(
    'fact',
    [
        None,
        7,
        {'images': 'zfs'},
        but(NFS, shared=None),
        but(NFS, shared='yes'),
        but(NFS, path=None),
        but(NFS, path=7),
        but(NFS, images=None),
    ],
)
def test_what_is_no_fact(fact):
    assert compare(fact, LOCAL) == compare(NFS, fact) == []


@pytest.mark.parametrize(
    'changes, outcome',
    [
        # Servers by other names: only what both can number tells them apart.
        ({'servers': ['x']}, 'unknown'),
        ({'servers': None}, 'unknown'),
        ({'servers': 'nfs1'}, 'unknown'),
        ({'servers': [3, 'nfs1']}, None),
        ({'servers': [3]}, 'unknown'),
        ({'inode': None}, None),
        ({'marker': None}, None),
        ({'inode': '129'}, None),
        ({'export': '/x'}, 'unknown'),
        ({'export': None}, 'unknown'),
        ({'export': '/x', 'inode': None}, 'failure'),
        ({'servers': ['x'], 'marker': 1}, 'failure'),
        ({'family': 'smb'}, 'failure'),
        ({'marker': 1}, None),
        ({'export': '/x', 'marker': 1}, 'failure'),
    ],
)
def test_what_tells_two_shares_apart(changes, outcome):
    for one, other in ((NFS, but(NFS, **changes)), (but(NFS, **changes), NFS)):
        assert [str(f.outcome) for f in compare(one, other)] == ([outcome] if outcome else []), (
            one,
            other,
        )


def test_the_numbers_are_shown_where_the_names_do_not_tell():
    (both,) = compare(CEPH_FUSE, but(CEPH_FUSE, inode=1, marker=2))
    assert (
        '(inode 1 on the target, 128 on the source; marker 2 on the target, 4711 on the source)'
        in both.detail
    )
    (named,) = compare(NFS, but(NFS, source='nfs1:/scratch', export='/scratch', inode=129))
    assert 'inode' not in named.detail
    (kinds,) = compare(NFS, GLUSTER)
    assert 'on the target' not in kinds.detail


def test_a_file_system_without_a_name():
    (finding,) = compare(
        but(NFS, type=None, source=None, mount=None), but(LOCAL, type=None, mount=None)
    )
    assert f'{PATH} is on an unknown file system, mounted at ?' in finding.detail


def test_not_to_be_compared():
    for source, target in (
        (but(NFS, expect='no'), LOCAL),
        (NFS, but(LOCAL, expect='no')),
        (LOCAL, NFS),
        (LVM, LVM),
    ):
        assert compare(source, target) == []
