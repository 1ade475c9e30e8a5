# SPDX-License-Identifier: Apache-2.0
"""What we refuse is what libvirt refuses, between two real ones: rows M1 to M6, and W5."""

from __future__ import annotations

import functools
import pathlib
import re
import shutil
import subprocess
from typing import Any, Callable, Iterator

import pytest

from nova_migcheck.checks.base import Fact, Server, Settings
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.checks.registry import Registry
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.machine import offered
from tests.lab import libvirtd

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]

REGISTRY = Registry([MachineCheck])
GUEST = """<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>{emulator}</emulator><controller type='usb' model='none'/>
<video><model type='{video}'/></video><graphics type='vnc' listen='127.0.0.1'/>
<memballoon model='none'/>{more}</devices></domain>"""
# Where RHEL has QEMU, and Debian has nothing.
RHEL_QEMU = '/usr/libexec/qemu-kvm'


@pytest.fixture
def target(
    source: libvirtd.Libvirtd, tmp_path: pathlib.Path
) -> Iterator[Callable[..., libvirtd.Libvirtd]]:
    """Start another libvirtd, with changes to what it believes its QEMU to be."""
    nodes = []

    def start(
        change: Callable[[str], str] = str, qemu_user: str = '', **settings: str
    ) -> libvirtd.Libvirtd:
        copy = tmp_path / 'cache'
        shutil.copytree(source.root / 'cache', copy)
        for file in copy.glob('qemu/capabilities/*.xml'):
            file.write_text(change(file.read_text()))
        node = libvirtd.Libvirtd('node2', cache=copy)
        nodes.append(node)
        node.setUp()
        if qemu_user:
            node.stop()
            node.root.chmod(0o755)
            conf = node.root / 'etc/qemu.conf'
            conf.write_text(
                conf.read_text()
                .replace('user = "root"', f'user = "{qemu_user}"')
                .replace('group = "root"', 'group = "kvm"')
                .replace('dynamic_ownership = 0', 'dynamic_ownership = 1')
            )
            node.start()
        if settings:
            node.stop()
            conf = node.root / 'etc/libvirtd.conf'
            conf.write_text(
                ''.join(
                    line
                    for line in conf.read_text().splitlines(True)
                    if line.split(' ')[0] not in settings
                )
                + ''.join(f'{name} = "{value}"\n' for name, value in settings.items())
            )
            node.start()
        return node

    yield start
    for node in nodes:
        node.cleanUp()


def facts(node: libvirtd.Libvirtd, post_copy: bool = False) -> dict[str, Any]:
    settings = Settings(
        options={'libvirt': {'virt_type': 'qemu', 'live_migration_permit_post_copy': post_copy}}
    )
    (fact,) = [
        one for one in MachineCheck()._answers(settings, node.connect()) if isinstance(one, Fact)
    ]
    return {'machine': fact.value}


def run(
    source: libvirtd.Libvirtd,
    target: libvirtd.Libvirtd,
    video: str = 'vga',
    emulator: str = libvirtd.QEMU,
    more: str = '',
    post_copy: bool = False,
    prepare: Callable[[Any], Any] = lambda domain: None,
) -> tuple[list[Any], str]:
    """Migrate a guest; what we had said of it, and what libvirt says, '' when it arrives.

    :param more: devices of the guest
    :param post_copy: whether to permit that
    :param prepare: is given the running guest before we look at it
    """
    import libvirt

    domain = source.connect().createXML(GUEST.format(video=video, emulator=emulator, more=more))
    try:
        prepare(domain)
        there, here = facts(target), facts(source, post_copy)
        live = cpuxml.parse(domain.XMLDesc())
        found = [
            *REGISTRY.compare(REGISTRY.needs(live), there),
            *REGISTRY.leaves(live, Server(), there),
            *REGISTRY.between(here, there),
            *REGISTRY.same(here, there),
        ]
        # Both read the same files here, whatever libvirt believes.
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE
        if post_copy:
            flags |= libvirt.VIR_MIGRATE_POSTCOPY
        try:
            arrived = domain.migrate3(target.connect(), {'migrate_uri': 'tcp://127.0.0.1'}, flags)
        except libvirt.libvirtError as error:
            return found, str(error)
        arrived.destroy()
        return found, ''
    finally:
        try:
            domain.destroy()
        except libvirt.libvirtError:
            pass


