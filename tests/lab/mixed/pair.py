# SPDX-License-Identifier: Apache-2.0
"""Two libvirtd, one of each release, and one guest that goes from the one to the other."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import time
from typing import Any, Iterator, Optional
from unittest import mock

from nova_migcheck import cpu as cpus
from nova_migcheck.checks.base import Fact, Settings
from nova_migcheck.checks.cpu import CpuCheck
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.checks.registry import Registry
from nova_migcheck.cpu import hypervisor
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.report import published
from nova_migcheck.report import report as reports
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.mixed.guests import Guest

# Whether libvirt's or QEMU's words are about the CPU.
_OF_THE_CPU = re.compile(r'\bCPU|feature', re.IGNORECASE)
_CPUID = json.dumps({'execute': 'qom-get', 'arguments': {
    'path': '/machine/unattached/device[0]', 'property': 'feature-words'}})
# The leaf of CPUID with the states that XSAVE can save.
_STATES = (0xd, 0)


@dataclasses.dataclass(frozen=True)
class Tried:
    """One guest in one direction.

    :ivar foreseen: what the package says
    :ivar refused: libvirt's words, '' when the guest has arrived
    :ivar lost: how many features the guest's CPU has no longer
    :ivar unstarted: why it did not even start on the source
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
        """Whether it went as foreseen. A refusal for another reason than the CPU says nothing."""
        if self.foreseen is None or (self.refused and not _OF_THE_CPU.search(self.refused)):
            return True
        fits = not self.refused and not self.lost
        return (self.foreseen.outcome != cpus.INCOMPATIBLE) == fits


class Side:
    """One libvirtd, and what its host publishes."""

    def __init__(self, node: LibvirtHost) -> None:
        self.node = node
        self.conn = node.connect()
        self.version = _dotted(self.conn.getLibVersion())
        self.name = f'libvirt {self.version} with QEMU {_dotted(self.conn.getVersion())}'
        self._root = '/' if node.release is None else str(node.release.path)

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """What is done meanwhile, a nova-compute of that host does: it reads that libvirt's map."""
        cpu_map = os.path.join(self._root, 'usr/share/libvirt/cpu_map')
        with mock.patch.dict(os.environ, NOVA_MIGCHECK_CPU_MAP=cpu_map):
            yield

    def report(self, virt: str) -> reports.Report:
        """What its CPU check publishes, as it is read elsewhere."""
        options = {'libvirt': {'virt_type': virt, 'connection_uri': self.node.uri}}
        with self.here():
            said = list(CpuCheck().run(Settings(host=self.node.name, options=options, timeout=60)))
        facts = {one.name: one.value for one in said if isinstance(one, Fact)}
        report = reports.build(time.time(), [], facts, Registry([CpuCheck]))
        read = published.read(published.write(report))
        assert read is not None and read.cpu is not None, said
        return read

    def machine(self, virt: str) -> Any:
        """What its machine check publishes."""
        settings = Settings(options={'libvirt': {'virt_type': virt}})
        return next(one.value for one in MachineCheck()._answers(settings, self.conn)
                    if isinstance(one, Fact))

    def machines(self) -> set[str]:
        """Its types of a PC, each with its version."""
        return set(re.findall(r'>(pc-i440fx-[\d.]+)<', self.conn.getCapabilities()))


def machine_of_both(one: Side, other: Side) -> str:
    """The newest type of a PC that both have."""
    return max(one.machines() & other.machines(),
               key=lambda name: [int(part) for part in name.rpartition('-')[2].split('.')])


def migrate(guest: Guest, virt: str, machine: str, source: Side, target: Side) -> Tried:
    """Start it on the source, say what would come of it, and see."""
    import libvirt
    tried = Tried(guest.name, virt, f'{source.version} → {target.version}')
    try:
        domain = guest.start(source.conn, virt, machine)
    except libvirt.libvirtError as error:
        return dataclasses.replace(tried, unstarted=' '.join(str(error).split()))
    try:
        tried = dataclasses.replace(tried, foreseen=_foresee(domain, virt, source, target))
        had = features(domain)
        try:
            _go(domain, target)
        except libvirt.libvirtError as error:
            return dataclasses.replace(tried, refused=' '.join(str(error).split()))
        has = features(target.conn.lookupByName('guest'))
        return dataclasses.replace(tried, lost=len(had - has))
    finally:
        for side in (source, target):
            for left in side.conn.listAllDomains():
                left.destroy()


def _foresee(domain: Any, virt: str, source: Side, target: Side) -> cpus.Comparison:
    """What the scheduler says by the two reports; where it does not refuse, what the target says
    when it asks its own libvirt."""
    uses, gives = source.report(virt).guest(domain.UUIDString()), target.report(virt).cpu
    if uses is None or gives is None:
        return cpus.Comparison(cpus.UNKNOWN, reason='is not compared: the CPUs are not known')
    for misfit in MachineCheck.compare(
            MachineCheck.needs(cpuxml.parse(domain.XMLDesc())), {'machine': target.machine(virt)}):
        return cpus.Comparison(cpus.INCOMPATIBLE, reason=misfit.detail)
    found = cpus.compare(uses, gives)
    if found.outcome == cpus.INCOMPATIBLE:
        return found
    asked = hypervisor.ask_and_count(target.conn, uses, gives)
    return asked if asked.outcome == cpus.INCOMPATIBLE else found


def _go(domain: Any, target: Side) -> None:
    """Ask for it as Nova does.

    :raises libvirt.libvirtError: when it fails
    """
    import libvirt
    name = target.node.name
    domain.migrateToURI3(f'qemu+tcp://{name}/system', {
        libvirt.VIR_MIGRATE_PARAM_URI: f'tcp://{name}',
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)},
        libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)


def features(domain: Any) -> set[tuple[Any, ...]]:
    """Each bit of CPUID that QEMU has set for the guest: the leaf, the register and the bit.

    Not XSAVE's states, which follow from the others: those of features that QEMU has filtered out
    it leaves set, until a migration.
    """
    import libvirt_qemu
    words = json.loads(libvirt_qemu.qemuMonitorCommand(domain, _CPUID, 0))['return']
    return {(word['cpuid-input-eax'], word.get('cpuid-input-ecx'), word['cpuid-register'], bit)
            for word in words if (word['cpuid-input-eax'], word.get('cpuid-input-ecx')) != _STATES
            for bit in range(32) if word['features'] >> bit & 1}


def _dotted(version: int) -> str:
    return '.'.join(str(version // 10 ** power % 1000) for power in (6, 3, 0))
