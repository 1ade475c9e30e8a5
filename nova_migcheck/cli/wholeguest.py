# SPDX-License-Identifier: Apache-2.0
"""Compare all of a guest but its CPU with a host, offline, from XML that libvirt has printed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, TypeVar

from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.cpu import X86
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.machine import guest, offered

T = TypeVar('T')
Documents = Mapping[str, ElementTree.Element]


def read(path: str, parse: Callable[[str], T]) -> T:
    """Return what ``parse`` makes of a document of libvirt.

    :raises cpuxml.Undefined: if it raises that; the text names the file
    :raises ValueError: if the file cannot be read, or is not libvirt's; the text names it
    """
    try:
        with open(path, encoding='utf-8') as file:
            return parse(file.read(cpuxml.MAX_XML + 1))
    except cpuxml.Undefined as error:
        raise cpuxml.Undefined(f'{path}: {error}') from None
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror or error}') from None
    except ValueError as error:  # a UnicodeDecodeError too
        raise ValueError(f'{path}: {error}') from None


def of_cpu(domain: ElementTree.Element, hosts: Documents) -> str:
    """Return the path of the document that tells best which CPU the host gives to the guest."""
    family = _family(domain)

    def rank(path: str) -> tuple[bool, bool]:
        document = hosts[path]
        return (document.tag == 'capabilities',
                guest.family(document.findtext('machine') or '') != family)
    return min(hosts, key=rank)


def compare(domain: ElementTree.Element, hosts: Documents) -> list[Finding]:
    """Return what of a guest does not fit on a host, and what the documents do not tell.

    :param domain: the document of the guest
    :param hosts: path -> document about the host
    """
    try:
        needs = guest.needs(domain) if domain.tag == 'domain' else None
    except ValueError as error:
        return [_unknown('guest', f'only the CPU is compared: {error}',
                         'see the file of the guest')]
    if needs is None:
        return [_unknown('guest', 'the file of the guest is no <domain> with a machine type: only '
                         'the CPU is compared', 'give "virsh dumpxml GUEST"')]
    fact = _fact(hosts.values())
    found = list(MachineCheck.compare(needs, {'machine': fact}))
    return [*found, *_untold(needs, fact), *_of_drivers(domain)]


def _fact(hosts: Any) -> dict[str, Any]:
    fact: dict[str, Any] = {'machine_types': {}, 'devices': {}, 'emulators': set()}
    for document in hosts:
        fact['emulators'].update(
            (one.text or '').strip() for tag in ('path', './/emulator')
            for one in document.iterfind(tag))
        if document.tag == 'capabilities':
            fact['machine_types'].update({
                arch: guest.fold(names) for arch, names in offered.types(document).items()})
        elif document.tag == 'domainCapabilities':
            fact['devices'].update(offered.devices([document]))
    return fact


def _untold(needs: Mapping[str, Any], fact: Mapping[str, Any]) -> Iterator[Finding]:
    kind = needs['type']
    if needs['arch'] not in fact['machine_types']:
        yield _unknown('machine type', f'no file lists the machine types of the host for '
                       f'{needs["arch"]}', 'also give "virsh capabilities" of the host')
    newest = max((guest.version(name.rpartition('-')[2]) for name in guest.unfold(
        fact['machine_types'].get(needs['arch'], ''))), default=())
    if needs.get('cores') and needs['arch'] in X86 and newest >= (10,):
        yield _unknown('ht', 'QEMU of the host is 10.0 or later, and the guest has several CPUs in '
                       'a package: no file tells whether libvirt of the host is 11.10 or later, '
                       'which such a guest needs', 'see "virsh version" on the host')
    emulator = needs.get('emulator', '')
    if emulator and emulator not in fact['emulators']:
        yield _unknown('emulator', f'no file says whether the host has {emulator}, the emulator '
                       'of the guest', 'also give "virsh domcapabilities --emulatorbin '
                       f'{emulator}" of the host')
    if needs.get('devices') and guest.family(kind) not in fact['devices']:
        yield _unknown('devices', f'no file lists the devices of the host for {kind}',
                       f'also give "virsh domcapabilities --machine {kind}" of the host')


def _of_drivers(domain: ElementTree.Element) -> Iterator[Finding]:
    """Yield what depends on a driver of the host, which no document names."""
    for device in domain.iterfind('devices/hostdev'):
        kind = device.get('type')
        if kind in ('pci', 'mdev') and device.find("teaming[@type='transient']") is None:
            yield _unknown('host device', f'whether the host device of type {kind} can be migrated '
                           'depends on its driver, and on who takes it off the guest', 'see the '
                           "vendor's documentation, and [pci] device_spec in nova.conf")
            return


def _unknown(subject: str, detail: str, remedy: str) -> Finding:
    return MachineCheck().unknown(subject, detail, remedy=remedy, code='machine-not-told')


def _family(domain: ElementTree.Element) -> Optional[str]:
    kind = domain.find('os/type')
    return guest.family(kind.get('machine', '')) if kind is not None else None


def texts(findings: Sequence[Finding]) -> list[str]:
    """Return one line for each finding, for people."""
    return [f'{finding.outcome}: {finding}' for finding in findings]


def failed(findings: Sequence[Finding]) -> list[Finding]:
    """Return those that prevent the migration."""
    return [finding for finding in findings if finding.outcome is Outcome.FAILURE]
