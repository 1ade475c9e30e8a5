# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck compare`` with whole guests. What libvirt itself prints is compared in tests/lab/test_machine.py."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from tests.cli.commands import piped
from tests.cli.schemas import valid

CPU = """<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>486</model>
<feature policy='require' name='sse2'/></cpu>"""
GUEST = f"""<domain type='kvm'><os><type arch='x86_64' machine='pc-q35-9.2'>hvm</type></os>{CPU}
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><video><model type='cirrus'/></video></devices></domain>"""
OFFERS = """<domainCapabilities><path>/usr/bin/qemu-system-x86_64</path>
<domain>kvm</domain><machine>{machine}</machine><arch>x86_64</arch>
<cpu><mode name='host-model' supported='yes'><model fallback='forbid'>486</model><feature policy='require' name='{feature}'/></mode></cpu>
<devices><video supported='yes'><enum name='modelType'><value>vga</value><value>{video}</value></enum></video></devices>
</domainCapabilities>"""
TYPES = """<capabilities><host><cpu><arch>x86_64</arch></cpu></host><guest><arch name='x86_64'>
<emulator>/usr/bin/qemu-system-x86_64</emulator><machine>{machine}</machine></arch></guest></capabilities>"""


@pytest.fixture
def compare(tmp_path: pathlib.Path) -> Any:
    def run(guest: str, *hosts: str, strict: bool = False) -> Any:
        argv = ['compare', '--guest', str(tmp_path / 'guest.xml')]
        (tmp_path / 'guest.xml').write_text(guest)
        for number, text in enumerate(hosts):
            (tmp_path / f'host{number}.xml').write_text(text)
            argv += ['--host', str(tmp_path / f'host{number}.xml')]
        ran = piped(tmp_path, *argv, *(['--strict'] if strict else []), '-f', 'json')
        return ran.code, valid('compare', ran.json)
    return run


def offers(machine: str = 'pc-q35-9.2', feature: str = 'sse2', video: str = 'cirrus') -> str:
    return OFFERS.format(machine=machine, feature=feature, video=video)


def types(machine: str = 'pc-q35-9.2') -> str:
    return TYPES.format(machine=machine)


def test_all_fits(compare) -> None:
    code, found = compare(GUEST, offers(), types(), strict=True)
    assert (code, found['outcome'], found['findings'], found['reason']) == (0, 'compatible', [], '')


@pytest.mark.parametrize('hosts, code, missing', [
    ((offers(), types('pc-q35-7.2')), 'machine-type-missing', []),
    ((offers(video='qxl'), types()), 'machine-device-missing', []),
    ((offers(feature='sse'), types()), 'cpu-features', ['sse2'])])
def test_what_does_not_fit(compare, hosts, code, missing) -> None:
    status, found = compare(GUEST, *hosts)
    assert (status, found['outcome'], found['missing']) == (1, 'incompatible', missing)
    (finding,) = found['findings']
    assert finding['code'].startswith(code.partition('-')[0]) and finding['outcome'] == 'failure'
    assert finding['detail'].removeprefix('the host ') in found['reason']


def test_several_documents_of_one_host(compare) -> None:
    """The devices of pc are no matter for a guest with q35, and its CPU is in any of them."""
    code, found = compare(GUEST, types(), offers('pc-i440fx-9.2', video='qxl'), offers())
    assert (code, found['findings']) == (0, [])


@pytest.mark.parametrize('hosts, subjects', [
    ((offers(),), ['machine type']), ((offers('pc-i440fx-9.2'), types()), ['devices']),
    ((offers('pc-i440fx-9.2'),), ['machine type', 'devices'])])
def test_what_the_files_do_not_tell(compare, hosts, subjects) -> None:
    code, found = compare(GUEST, *hosts)
    assert (code, found['outcome']) == (0, 'compatible')
    assert [(f['outcome'], f['subject']) for f in found['findings']] == [('unknown', one) for one in subjects]
    assert all('virsh' in f['remedy'] for f in found['findings'])
    assert compare(GUEST, *hosts, strict=True)[0] == 2


