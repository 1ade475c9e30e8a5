# SPDX-License-Identifier: Apache-2.0
"""Two libvirtd, one of each release, and one guest that goes from the one to the other."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Optional

from nova_migcheck import cpu as cpus
from nova_migcheck.cpu import hypervisor
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.mixed.guests import Guest

# What of libvirt's and QEMU's words is about the CPU.
_OF_THE_CPU = re.compile(r'\bCPU|feature', re.IGNORECASE)
_WORDS = '{"execute": "qom-get", "arguments": {"path": "/machine/unattached/device[0]", "property": "%s"}}'


@dataclasses.dataclass(frozen=True)
class Tried:
    """One guest in one direction.

    :ivar foreseen: what the package says
    :ivar refused: libvirt's words, '' when the guest has arrived
    :ivar lost: how many of its CPU's features the guest has no longer
    :ivar unstarted: why it did not even run on the source
    """

    guest: str
    virt: str
    way: str
    foreseen: Optional[cpus.Comparison] = None
    refused: str = ''
    lost: int = 0
    unstarted: str = ''

    @property
    def agrees(self) -> bool:
        """Whether what was foreseen came true. What libvirt refuses for another reason than the CPU is not our business here."""
        if self.foreseen is None or self.refused and not _OF_THE_CPU.search(self.refused):
            return True
        if self.refused or self.lost:
            return self.foreseen.outcome == cpus.INCOMPATIBLE
        return self.foreseen.outcome != cpus.INCOMPATIBLE


class Side:
    """One libvirtd, and what its host tells of itself."""

    def __init__(self, node: LibvirtHost) -> None:
        self.node = node
        self.conn = node.connect()
        self.version = '.'.join(str(self.conn.getLibVersion() // 10 ** power % 1000) for power in (6, 3, 0))
        self.qemu = '.'.join(str(self.conn.getVersion() // 10 ** power % 1000) for power in (6, 3, 0))
        self._cpus: dict[str, cpus.Cpu] = {}

    def cpu(self, virt: str) -> cpus.Cpu:
        """What it publishes, as the other side reads it."""
        if virt not in self._cpus:
            self._cpus[virt] = hypervisor.host_cpu(self.conn, virt)
        return cpus.Cpu.from_dict(json.loads(json.dumps(self._cpus[virt].to_dict())))


def migrate(guest: Guest, virt: str, machine: str, source: Side, target: Side) -> Tried:
    """Start it on the source, say what would come of it, and see."""
    import libvirt
    tried = Tried(guest.name, virt, f'{source.version} → {target.version}')
    try:
        domain = guest.start(source.conn, virt, machine)
    except libvirt.libvirtError as error:
        return dataclasses.replace(tried, unstarted=str(error))
    try:
        foreseen = _foresee(domain, virt, source, target)
        had = _words(domain)
        try:
            _go(domain, target)
        except libvirt.libvirtError as error:
            return dataclasses.replace(tried, foreseen=foreseen, refused=str(error))
        has = _words(target.conn.lookupByName('guest'))
        lost = sum(bin(bits & ~has.get(where, 0)).count('1') for where, bits in had.items())
        return dataclasses.replace(tried, foreseen=foreseen, lost=lost)
    finally:
        for side in (source, target):
            for left in side.conn.listAllDomains():
                left.destroy()


def _foresee(domain: Any, virt: str, source: Side, target: Side) -> cpus.Comparison:
    """What the scheduler says of the target's report, and where it accepts, what the target says when it asks its own libvirt."""
    uses = hypervisor.guest_cpu(source.conn, domain.XMLDesc(0), source.cpu(virt))
    found = cpus.compare(cpus.Cpu.from_dict(json.loads(json.dumps(uses.to_dict()))), target.cpu(virt))
    if found.outcome == cpus.INCOMPATIBLE:
        return found
    asked = hypervisor.ask_hypervisor(target.conn, uses, virt)
    return asked if asked.outcome == cpus.INCOMPATIBLE else found


def _go(domain: Any, target: Side) -> None:
    """As Nova asks for it.

    :raises libvirt.libvirtError: when it fails
    """
    import libvirt
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    domain.migrateToURI3(f'qemu+tcp://{target.node.name}/system', {
        libvirt.VIR_MIGRATE_PARAM_URI: f'tcp://{target.node.name}',
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)}, flags)


def _words(domain: Any) -> dict[tuple[Any, ...], int]:
    """The words of CPUID that the guest's CPU has, as QEMU tells them."""
    import libvirt_qemu
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, _WORDS % 'feature-words', 0))
    return {(word['cpuid-input-eax'], word.get('cpuid-input-ecx'), word['cpuid-register']): word['features'] for word in answer['return']}


def machine_of_both(one: Side, other: Side) -> str:
    """The newest machine type of a PC that both QEMUs have."""
    def known(side: Side) -> set[str]:
        return set(re.findall(r'>(pc-i440fx-[\d.]+)<', side.conn.getCapabilities()))

    def number(name: str) -> list[int]:
        return [int(part) for part in name.rpartition('-')[2].split('.')]
    return max(known(one) & known(other), key=number)


