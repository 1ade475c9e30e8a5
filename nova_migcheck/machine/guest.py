# SPDX-License-Identifier: Apache-2.0
"""Read from the live XML of a guest what it needs of the QEMU, and of the kernel, of a target."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Optional

# A kernel that knows USO offloads of a tap device, and the first machine types that use them
# (QEMU 8.2).
USO_KERNEL = (6, 2)
_USO_TYPE = (8, 2)

# Since this kernel KVM takes no state of ``pku`` for a guest without it ("Limit guest
# user_xfeatures to supported bits of XCR0", 5.17, and in Ubuntu's 5.15). An older one sends it.
PKU_KERNEL = (5, 15)
# The models of libvirt that lack pku although CPUs that have it give them to guests. A later
# model is none of these: then it is not known whether the guest has pku.
_WITHOUT_PKU = re.compile(
    r'((qemu|kvm)64|cpu64-rhel\d|Penryn|Conroe|Nehalem|Westmere|SandyBridge|IvyBridge|Haswell'
    r'|Broadwell|Skylake-(Client|Server)|Cascadelake-Server|Opteron_G\d|EPYC|EPYC-Rome|Dhyana)'
    r'(-noTSX)?(-IBRS|-IBPB)?')

# A machine type with a version.
_NUMBERED = re.compile(r'(.+)-(\d+(?:\.\d+)+)')

# What begins the names of a family of machine types, whose devices are alike.
_FAMILIES = ('pc-i440fx', 'pc-q35', 'virt', 'pseries', 's390-ccw-virtio')

# A name from another host is shown on a terminal, and compared with libvirt's own names.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._+:/-]{0,199}')

def fold(names: Iterable[str]) -> str:
    """Return names of machine types as one short text: ``isapc pc pc-q35:2.0,7.2``."""
    versions: dict[str, list[str]] = {}
    for name in sorted(names):
        match = _NUMBERED.fullmatch(name)
        versions.setdefault(match[1] if match else name, []).extend([match[2]] if match else [])
    return ' '.join(f'{name}:{",".join(found)}' if found else name
                    for name, found in versions.items())


def unfold(text: str) -> list[str]:
    """Return the names of machine types in what :func:`fold` returned."""
    found = []
    for word in text.split():
        name, _colon, versions = word.partition(':')
        found += [f'{name}-{one}' for one in versions.split(',')] if versions else [name]
    return found


class Device(NamedTuple):
    """What is compared with a list of domain capabilities.

    :ivar name: as needs and facts have it: short, since reports are
    :ivar element: of the device in a domain, and in the capabilities
    :ivar below: the element below it with the attribute, '' for the device itself
    :ivar attribute: what it needs
    :ivar enum: name of the list in the capabilities
    """

    name: str
    element: str
    below: str
    attribute: str
    enum: str


DEVICES = (
    Device('bus', 'disk', 'target', 'bus', 'bus'),
    Device('graphics', 'graphics', '', 'type', 'type'),
    Device('video', 'video', 'model', 'type', 'modelType'),
    Device('tpm', 'tpm', '', 'model', 'model'),
    Device('tpm-backend', 'tpm', 'backend', 'type', 'backendModel'),
    Device('tpm-version', 'tpm', 'backend', 'version', 'backendVersion'),
    Device('filesystem', 'filesystem', 'driver', 'type', 'driverType'))


def family(machine: str) -> str:
    """Return the family of a machine type, ``pc-q35`` of ``pc-q35-7.2`` and others."""
    if re.match(r'pc(-\d|$)', machine):  # as the first ones were called
        return _FAMILIES[0]
    return next((one for one in _FAMILIES if machine.startswith(one)), machine)


def needs(domain: ElementTree.Element, kernel: str = '', has_pku: bool = False
          ) -> Optional[dict[str, Any]]:
    """Return what a running guest needs, as JSON that is the same for guests that are alike.

    :param domain: its live XML
    :param kernel: release of the kernel that it runs on
    :param has_pku: whether the CPU that it runs on has ``pku``
    :returns: ``arch``, ``type``; if there are any ``emulator``, ``devices``, ``cores`` (logical
        CPUs in each package, if libvirt will look for the feature ``ht``), ``uso`` and ``pku``
        (release of the kernel, if that matters), ``fixed`` and ``bound`` (what keeps it where it
        is: vhost-user devices, others). None if it names no machine type
    :raises ValueError: if it names one that no libvirt has
    """
    kind = domain.find('os/type')
    if kind is None or not kind.get('arch') or not kind.get('machine'):
        return None
    for name in (kind.get('arch'), kind.get('machine')):
        if not _is_name(name):
            # ascii() shows what a terminal would obey.
            raise ValueError(f'no libvirt has the machine type {ascii(name)[:80]}')
    found: dict[str, Any] = {'arch': kind.get('arch'), 'type': kind.get('machine')}
    emulator = (domain.findtext('devices/emulator') or '').strip()
    if _is_name(emulator[1:]) and emulator.startswith('/'):
        found['emulator'] = emulator
    more = {'devices': ' '.join(sorted(set(_devices(domain)))), 'cores': _cores(domain),
            'uso': kernel if _has_uso(domain, found['type'], kernel) else '',
            'pku': kernel if has_pku and _sends_pku(domain, kernel) else '',
            'fixed': sorted(set(_fixed(domain))), 'bound': sorted(set(_bound(domain)))}
    return {**found, **{key: value for key, value in more.items() if value}}


def _is_name(text: Optional[str]) -> bool:
    return bool(text and _NAME.fullmatch(text))


def _devices(domain: ElementTree.Element) -> Iterator[str]:
    """Yield ``bus=virtio`` and the like."""
    for device in DEVICES:
        for element in domain.iterfind(f'devices/{device.element}'):
            holder = element.find(device.below) if device.below else element
            value = holder.get(device.attribute) if holder is not None else None
            if _is_name(value):
                yield f'{device.name}={value}'
    loader = domain.find('os/loader')
    if loader is not None and _is_name((loader.text or '').strip()[1:]):
        yield f'loader={(loader.text or "").strip()}'
    if loader is not None and loader.get('secure') == 'yes':
        yield 'secure=yes'


def _cores(domain: ElementTree.Element) -> int:
    """Return the logical CPUs in each package of an x86 guest, 0 if one, or if it has ``ht``."""
    cpu, topology = domain.find('cpu'), domain.find('cpu/topology')
    if cpu is None or topology is None or cpu.get('check') != 'full':
        return 0
    # A QEMU before 10.0 says that it is off, also of a guest whose definition requires it.
    if any(feature.get('name') == 'ht' and feature.get('policy') in ('require', 'force')
           for feature in cpu.iterfind('feature')):
        return 0
    count = 1
    for name in ('dies', 'clusters', 'cores', 'threads'):
        value = topology.get(name, '1')
        count *= int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 1
    return count if count > 1 else 0


def version(text: str) -> tuple[int, ...]:
    """Return the numbers that a release begins with: (6, 1, 0) of ``6.1.0-18-amd64``."""
    match = re.match(r'\d{1,6}(\.\d{1,6}){0,3}', text)
    return tuple(map(int, match.group().split('.'))) if match else ()


def _has_uso(domain: ElementTree.Element, machine: str, kernel: str) -> bool:
    """Return whether a NIC of the guest has offloads that the target's kernel must have too."""
    numbers = re.search(r'-(\d{1,3}\.\d{1,3})$', machine)
    if not numbers or version(numbers[1]) < _USO_TYPE or version(kernel) < USO_KERNEL:
        return False
    return any(model.get('type', '').startswith('virtio')
               for model in domain.iterfind('devices/interface/model'))


