# SPDX-License-Identifier: Apache-2.0
"""What we refuse is what libvirt refuses, between two real ones: rows M1 to M4, and a pair that fits."""

from __future__ import annotations

import pathlib
import re
import shutil
from typing import Any, Callable, Iterator

import pytest

from nova_migcheck.checks.base import Fact, Settings
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.checks.registry import Registry
from nova_migcheck.cpu import xml as cpuxml
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
<video><model type='{video}'/></video><graphics type='vnc' listen='127.0.0.1'/><memballoon model='none'/></devices></domain>"""


@pytest.fixture
def target(source: libvirtd.Libvirtd, tmp_path: pathlib.Path) -> Iterator[Callable[..., libvirtd.Libvirtd]]:
    """Start another libvirtd, with changes to what it believes its QEMU to be."""
    nodes = []

    def start(change: Callable[[str], str] = str, **settings: str) -> libvirtd.Libvirtd:
        copy = tmp_path / 'cache'
        shutil.copytree(source.root / 'cache', copy)
        for file in copy.glob('qemu/capabilities/*.xml'):
            file.write_text(change(file.read_text()))
        node = libvirtd.Libvirtd('node2', cache=copy)
        nodes.append(node)
        node.setUp()
        if settings:
            node.stop()
            conf = node.root / 'etc/libvirtd.conf'
            conf.write_text(''.join(
                line for line in conf.read_text().splitlines(True) if line.split(' ')[0] not in settings)
                + ''.join(f'{name} = "{value}"\n' for name, value in settings.items()))
            node.start()
        return node

    yield start
    for node in nodes:
        node.cleanUp()


def facts(node: libvirtd.Libvirtd) -> dict[str, Any]:
    settings = Settings(options={'libvirt': {'virt_type': 'qemu'}})
    (fact,) = [one for one in MachineCheck()._answers(settings, node.connect()) if isinstance(one, Fact)]
    return {'machine': fact.value}


def run(source: libvirtd.Libvirtd, target: libvirtd.Libvirtd, video: str = 'vga', emulator: str = libvirtd.QEMU
        ) -> tuple[list[Any], str]:
    """Migrate a guest; what we had said of it, and what libvirt says, '' when it arrives."""
    import libvirt
    domain = source.connect().createXML(GUEST.format(video=video, emulator=emulator))
    try:
        there, here = facts(target), facts(source)
        needs = REGISTRY.needs(cpuxml.parse(domain.XMLDesc()))
        found = [*REGISTRY.compare(needs, there), *REGISTRY.between(here, there), *REGISTRY.same(here, there)]
        try:
            arrived = domain.migrate3(target.connect(), {'migrate_uri': 'tcp://127.0.0.1'}, libvirt.VIR_MIGRATE_LIVE)
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
    name = re.search(r"alias='pc'", text) and re.search(r"name='(pc-i440fx-[\d.]+)'[^>]*alias='pc'", text)
    assert name, text[:2000]
    return re.sub(rf"\s*<machine [^>]*name='{re.escape(name[1])}'[^>]*/>", '', text)


def test_a_pair_that_fits(source, target) -> None:
    assert run(source, target()) == ([], '')


def test_m1_machine_type(source, target) -> None:
    (finding,), said = run(source, target(without_type))
    assert finding.code == 'machine-type-missing' and 'does not support machine type' in said
    assert finding.detail.partition('machine type ')[2].partition(',')[0] in said


def test_m2_emulator(source, target) -> None:
    """What no libvirt of Debian has; asked of the real one."""
    there = facts(target())
    assert libvirtd.QEMU in there['machine']['emulators'].split()
    lacks = there['machine']['no_emulators'].split()
    assert '/usr/libexec/qemu-kvm' in lacks
    needs = {'arch': 'x86_64', 'type': 'pc', 'emulator': '/usr/libexec/qemu-kvm'}
    (finding,) = MachineCheck.compare(needs, there)
    assert finding.code == 'machine-emulator-missing'


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
