# SPDX-License-Identifier: Apache-2.0
"""What we say that QEMU's user may not open, a real libvirt's QEMU may not open; and what it may
(V5). The users, modes and daemons are real.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Iterator

import pytest

from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.storage.looking import Look
from nova_migcheck.volumes import opening, qemu
from tests.lab import libvirtd

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]

# libvirt probes QEMU again for each question while QEMU's user may not open /dev/kvm.
USER, GROUP = 64055, os.stat('/dev/kvm').st_gid if os.path.exists('/dev/kvm') else 64056
GUEST = """<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='usb' model='none'/><memballoon model='none'/><disk type='file' device='disk'>
<driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>
</devices></domain>"""


@pytest.fixture(scope='module')
def node(request: pytest.FixtureRequest) -> Iterator[libvirtd.Libvirtd]:
    """A libvirtd with another user for QEMU, and dynamic_ownership as the test says."""
    with libvirtd.Libvirtd('node2') as node:
        node.change_qemu_conf(
            user=f'"+{USER}"', group=f'"+{GROUP}"', dynamic_ownership=str(request.param))
        node.gives = bool(request.param)
        yield node


@pytest.fixture
def instances() -> Iterator[pathlib.Path]:
    """A directory that everybody may enter, unlike those of pytest."""
    path = pathlib.Path(tempfile.mkdtemp(dir='/var/tmp'))
    path.chmod(0o755)
    (path / 'server').mkdir()
    (path / 'server/disk').write_bytes(bytes(2**20))
    yield path
    shutil.rmtree(path)


def ours(conn: Any, instances: pathlib.Path, gives: bool) -> bool:
    """Whether we say that it may."""
    who = qemu.of_libvirt(cpuxml.parse(conn.getCapabilities()))
    assert who is not None and who.user == (USER, GROUP)
    look = Look(lambda: opening.directory(who.user, str(instances), True)).wait(30)
    assert look is not None and look['squashed'] is False
    found = [look['denied']]
    if not gives:
        disks = Look(lambda: opening.disks(who.user, str(instances / 'server'))).wait(30)
        assert disks is not None
        found.append(disks['denied'])
    assert all(one['tried'] and one['path'] and one['words'] for one in found if one)
    return not any(found)


def theirs(conn: Any, instances: pathlib.Path) -> str:
    """What libvirt says when it starts such a guest, '' if it runs."""
    import libvirt

    try:
        conn.createXML(GUEST.format(disk=instances / 'server/disk')).destroy()
    except libvirt.libvirtError as error:
        return str(error)
    return ''


@pytest.mark.parametrize(
    'node, directory, disk, owner',
    [
        (0, 0o755, 0o600, (0, 0)),
        (0, 0o755, 0o640, (0, GROUP)),
        (0, 0o755, 0o660, (0, GROUP)),
        (1, 0o755, 0o600, (0, 0)),
        (1, 0o711, 0o600, (0, 0)),
        (1, 0o750, 0o600, (0, 0)),
    ],
    indirect=['node'],
)
def test_v5(
    node: Any, instances: pathlib.Path, directory: int, disk: int, owner: tuple[int, int]
) -> None:
    conn = node.connect()
    path = instances / 'server/disk'
    path.chmod(disk)
    shutil.chown(path, *owner)
    instances.chmod(directory)
    expected = ours(conn, instances, node.gives)
    said = theirs(conn, instances)
    assert (said == '') is expected, said
    assert expected or 'Permission denied' in said


SQUASHED = """
import sys
sys.path[:0] = {path!r}
from nova_migcheck.volumes import opening
print(opening.directory(opening.User({user}, {group}), {instances!r}, True)['squashed'])
"""


@pytest.mark.parametrize('owner, squashed', [(4711, True), (0, False)])
def test_a_share_that_takes_root_for_nobody(
    instances: pathlib.Path, owner: int, squashed: bool
) -> None:
    """A root to whom the owner of the disk is unknown has no rights over it, as root on a client of
    an NFS server with root_squash. Here it is the root of a user namespace.
    """
    disk = instances / 'server/disk'
    disk.chmod(0o644)
    shutil.chown(disk, owner, owner)
    code = SQUASHED.format(path=sys.path, user=USER, group=GROUP, instances=str(instances))
    process = subprocess.Popen(
        ['unshare', '--user', 'sh', '-c', 'echo; read _; exec "$@"', '-',
         sys.executable, '-c', code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    for name, number in (('uid', USER), ('gid', GROUP)):
        pathlib.Path(f'/proc/{process.pid}/{name}_map').write_text(f'0 0 1\n{number} {number} 1\n')
    told, _ = process.communicate('\n', timeout=60)
    assert told.strip() == str(squashed)