def _sends_pku(domain: ElementTree.Element, kernel: str) -> bool:
    """Return whether the kernel sends the state of ``pku`` of a guest that surely has it not."""
    cpu = domain.find('cpu')
    if domain.get('type') != 'kvm' or cpu is None or cpu.get('check') != 'full':
        return False
    if not version(kernel) or version(kernel) >= PKU_KERNEL:
        return False
    for feature in cpu.iterfind("feature[@name='pku']"):
        return feature.get('policy') in ('disable', 'forbid')
    return _WITHOUT_PKU.fullmatch((cpu.findtext('model') or '').strip()) is not None


def _fixed(domain: ElementTree.Element) -> Iterator[str]:
    """Yield what QEMU cannot migrate: a vhost-user device whose memory is not shared."""
    shared = domain.find("memoryBacking/access[@mode='shared']") is not None or any(
        cell.get('memAccess') == 'shared' for cell in domain.iterfind('cpu/numa/cell'))
    if shared:
        return
    for device in ('interface', 'disk'):
        for element in domain.iterfind(f"devices/{device}[@type='vhostuser']"):
            target = element.find('target')
            name = target.get('dev', '') if target is not None else ''
            yield f'{device} {name}' if _is_name(name) else f'{device} of type vhostuser'


def _bound(domain: ElementTree.Element) -> Iterator[str]:
    """Yield other devices that QEMU or libvirt cannot migrate, or not always.

    Whether a PCI device or an mdev can be migrated depends on its driver, and Nova takes the VFs
    of ports off the guest before. So these are left to Nova, and to libvirt.
    """
    for filesystem in domain.iterfind('devices/filesystem'):
        virtiofs = filesystem.find("driver[@type='virtiofs']") is not None
        yield 'filesystem virtiofs' if virtiofs else 'filesystem 9p'
    if domain.find("devices/hostdev[@type='scsi_host']") is not None:
        yield 'hostdev scsi_host'


def jobs(domain: ElementTree.Element) -> dict[str, str]:
    """Return disk -> kind of the block job that is active on it, as far as the XML shows it."""
    found = {}
    for disk in domain.iterfind('devices/disk'):
        mirror, target = disk.find('mirror'), disk.find('target')
        if mirror is not None and target is not None:
            found[target.get('dev', '?')[:40]] = mirror.get('job', 'copy')[:40]
    return found


def mtus(domain: ElementTree.Element) -> Mapping[str, int]:
    """Return MAC in lower case -> MTU, for each NIC whose XML names one."""
    found = {}
    for nic in domain.iterfind('devices/interface'):
        mac, mtu = nic.find('mac'), nic.find('mtu')
        size = mtu.get('size', '') if mtu is not None else ''
        if mac is not None and size.isascii() and size.isdigit() and len(size) < 7:
            found[mac.get('address', '').lower()] = int(size)
    return found


def shares(domain: ElementTree.Element) -> Optional[int]:
    """Return the guest's CPU shares, None if its XML names none."""
    text = (domain.findtext('cputune/shares') or '').strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None