def without_type(text: str) -> str:
    """An older or newer QEMU: it has neither the type nor the alias that led to it."""
    name = re.search(r"alias='pc'", text) and re.search(
        r"name='(pc-i440fx-[\d.]+)'[^>]*alias='pc'", text
    )
    assert name, text[:2000]
    return re.sub(rf"\s*<machine [^>]*name='{re.escape(name[1])}'[^>]*/>", '', text)


def test_a_pair_that_fits(source, target) -> None:
    assert run(source, target()) == ([], '')


def test_m1_machine_type(source, target) -> None:
    (finding,), said = run(source, target(without_type))
    assert finding.code == 'machine-type-missing' and 'does not support machine type' in said
    assert finding.detail.partition('machine type ')[2].partition(',')[0] in said


def as_on_rhel(node: libvirtd.Libvirtd) -> None:
    """Let QEMU be there by another name too, for this libvirtd only."""
    assert node.process is not None
    subprocess.run(
        [
            'nsenter',
            '-t',
            str(node.process.pid),
            '-m',
            'sh',
            '-c',
            f'mount -t tmpfs none {pathlib.Path(RHEL_QEMU).parent} && ln -s {libvirtd.QEMU} {RHEL_QEMU}',
        ],
        check=True,
    )


@pytest.fixture
def rhel(cache: pathlib.Path, source) -> Iterator[libvirtd.Libvirtd]:
    """A source whose QEMU has another name, too."""
    node = libvirtd.Libvirtd('node3', cache=cache)
    node.setUp()
    try:
        as_on_rhel(node)
        yield node
    finally:
        node.cleanUp()


def test_m2_emulator(rhel, target) -> None:
    node = target()
    there = facts(node)['machine']
    assert (
        libvirtd.QEMU in there['emulators'].split() and RHEL_QEMU in there['no_emulators'].split()
    )
    (finding,), said = run(rhel, node, emulator=RHEL_QEMU)
    assert finding.code == 'machine-emulator-missing' and RHEL_QEMU in finding.detail
    assert 'Cannot check QEMU binary' in said and RHEL_QEMU in said


def test_m2_a_symbolic_link_of_that_name(rhel, target) -> None:
    """Only libvirtd sees it: nova-compute, which is in another namespace, must not look for it."""
    node = target()
    as_on_rhel(node)
    assert run(rhel, node, emulator=RHEL_QEMU) == ([], '')


def test_m3_host_uuid(source, target) -> None:
    uuid = facts(source)['machine']['uuid']
    (finding,), said = run(source, target(host_uuid=uuid))
    assert finding.code == 'machine-same-uuid' and 'same host' in said and uuid in said


def test_m3_the_same_hardware_with_another_host_uuid(source, target) -> None:
    """What libvirt says counts; the UUID of the firmware is the same for both here."""
    assert run(source, target(host_uuid='0a6de5b2-0000-4000-8000-000000000001')) == ([], '')


def test_m4_video(source, target) -> None:
    node = target(lambda text: re.sub(r"\s*<flag name='cirrus-vga'/>", '', text))
    (finding,), said = run(source, node, video='cirrus')
    assert finding.code == 'machine-device-missing' and 'video cirrus' in finding.detail
    assert 'cirrus' in said or 'video' in said