def test_an_emulator_of_which_no_file_tells(compare) -> None:
    guest = GUEST.replace('/usr/bin/qemu-system-x86_64', '/usr/libexec/qemu-kvm')
    code, found = compare(guest, offers(), types())
    assert (code, found['outcome']) == (0, 'compatible')
    (finding,) = found['findings']
    assert (finding['outcome'], finding['subject']) == ('unknown', 'emulator')
    assert '/usr/libexec/qemu-kvm' in finding['remedy']
    assert compare(guest, offers(), types(), strict=True)[0] == 2


@pytest.mark.parametrize('machine, topology, told', [
    ('pc-q35-10.0', "<topology sockets='1' cores='2' threads='1'/>", False),
    ('pc-q35-10.0', "<topology sockets='2' cores='1' threads='1'/>", True),
    ('pc-q35-9.2', "<topology sockets='1' cores='2' threads='1'/>", True)])
def test_m8_no_file_tells_the_release_of_libvirt(compare, machine, topology, told) -> None:
    """Row M8: it matters for QEMU 10.0 and several CPUs in a package."""
    guest = GUEST.replace('</model>', f'</model>{topology}').replace('pc-q35-9.2', machine)
    code, found = compare(guest, offers(machine), types(machine))
    assert (code, [(one['outcome'], one['subject']) for one in found['findings']]) == (
        0, [] if told else [('unknown', 'ht')])


@pytest.mark.parametrize('device, outcome, code, strict', [
    ("<hostdev type='pci'/>", 'unknown', 0, 2),
    ("<hostdev type='mdev'/>", 'unknown', 0, 2),
    ("<hostdev type='scsi_host'/>", 'failure', 1, 1),
    ("<filesystem type='mount'/>", 'warning', 0, 0),
    ("<hostdev type='usb'/>", None, 0, 0),
    ("<hostdev type='pci'><teaming type='transient'/></hostdev>", None, 0, 0)])
def test_devices_that_are_bound_to_their_host(compare, device, outcome, code, strict) -> None:
    """Row M5. A warning is no lack of knowledge."""
    guest = GUEST.replace('</devices>', f'{device}</devices>')
    status, found = compare(guest, offers(), types())
    assert (status, [one['outcome'] for one in found['findings']]) == (
        code, [outcome] if outcome else [])
    assert compare(guest, offers(), types(), strict=True)[0] == strict


def test_only_a_cpu(compare) -> None:
    code, found = compare(CPU, offers(), types())
    assert (code, found['outcome'], found['findings'][0]['subject']) == (0, 'compatible', 'guest')
    assert compare(CPU, offers(), strict=True)[0] == 2


@pytest.mark.parametrize('name', ['pc&#x7f;', 'pc&#x9b;31m'])
def test_a_hostile_guest(compare, name) -> None:
    """A machine type with a terminal's control characters is unknown, in a line that shows them."""
    code, found = compare(GUEST.replace('pc-q35-9.2', name), offers(), types())
    (finding,) = found['findings']
    assert (code, finding['outcome'], finding['subject']) == (0, 'unknown', 'guest')
    detail = finding['detail']
    assert detail.isascii() and detail.isprintable() and '\\x' in detail
    assert compare(GUEST.replace('pc-q35-9.2', name), offers(), types(), strict=True)[0] == 2


@pytest.mark.parametrize('guest', [
    GUEST.replace('</devices>', f'<!--{"x" * 2 ** 23}--></devices>'),
    f'<!DOCTYPE d [<!ENTITY a "{"b" * 99}">]>' + GUEST.replace('cirrus', '&a;'),
    GUEST.replace('pc-q35-9.2', 'pc\x1b[31m'), GUEST[:200]])
def test_a_guest_that_no_libvirt_prints(tmp_path, guest) -> None:
    """Megabytes, entities, an escape that XML forbids, half a document: one line, and no result."""
    for name, text in (('guest', guest), ('host', offers())):
        (tmp_path / f'{name}.xml').write_text(text)
    ran = piped(tmp_path, 'compare', '--guest', str(tmp_path / 'guest.xml'), '--host',
                str(tmp_path / 'host.xml'), '-f', 'json')
    (line,) = ran.err.strip().splitlines()
    assert ran.code == 255 and 'guest.xml' in line and line.isprintable() and len(line) < 300
