# SPDX-License-Identifier: Apache-2.0
"""No guest is refused that fits.

The hosts are those that libvirt's developers have recorded, of libvirt 9 and 11 and QEMU 7.2 to
10.0; ``tools/recorded_hosts.py`` says what is kept of them. A guest is what libvirt makes there of
host-model, with each device that the host offers. It must be accepted by its own host, and by each
newer one that has its machine type.
"""

from __future__ import annotations

import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator

import pytest

from nova_migcheck import cpu
from nova_migcheck.cli import compare, wholeguest
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.definition import NOT_BY_DEFAULT
from nova_migcheck.cpu.models import CpuMap
from nova_migcheck.machine import guest

RECORDED = json.loads((pathlib.Path(__file__).parent / 'recorded.json').read_text())
HOSTS = RECORDED['hosts']
QEMU = '/usr/bin/qemu-system-x86_64'
# What a guest has only of its own host: libvirt's two releases were recorded with other files of
# firmware, and a file system keeps a guest where it is.
OWN_ONLY = ('loader', 'secure', 'filesystem')


def release(host: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return guest.version(host['libvirt']), guest.version(host['qemu'])


def types(host: dict[str, Any], family: str) -> list[str]:
    """The newest numbered type of a family, and two that guests have had for years."""
    numbered = [
        name for name in guest.unfold(host['types']) if re.fullmatch(rf'{family}-\d+\.\d+', name)
    ]
    return [
        max(numbered, key=lambda name: guest.version(name.rpartition('-')[2])),
        f'{family}-6.2',
        f'{family}-4.2',
    ]


def features(host: dict[str, Any], virt: str) -> tuple[str, str, dict[str, str]]:
    model, vendor, text = host['cpus'][virt]
    return (
        model,
        vendor,
        {
            name.lstrip('-'): 'disable' if name.startswith('-') else 'require'
            for name in text.split()
        },
    )


def cpu_of(model: str, vendor: str, names: dict[str, str]) -> str:
    return f'<model fallback="forbid">{model}</model><vendor>{vendor}</vendor>' + ''.join(
        f'<feature policy="{policy}" name="{name}"/>' for name, policy in names.items()
    )


def domain(host: dict[str, Any], virt: str, family: str, machine: str) -> ElementTree.Element:
    """A running guest with everything that its host offers."""
    root = ElementTree.fromstring(
        f'<domain type="{virt}"><os><type arch="x86_64" machine="{machine}"/></os>'
        f'<devices><emulator>{QEMU}</emulator></devices></domain>'
    )
    model, vendor, names = features(host, virt)
    names = {name: policy for name, policy in names.items() if name not in NOT_BY_DEFAULT}
    root.append(
        ElementTree.fromstring(
            f'<cpu mode="custom" match="exact" check="full">{cpu_of(model, vendor, names)}</cpu>'
        )
    )
    lists = RECORDED['devices'][host['devices'][family]]
    for device in guest.DEVICES:
        for value in lists[device.name].split() if device.name not in OWN_ONLY else ():
            element = ElementTree.SubElement(root.find('devices'), device.element)
            if device.below:
                element = ElementTree.SubElement(element, device.below)
            element.set(device.attribute, value)
    return root


def documents(host: dict[str, Any], virt: str, family: str) -> dict[str, ElementTree.Element]:
    """What libvirt prints of a host."""
    root = ElementTree.fromstring(
        f'<domainCapabilities><path>{QEMU}</path><domain>{virt}</domain>'
        f'<machine>{family}-{host["qemu"][:-2]}</machine><arch>x86_64</arch>'
        f'<cpu><mode name="host-model" supported="yes">{cpu_of(*features(host, virt))}</mode></cpu>'
        '<os/><devices/></domainCapabilities>'
    )
    for device in guest.DEVICES:
        below = root.find(f'devices/{device.element}')
        if below is None:
            below = ElementTree.SubElement(root.find('devices'), device.element, supported='yes')
        enum = ElementTree.SubElement(below, 'enum', name=device.enum)
        for value in RECORDED['devices'][host['devices'][family]][device.name].split():
            ElementTree.SubElement(enum, 'value').text = value
    capabilities = ElementTree.fromstring(
        f'<capabilities><guest><arch name="x86_64"><emulator>{QEMU}</emulator></arch></guest>'
        '</capabilities>'
    )
    for name in guest.unfold(host['types']):
        ElementTree.SubElement(capabilities.find('guest/arch'), 'machine').text = name
    return {'domcapabilities': root, 'capabilities': capabilities}


def pairs() -> Iterator[tuple[dict[str, Any], dict[str, Any], str, str, str]]:
    """Source, target, virt type, family and machine type."""
    for source in HOSTS:
        for family in source['devices']:
            for machine in types(source, family):
                for target in HOSTS:
                    newer = all(
                        there >= here for here, there in zip(release(source), release(target))
                    )
                    if (
                        newer
                        and source['variant'] == target['variant']
                        and machine in guest.unfold(target['types'])
                    ):
                        yield from (
                            (source, target, virt, family, machine) for virt in ('kvm', 'qemu')
                        )


def label(
    source: dict[str, Any], target: dict[str, Any], virt: str, family: str, machine: str
) -> str:
    return ' '.join(
        [
            machine,
            virt,
            *(
                f'libvirt {host["libvirt"]} QEMU {host["qemu"]}{host["variant"]}'
                for host in (source, target)
            ),
        ]
    )


def test_what_was_recorded() -> None:
    assert {host['libvirt'] for host in HOSTS} == {'9.0.0', '11.3.0'}
    assert {host['qemu'] for host in HOSTS} >= {
        '7.2.0',
        '8.0.0',
        '8.1.0',
        '8.2.0',
        '9.0.0',
        '9.1.0',
        '9.2.0',
        '10.0.0',
    }
    assert len(list(pairs())) >= 500


def test_no_good_pair_is_refused_for_its_machine() -> None:
    refused = []
    for pair in pairs():
        source, target, virt, family, machine = pair
        found = wholeguest.compare(
            domain(source, virt, family, machine), documents(target, virt, family)
        )
        if found:
            refused.append(f'{label(*pair)}: {found}')
    assert refused == []


def has(host: dict[str, Any], virt: str, feature: str) -> bool:
    return features(host, virt)[2].get(feature) == 'require'


# What a newer host really lacks: the kernel of the machine that was recorded took xsaves away from
# such CPUs (AMD's erratum 1386), and QEMU 9.1 took pcommit away from emulation.
GONE = {'kvm': 'xsaves', 'qemu': 'pcommit'}


@pytest.mark.skipif(
    not pathlib.Path('/usr/share/libvirt/cpu_map').exists(),
    reason="libvirt's CPU models are not here",
)
def test_no_good_pair_is_refused_for_its_cpu() -> None:
    """A CPU is the same for each machine type, so once for each two hosts."""
    cpu_map, wrong, good = CpuMap(), [], 0
    for pair in pairs():
        source, target, virt, family, machine = pair
        if family != 'pc-q35' or machine != types(source, family)[0]:
            continue
        texts = [
            ElementTree.tostring(one, encoding='unicode')
            for one in (
                domain(source, virt, family, machine),
                documents(target, virt, family)['domcapabilities'],
            )
        ]
        result = compare.compare_definitions(*map(cpuxml.parse_definition, texts), cpu_map)
        gone = has(source, virt, GONE[virt]) and not has(target, virt, GONE[virt])
        good += not gone
        if (
            result.missing != ((GONE[virt],) if gone else ())
            or (result.outcome == cpu.INCOMPATIBLE) != gone
        ):
            wrong.append(f'{label(*pair)}: {result.outcome} {result.reason}')
    assert wrong == [] and good > 50


def test_a_device_that_a_host_lacks_is_found() -> None:
    """The same documents, with one value less."""
    host = next(one for one in HOSTS if one['qemu'] == '9.0.0')
    found = documents(host, 'kvm', 'pc-q35')
    models = found['domcapabilities'].find("devices/video/enum[@name='modelType']")
    models.remove(next(value for value in models if value.text == 'cirrus'))
    (finding,) = wholeguest.compare(domain(host, 'kvm', 'pc-q35', 'pc-q35-9.0'), found)
    assert finding.code == 'machine-device-missing' and 'video cirrus' in finding.detail