def test_m4_another_device_is_missing(source, target) -> None:
    """The guest has none of these."""
    node = target(lambda text: re.sub(r"\s*<flag name='cirrus-vga'/>", '', text))
    assert run(source, node) == ([], '')


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> str:
    (tmp_path / 'disk').write_bytes(b'\0' * 2**20)
    return (
        f"<disk type='file' device='disk'><driver type='raw'/><source file='{tmp_path}/disk'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def test_m4_disk_bus(source, target, disk) -> None:
    node = target(lambda text: re.sub(r"\s*<flag name='ich9-ahci'/>", '', text))
    more = disk.replace("dev='vda' bus='virtio'", "dev='sda' bus='sata'")
    (finding,), said = run(source, node, more=more)
    assert finding.code == 'machine-device-missing' and 'disk bus sata' in finding.detail
    assert 'SATA' in said
    assert run(source, node, more=disk) == ([], '')


def copy_disk(domain: Any, tmp_path: pathlib.Path) -> None:
    """Begin to mirror the disk; the job goes on until it is ended."""
    domain.blockCopy(
        'vda', f"<disk type='file'><driver type='raw'/><source file='{tmp_path}/copy'/></disk>"
    )


def test_m5_a_block_job(source, target, disk, tmp_path) -> None:
    (finding,), said = run(
        source, target(), more=disk, prepare=lambda domain: copy_disk(domain, tmp_path)
    )
    assert finding.code == 'machine-block-job' and 'vda' in finding.detail
    assert 'active block job' in said


def test_m5_the_block_job_was_ended(source, target, disk, tmp_path) -> None:
    def ended(domain: Any) -> None:
        copy_disk(domain, tmp_path)
        domain.blockJobAbort('vda')

    assert run(source, target(), more=disk, prepare=ended) == ([], '')


def test_m5_a_file_system_that_the_guest_has_not_mounted(source, target, tmp_path) -> None:
    """So it is a warning only."""
    more = f"<filesystem type='mount'><source dir='{tmp_path}'/><target dir='share'/></filesystem>"
    (finding,), said = run(source, target(), more=more)
    assert (finding.code, finding.outcome.value, said) == ('machine-fixed', 'warning', '')


@pytest.fixture
def sysctl(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The file that is read in place of the kernel's, which is left alone."""
    setting = tmp_path / 'unprivileged_userfaultfd'
    setting.write_text('0\n')
    monkeypatch.setattr(
        offered,
        'no_userfaultfd',
        functools.partial(
            offered.no_userfaultfd, setting=str(setting), device=str(tmp_path / 'none')
        ),
    )
    return setting


def kernels_own() -> str:
    return pathlib.Path(offered._USERFAULTFD).read_text().strip()


def test_m6_post_copy(source, target, sysctl) -> None:
    (finding,), said = run(source, target(qemu_user='libvirt-qemu'), post_copy=True)
    assert finding.code == 'machine-post-copy' and 'unprivileged_userfaultfd = 0' in finding.detail
    # What QEMU does is decided by the kernel.
    assert ('Postcopy is not supported' in said) == (kernels_own() == '0'), said


def test_m6_post_copy_is_off(source, target, sysctl) -> None:
    assert run(source, target(qemu_user='libvirt-qemu')) == ([], '')


def test_m6_qemu_is_root(source, target, sysctl) -> None:
    assert run(source, target(), post_copy=True) == ([], '')


def test_m6_the_sysctl_permits_it(source, target, sysctl) -> None:
    sysctl.write_text('1\n')
    found, said = run(source, target(qemu_user='libvirt-qemu'), post_copy=True)
    assert found == [] and bool(said) == (kernels_own() == '0'), said


@pytest.mark.parametrize('medium', [False, True])
def test_w5_a_cd_rom(source, target, tmp_path, medium) -> None:
    """Row W5: empty, and with a medium that both hosts have."""
    (tmp_path / 'cd.iso').write_bytes(b'\0' * 2**20)
    told = f"<source file='{tmp_path}/cd.iso'/>" if medium else ''
    more = f"<disk type='file' device='cdrom'>{told}<target dev='hdc' bus='ide'/><readonly/></disk>"
    assert run(source, target(), more=more) == ([], '')
