# SPDX-License-Identifier: Apache-2.0
"""A hypervisor with a CPU of its own, for Nova's fake libvirt.

Nova's fake libvirt gives every host the same CPU and compares no feature. This one answers the calls that decide about
CPUs as libvirt does, a running domain's XML shows the CPU that the guest really got, and what it knows stands in a file
too, for the process of the checks.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
import xml.etree.ElementTree as ElementTree
from typing import Any, Callable, Iterable, Sequence

from nova.tests.fixtures import libvirt as fakelibvirt

from tests.functional.in_child import cpu_rules
from tests.functional.in_child.cpu_rules import Cpu

__all__ = ['MISSING_CONSTANTS', 'Cpu', 'Hypervisor']

# Constants of libvirt that Nova's fake module does not have.
MISSING_CONSTANTS = {
    'VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE': cpu_rules.FAIL_INCOMPATIBLE,
    'VIR_CONNECT_BASELINE_CPU_MIGRATABLE': cpu_rules.MIGRATABLE,
    'VIR_ERR_CPU_INCOMPATIBLE': cpu_rules.ERR_CPU_INCOMPATIBLE,
}


def _asked(question: Callable[..., Any], *words: Any) -> Any:
    try:
        return question(*words)
    except cpu_rules.Refused as e:
        raise fakelibvirt.make_libvirtError(
            fakelibvirt.libvirtError, str(e), error_code=e.code, error_domain=fakelibvirt.VIR_FROM_QEMU,
            error_message=str(e), error_level=2, str1=str(e), str2=e.detail) from None


class Hypervisor(fakelibvirt.Connection):
    """The libvirt connection of one host.

    :param directory: where the file is kept that the process of the checks reads
    """

    def __init__(self, hostname: str, cpu: Cpu, directory: str) -> None:
        super().__init__('qemu:///system', hostname=hostname, host_info=fakelibvirt.HostInfo(
            cpu_nodes=2, cpu_sockets=1, cpu_cores=2, cpu_threads=2))
        self._cpu = cpu
        # What libvirt tells of it besides: Nova's fake has one host UUID for all hosts.
        self.uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, hostname))
        self.lacks: tuple[str, ...] = ()
        self.qemu = 0
        #: UUID, usage and value of each; '' for no value.
        self.secrets: list[tuple[str, str, str]] = []
        #: As whom QEMU runs, as in ``<baselabel>``: ``+64055:+109``; '' if libvirt does not say.
        self.qemu_user = ''
        self._telling = threading.Lock()
        self._path = os.path.join(directory, f'{hostname}.libvirt.json')

    @property
    def uri(self) -> str:
        """For ``[libvirt] connection_uri``: leads the process of the checks to this host."""
        return f'qemu:///system?state={self._path}'

    @property
    def cpu(self) -> Cpu:
        return self._cpu

    @cpu.setter
    def cpu(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.tell()

    def tell(self) -> None:
        """Bring the file up to date."""
        with self._telling:
            self._tell()

    def _tell(self) -> None:
        state = {
            'cpu': self._cpu.to_dict(),
            'capabilities': self.getCapabilities(),
            'domain_capabilities': self._domain_capabilities(None, self._cpu.arch, None, 'kvm', 0),
            'hostname': self.getHostname(),
            'libvirt_version': self.getLibVersion(),
            'qemu_version': self.qemu or self.getVersion(),
            'lacks': self.lacks,
            'secrets': self.secrets,
            'domains': [(domain.UUIDString(), domain.ID(), domain.XMLDesc(0))
                        for domain in list(self._vms.values()) if domain.isActive()],
        }
        with open(f'{self._path}.new', 'w', encoding='utf-8') as file:
            json.dump(state, file)
        os.replace(f'{self._path}.new', self._path)

    def _emit_lifecycle(self, domain: Any, event: int, detail: int) -> None:
        super()._emit_lifecycle(domain, event, detail)
        if hasattr(domain, '_def'):
            self.tell()

    def _undefine(self, domain: Any) -> None:
        super()._undefine(domain)  # which emits nothing for a guest that came by a live migration
        self.tell()

    def forget_all_but(self, uuids: Iterable[str]) -> None:
        """What is left of guests that went elsewhere: Nova's audit would look at each of them, and there is one more after each test."""
        kept = set(uuids)
        left = [domain for domain in list(self._vms.values()) if domain.UUIDString() not in kept]
        for domain in left:
            super()._undefine(domain)
        if any(domain.isActive() for domain in left):
            self.tell()

    def lookupByName(self, name: str) -> GuestDomain:
        if name not in self._vms:
            raise fakelibvirt.make_libvirtError(
                fakelibvirt.libvirtError, f"Domain not found: no domain with matching name '{name}'",
                error_code=fakelibvirt.VIR_ERR_NO_DOMAIN, error_domain=fakelibvirt.VIR_FROM_QEMU)
        return self._vms[name]

    def createXML(self, xml: str, flags: int) -> GuestDomain:
        domain = GuestDomain(self, xml, running=True, transient=True)
        self._vms[domain.name()] = domain
        self._emit_lifecycle(domain, fakelibvirt.VIR_DOMAIN_EVENT_STARTED, 0)
        return domain

    def defineXML(self, xml: str) -> GuestDomain:
        domain = GuestDomain(self, xml, running=False, transient=False)
        self._vms[domain.name()] = domain
        self._emit_lifecycle(domain, fakelibvirt.VIR_DOMAIN_EVENT_DEFINED, 0)
        return domain

    def getLibVersion(self) -> int:
        return self._cpu.libvirt or super().getLibVersion()

    def getCapabilities(self) -> str:
        tree = ElementTree.fromstring(super().getCapabilities())
        tree.find('./host/uuid').text = self.uuid
        if self.qemu_user:
            model = ElementTree.SubElement(tree.find('./host'), 'secmodel')
            ElementTree.SubElement(model, 'model').text = 'dac'
            ElementTree.SubElement(model, 'baselabel', type='kvm').text = self.qemu_user
        cpu = tree.find('./host/cpu')
        for tag in ('model', 'vendor'):
            cpu.find(tag).text = getattr(self._cpu, tag)
        for feature in cpu.findall('feature'):
            cpu.remove(feature)
        for name in sorted((self._cpu.features - cpu_rules.MODELS[self._cpu.model][1]) | cpu_rules.RAW_ONLY):
            ElementTree.SubElement(cpu, 'feature', name=name)
        cpu.find('arch').text = self._cpu.arch
        if self._cpu.tsc:
            hertz, scales = self._cpu.tsc
            ElementTree.SubElement(cpu, 'counter', name='tsc', frequency=str(hertz), scaling='yes' if scales else 'no')
        return ElementTree.tostring(tree, encoding='unicode')

    def getDomainCapabilities(self, emulator: Any, arch: str, machine: Any, virt_type: str, flags: int = 0) -> str:
        if arch == 'x86_64':  # of others Nova asks too, and its fake knows them
            _asked(cpu_rules.serves, self._cpu, None, virt_type)
        return self._domain_capabilities(emulator, arch, machine, virt_type, flags)

    def _domain_capabilities(self, emulator: Any, arch: str, machine: Any, virt_type: str, flags: int) -> str:
        text = super().getDomainCapabilities(emulator, arch, machine, virt_type, flags)
        if arch != 'x86_64':
            return text
        tree = ElementTree.fromstring(text)
        host_model = tree.find("./cpu/mode[@name='host-model']")
        for child in list(host_model):
            host_model.remove(child)
        # libvirt lists invtsc here although no guest gets it by default.
        for child in ElementTree.fromstring(self._cpu.having('invtsc').guest_xml):
            host_model.append(child)
        return ElementTree.tostring(tree, encoding='unicode')

    def baselineCPU(self, xml_cpus: Sequence[str], flags: int = 0) -> str:
        return _asked(cpu_rules.baseline, xml_cpus, flags)

    def baselineHypervisorCPU(self, emulator: Any, arch: str, machine: Any, virt_type: str, xml_cpus: Sequence[str],
                              flags: int = 0) -> str:
        return _asked(cpu_rules.hypervisor_baseline, self._cpu, xml_cpus, flags)

    def compareHypervisorCPU(self, emulator: Any, arch: str, machine: Any, virt_type: str, xml: str, flags: int = 0) -> int:
        return _asked(cpu_rules.compare, self._cpu, arch, virt_type, xml, flags)

    def compareCPU(self, xml: str, flags: int = 0) -> int:
        """The raw host CPU: it has all that it says in its capabilities."""
        return _asked(cpu_rules.compare, self._cpu.having(*cpu_rules.RAW_ONLY), None, None, xml, flags)

    def starts(self, domain: GuestDomain) -> None:
        """What QEMU says to a guest that comes by a live migration.

        :raises libvirtError: it lacks what the guest has
        """
        _asked(cpu_rules.starts, self._cpu, domain.cpu_xml)


class GuestDomain(fakelibvirt.Domain):
    """A guest whose live XML has the ``<cpu>`` that it runs with, and keeps it over a live migration."""

    def __init__(self, connection: Hypervisor, xml: str, running: bool, transient: bool) -> None:
        asked = ElementTree.fromstring(xml).find('cpu')
        if asked is None or asked.get('mode') == 'host-model':
            wanted: dict[bool, list[str]] = {True: [], False: []}
            for feature in [] if asked is None else asked.findall('feature'):
                wanted[feature.get('policy') != 'disable'].append(feature.get('name', ''))
            self.cpu_xml = connection.cpu.having(*wanted[True]).without(*wanted[False]).guest_xml
        elif asked.get('mode') == 'host-passthrough':
            self.cpu_xml = "<cpu mode='host-passthrough' check='none' migratable='on'/>"
        else:
            self.cpu_xml = ElementTree.tostring(asked, encoding='unicode')
        super().__init__(connection, xml, running=running, transient=transient)

    def XMLDesc(self, flags: int) -> str:
        head, clock, tail = super().XMLDesc(flags).partition("<clock offset='localtime'/>")
        return head + self.cpu_xml + clock + tail
