# SPDX-License-Identifier: Apache-2.0
import pytest

from nova_migcheck.storage import mounts

PATH = '/var/lib/nova/instances'
ROOT = '21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw'


def table(*lines):
    return list(mounts.parse([ROOT, *lines]))


def line(number, parent, root, point, system, source, options='rw'):
    return (
        f'{number} {parent} 0:50 {root} {point} rw,relatime shared:2 - {system} {source} {options}'
    )


@pytest.mark.parametrize(
    'lines, number',
    [
        ([], 21),
        ([line(30, 21, '/', PATH, 'nfs4', 's:/e')], 30),
        ([line(30, 21, '/', PATH + '-old', 'nfs4', 's:/e')], 21),
        (
            [line(30, 21, '/', '/var', 'xfs', '/dev/vdb'), line(31, 30, '/', PATH, 'nfs4', 's:/e')],
            31,
        ),
        # Mounted over itself: the last one is seen.
        ([line(30, 21, '/', PATH, 'nfs4', 's:/e'), line(31, 30, '/', PATH, 'tmpfs', 'none')], 31),
        # A later mount over a parent hides the share below it.
        (
            [
                line(30, 21, '/', PATH, 'nfs4', 's:/e'),
                line(31, 21, '/', '/var/lib', 'tmpfs', 'none'),
            ],
            31,
        ),
        (['rubbish', '1 2 3', line('x', 21, '/', PATH, 'nfs4', 's:/e')], 21),
    ],
)
def test_the_mount_that_a_path_is_on(lines, number):
    assert mounts.covering(PATH, table(*lines)).number == number


def test_a_table_that_makes_no_sense_ends_too():
    assert mounts.covering(PATH, []) is None
    loop = [line(30, 31, '/', '/var', 'xfs', 'a'), line(31, 30, '/', PATH, 'xfs', 'b')]
    assert mounts.covering(PATH, list(mounts.parse(loop))) is None


def test_escaped_names_and_read_only():
    (mount,) = mounts.parse([line(30, 21, '/', r'/mnt/a\040b', 'nfs', 's:/e', 'ro,hard')])
    assert mount.point == '/mnt/a b' and mount.read_only
    assert not table()[0].read_only


@pytest.mark.parametrize(
    'system, source, options, root, path, expected',
    [
        (
            'nfs4',
            'NFS.example.org.:/export//nova/',
            'rw,addr=10.0.0.5',
            '/',
            '',
            (['10.0.0.5', 'nfs.example.org'], '/export/nova'),
        ),
        ('nfs', '[FD00::0005]:/export', 'rw', '/', '/sub', (['fd00::5'], '/export/sub')),
        ('nfs4', 's:/', 'rw', '/', '', (['s'], '/')),
        (
            'ceph',
            '10.0.0.2:6789,10.0.0.1:6789:/nova',
            'rw',
            '/',
            '',
            (['10.0.0.1:6789', '10.0.0.2:6789'], '/nova'),
        ),
        ('ceph', 'nova@b7f4.cephfs=/nova', 'rw', '/', '', (['b7f4.cephfs'], '/nova')),
        ('ceph', '10.0.0.1:6789:/', 'rw', '/nova', '', (['10.0.0.1:6789'], '/nova')),
        ('fuse.glusterfs', 'gluster1:nova', 'rw', '/', '', (['gluster1'], '/nova')),
        ('fuse.glusterfs', 'gluster1:/nova', 'rw', '/', '', (['gluster1'], '/nova')),
        ('cifs', '//files/nova', 'rw', '/', '/x', (['files'], '/nova/x')),
        (
            'lustre',
            '10.0.0.1@tcp:10.0.0.2@tcp:/nova',
            'rw',
            '/',
            '',
            (['10.0.0.1@tcp', '10.0.0.2@tcp'], '/nova'),
        ),
        ('fuse.ceph-fuse', 'ceph-fuse', 'rw', '/', '', ([], '')),
        ('ocfs2', '/dev/mapper/nova', 'rw', '/', '', ([], '')),
        ('ext4', '/dev/vdb', 'rw', '/', '', ([], '')),
    ],
)
def test_what_another_host_can_compare(system, source, options, root, path, expected):
    (mount,) = mounts.parse([line(30, 21, root, PATH, system, source, options)])
    assert mount.export(PATH + path) == expected


def test_this_machine_s_own_table():
    assert mounts.covering('/', mounts.read()).point == '/'


