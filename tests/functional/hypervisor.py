# SPDX-License-Identifier: Apache-2.0
"""A hypervisor with a CPU of its own, for Nova's fake libvirt.

Nova's fake libvirt gives every host the same CPU and compares no feature. This one answers the five calls that decide
about CPUs (capabilities, domain capabilities, both baselines, the comparison) as libvirt 9.0 does, from the models of
libvirt's own CPU map, and a running domain's XML shows the CPU that the guest really got.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterable

from nova.tests.fixtures import libvirt as fakelibvirt


def _features(text: str) -> frozenset[str]:
    return frozenset(text.split())


# As in libvirt 9.0's src/cpu_map.
_HASWELL_NO_TSX = _features(
    'aes apic avx avx2 bmi1 bmi2 clflush cmov cx16 cx8 de erms fma fpu fsgsbase fxsr invpcid lahf_lm lm mca mce mmx '
    'movbe msr mtrr nx pae pat pcid pclmuldq pge pni popcnt pse pse36 rdtscp sep smep sse sse2 sse4.1 sse4.2 ssse3 '
    'syscall tsc tsc-deadline x2apic xsave')
_HASWELL = _HASWELL_NO_TSX | {'hle', 'rtm'}
MODELS = {
    'Haswell-noTSX': ('Intel', _HASWELL_NO_TSX),
    'Haswell': ('Intel', _HASWELL),
    'Skylake-Server': ('Intel', _HASWELL | _features(
        '3dnowprefetch abm adx arat avx512bw avx512cd avx512dq avx512f avx512vl clwb f16c mpx pdpe1gb rdrand rdseed '
        'smap vme xgetbv1 xsavec xsaveopt')),
    'EPYC': ('AMD', _features(
        '3dnowprefetch abm adx aes apic arat avx avx2 bmi1 bmi2 clflush clflushopt cmov cr8legacy cx16 cx8 de f16c fma '
        'fpu fsgsbase fxsr fxsr_opt lahf_lm lm mca mce misalignsse mmx mmxext monitor movbe msr mtrr nx osvw pae pat '
        'pclmuldq pdpe1gb pge pni popcnt pse pse36 rdrand rdseed rdtscp sep sha-ni smap smep sse sse2 sse4.1 sse4.2 '
        'sse4a ssse3 svm syscall tsc vme xgetbv1 xsave xsavec xsaveopt')),
}
# What the silicon has and QEMU gives to no guest: comparing it is LP#2039803.
_RAW_ONLY = ('acpi', 'ds', 'ds_cpl', 'dtes64', 'est', 'pbe', 'tm', 'tm2', 'xtpr')


@dataclasses.dataclass(frozen=True)
class Cpu:
    """What a host's hypervisor can give to a guest: a model of libvirt's CPU map, and what differs from it."""

    model: str = 'Haswell'
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()

    def without(self, *features: str) -> Cpu:
        return dataclasses.replace(self, removed=self.removed | set(features))

    def having(self, *features: str) -> Cpu:
        return dataclasses.replace(self, added=self.added | set(features))

    @property
    def vendor(self) -> str:
        return MODELS[self.model][0]

    @property
    def features(self) -> frozenset[str]:
        return (MODELS[self.model][1] | self.added) - self.removed

    @property
    def guest_xml(self) -> str:
        """The ``<cpu>`` of a running host-model guest, as libvirt shows it, with each difference from the model."""
        policies = [(name, 'require') for name in self.added] + [(name, 'disable') for name in self.removed]
        features = ''.join(f"<feature policy='{policy}' name='{name}'/>" for name, policy in sorted(policies))
        return (f"<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>{self.model}</model>"
                f'<vendor>{self.vendor}</vendor>{features}</cpu>')


def _expand(cpu: ElementTree.Element) -> tuple[set[str], str]:
    """The features that a ``<cpu>`` needs, and its vendor; raises as libvirt does for a model that it does not know."""
    features: set[str] = set()
    model = cpu.findtext('model')
    if model is not None:
        if model not in MODELS:
            raise _error(1, f'internal error: Unknown CPU model {model}')
        features |= MODELS[model][1]
    for feature in cpu.iter('feature'):
        if feature.get('policy', 'require') == 'require':
            features.add(feature.get('name', ''))
        else:
            features.discard(feature.get('name', ''))
    return features, cpu.findtext('vendor') or ''


def _error(code: int, text: str, detail: str = '') -> fakelibvirt.libvirtError:
    return fakelibvirt.make_libvirtError(
        fakelibvirt.libvirtError, text, error_code=code, error_domain=fakelibvirt.VIR_FROM_QEMU, error_message=text,
        error_level=2, str1=text, str2=detail or text)


def _expanded_xml(model: str, vendor: str, features: Iterable[str]) -> str:
    listed = ''.join(f"<feature policy='require' name='{name}'/>" for name in sorted(features))
    return (f"<cpu mode='custom' match='exact'><model fallback='forbid'>{model}</model><vendor>{vendor}</vendor>"
            f'{listed}</cpu>')


class Hypervisor(fakelibvirt.Connection):
    """The libvirt connection of one host."""

    def __init__(self, hostname: str, cpu: Cpu) -> None:
        super().__init__('qemu:///system', hostname=hostname, host_info=fakelibvirt.HostInfo(
            cpu_nodes=2, cpu_sockets=1, cpu_cores=2, cpu_threads=2))
        self.cpu = cpu

    def facts(self) -> dict[str, Any]:
        """What the ``cpu`` check would publish of this host, which as another process does not see this libvirt."""
        def described(features: Iterable[str], vendor: str) -> dict[str, str]:
            return {'arch': 'x86_64', 'virt': 'kvm', 'vendor': vendor, 'features': ' '.join(sorted(features))}
        groups = []
        for domain in self._vms.values():
            features, vendor = _expand(ElementTree.fromstring(domain.cpu_xml))
            if features != self.cpu.features:
                groups.append({'cpu': described(features, vendor), 'who': [domain.UUIDString()]})
        return {'cpu': {**described(self.cpu.features, self.cpu.vendor), 'model': self.cpu.model}, 'guests': {'groups': groups}}

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

    def getCapabilities(self) -> str:
        tree = ElementTree.fromstring(super().getCapabilities())
        cpu = tree.find('./host/cpu')
        for tag in ('model', 'vendor'):
            cpu.find(tag).text = getattr(self.cpu, tag)
        for feature in cpu.findall('feature'):
            cpu.remove(feature)
        for name in sorted({*(self.cpu.features - MODELS[self.cpu.model][1]), *_RAW_ONLY}):
            ElementTree.SubElement(cpu, 'feature', name=name)
        return ElementTree.tostring(tree, encoding='unicode')

    def getDomainCapabilities(self, emulator, arch, machine, virt_type, flags=0) -> str:
        if arch is None:
            arch = 'x86_64'
        text = super().getDomainCapabilities(emulator, arch, machine, virt_type, flags)
        if arch != 'x86_64':
            return text
        tree = ElementTree.fromstring(text)
        host_model = tree.find("./cpu/mode[@name='host-model']")
        for child in list(host_model):
            host_model.remove(child)
        # libvirt lists invtsc here although no guest gets it by default.
        for child in ElementTree.fromstring(self.cpu.having('invtsc').guest_xml):
            host_model.append(child)
        return ElementTree.tostring(tree, encoding='unicode')

    def baselineCPU(self, xml_cpus, flags=0) -> str:
        expanded = [_expand(ElementTree.fromstring(xml)) for xml in xml_cpus]
        first = ElementTree.fromstring(xml_cpus[0])
        features = set.intersection(*(features for features, _ in expanded))
        return _expanded_xml(first.findtext('model') or self.cpu.model, expanded[0][1] or self.cpu.vendor, features)

    def baselineHypervisorCPU(self, emulator, arch, machine, virt_type, xml_cpus, flags=0) -> str:
        features = set(self.cpu.features) | {'invtsc'}
        for xml in xml_cpus:
            features &= _expand(ElementTree.fromstring(xml))[0]
        if flags & VIR_CONNECT_BASELINE_CPU_MIGRATABLE:
            features.discard('invtsc')
        return _expanded_xml(self.cpu.model, self.cpu.vendor, features)

    def compareHypervisorCPU(self, emulator, arch, machine, virt_type, xml, flags=0) -> int:
        guest = ElementTree.fromstring(xml)
        if guest.tag == 'cpu' and guest.get('mode') in ('host-model', 'host-passthrough'):
            return fakelibvirt.VIR_CPU_COMPARE_SUPERSET
        if guest.find('arch') is not None and guest.get('mode') is not None:
            raise _error(27, "XML error: unexpected 'arch' element in guest CPU")
        features, vendor = _expand(guest)
        wrong = ''
        if vendor and vendor != self.cpu.vendor:
            wrong = f'host CPU vendor does not match required CPU vendor {vendor}'
        elif features - self.cpu.features:
            wrong = ('Host CPU does not provide required features: '
                     + ', '.join(sorted(features - self.cpu.features)))
        if not wrong:
            return fakelibvirt.VIR_CPU_COMPARE_SUPERSET
        if flags & VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE:
            raise _error(VIR_ERR_CPU_INCOMPATIBLE, f'the CPU is incompatible with host CPU: {wrong}', wrong)
        return fakelibvirt.VIR_CPU_COMPARE_INCOMPATIBLE

    def compareCPU(self, xml, flags=0) -> int:
        """The raw host CPU: it has all that it says in its capabilities."""
        features, vendor = _expand(ElementTree.fromstring(xml))
        if (vendor and vendor != self.cpu.vendor) or features - self.cpu.features - set(_RAW_ONLY):
            return fakelibvirt.VIR_CPU_COMPARE_INCOMPATIBLE
        return fakelibvirt.VIR_CPU_COMPARE_SUPERSET


class GuestDomain(fakelibvirt.Domain):
    """A guest whose live XML has the ``<cpu>`` that it runs with, and keeps it over a live migration."""

    def __init__(self, connection: Hypervisor, xml: str, running: bool, transient: bool) -> None:
        super().__init__(connection, xml, running=running, transient=transient)
        asked = ElementTree.fromstring(xml).find('cpu')
        if asked is None or asked.get('mode') == 'host-model':
            self.cpu_xml = connection.cpu.guest_xml
        elif asked.get('mode') == 'host-passthrough':
            self.cpu_xml = "<cpu mode='host-passthrough' check='none' migratable='on'/>"
        else:
            self.cpu_xml = ElementTree.tostring(asked, encoding='unicode')

    def XMLDesc(self, flags: int) -> str:
        head, clock, tail = super().XMLDesc(flags).partition("<clock offset='localtime'/>")
        return head + self.cpu_xml + clock + tail


# Constants of libvirt that Nova's fake module does not have.
VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE = 1
VIR_ERR_CPU_INCOMPATIBLE = 91
VIR_CONNECT_BASELINE_CPU_MIGRATABLE = 2
MISSING_CONSTANTS = {
    'VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE': VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
    'VIR_ERR_CPU_INCOMPATIBLE': VIR_ERR_CPU_INCOMPATIBLE,
    'VIR_CONNECT_BASELINE_CPU_MIGRATABLE': VIR_CONNECT_BASELINE_CPU_MIGRATABLE,
}