SHARED = {
    'nfs': 'nfs',
    'nfs4': 'nfs',
    'cifs': 'smb',
    'smb3': 'smb',
    'smbfs': 'smb',
    'ceph': 'ceph',
    'fuse.ceph': 'ceph',
    'fuse.ceph-fuse': 'ceph',
    'glusterfs': 'glusterfs',
    'fuse.glusterfs': 'glusterfs',
    'ocfs2': 'ocfs2',
    'gfs2': 'gfs2',
    'gpfs': 'gpfs',
    'afs': 'afs',
    'lustre': 'lustre',
    'beegfs': 'beegfs',
    'fuse.quobyte': 'quobyte',
    'acfs': 'acfs',
    'ext4': '',
    'xfs': '',
    'fuse.sshfs': '',
    'tmpfs': '',
}


@pytest.mark.parametrize('system, family', SHARED.items())
def test_families(system, family):
    (mount,) = mounts.parse([line(30, 21, '/', PATH, system, 's:/e')])
    assert mount.family == family
    assert mount.numbered is (
        family in {'nfs', 'ceph', 'glusterfs', 'ocfs2', 'gfs2', 'gpfs', 'lustre'}
    )
    named = bool(family) and family not in {'ocfs2', 'gfs2', 'gpfs', 'acfs'}
    assert bool(mount.export(PATH)[1]) is named


@pytest.mark.parametrize(
    'system, source, expected',
    [
        ('cifs', '\\\\files\\nova', (['files'], '/nova')),
        ('cifs', '', ([], '')),
        ('lustre', 'nova', ([], '')),
        ('nfs4', 'nfs1', ([], '')),
        ('fuse.glusterfs', 'g1,g2:nova', (['g1', 'g2'], '/nova')),
        ('ceph', ':/nova', ([], '/nova')),
        ('ceph', 'b7f4.cephfs=/nova', (['b7f4.cephfs'], '/nova')),
        ('nfs', 'a=/b:/export', (['a=/b'], '/export')),
    ],
)
def test_sources(system, source, expected):
    mount = mounts.Mount(30, 21, '/', PATH, system, source)
    assert mount.export(PATH) == expected


def test_the_columns_of_the_table():
    (one,) = mounts.parse(['30 21 0:50 /sub /mnt ro,noexec - nfs4 s:/e rw,hard'])
    assert one == mounts.Mount(
        30, 21, '/sub', '/mnt', 'nfs4', 's:/e', frozenset({'ro', 'noexec', 'rw', 'hard'})
    )
    (one,) = mounts.parse(['30 21 0:50 / /mnt rw - nfs4 s:/e'])
    assert one.options == {'rw'} and not one.read_only
    for bad in (
        '30 21 0:50 / /mnt rw nfs4 s:/e',
        '30 21 0:50 / /mnt - nfs4 s:/e',
        '30 21 0:50 / /mnt rw - nfs4',
        'x 21 0:50 / /mnt rw - a b',
        '30 x 0:50 / /mnt rw - a b',
    ):
        assert not list(mounts.parse([bad])), bad


def test_a_path_below_the_root_only():
    assert mounts.covering('/srv', table()).number == 21
    assert mounts.covering('/', table(line(30, 21, '/', '/srv', 'nfs4', 's:/e'))).number == 21
    # The root of a container is a mount whose parent is not in its table, or is itself.
    for parent in (5, 21):
        (root,) = mounts.parse([f'21 {parent} 0:50 / / rw - ext4 /dev/vda1 rw'])
        assert mounts.covering(PATH, [root]) == root


def test_the_table_as_bytes(tmp_path, monkeypatch):
    with open(mounts.TABLE, 'rb') as file:
        assert b' / ' in file.read() and b' / ' in mounts.table()
    monkeypatch.setattr(mounts, 'TABLE', str(tmp_path / 'gone'))
    assert mounts.table() == b''


@pytest.mark.parametrize(
    'row, serves',
    [
        ('   0: 00000000:0801 00000000:0000 0A 00000000:00000000', True),
        ('   0: 00000000000000000000000000000000:0801 00:0000 0A 00', True),
        ('   0: 0100007F:9C40 0100007F:0801 01 00000000:00000000', False),
        ('   0: 0100007F:0801 0100007F:9C40 01 00000000:00000000', False),
        ('   0: 00000000:0802 00000000:0000 0A 00000000:00000000', False),
        ('', False),
    ],
)
def test_what_listens_on_the_port_of_nfs(tmp_path, row, serves):
    path = tmp_path / 'tcp'
    path.write_text(f'  sl  local_address rem_address   st tx_queue rx_queue\n{row}\n')
    assert mounts.serves_nfs([str(tmp_path / 'none'), str(path)]) is serves


def test_no_table_of_sockets(tmp_path):
    assert not mounts.serves_nfs([str(tmp_path / 'none')])
