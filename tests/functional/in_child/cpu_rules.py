# SPDX-License-Identifier: Apache-2.0
"""CPU models and libvirt's rules about them, as far as a fake libvirt needs them to answer as libvirt 9.0 does."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterable, Mapping, Optional

# Flags and error codes of libvirt's API.
EXPAND_FEATURES, MIGRATABLE, FAIL_INCOMPATIBLE = 1, 2, 1
ERR_INTERNAL_ERROR, ERR_INVALID_ARG, ERR_XML_ERROR, ERR_CPU_INCOMPATIBLE = 1, 8, 27, 91
COMPARE_INCOMPATIBLE, COMPARE_SUPERSET = 0, 2


def _features(text: str) -> frozenset[str]:
    return frozenset(text.split())


# As in libvirt 9.0's src/cpu_map.
_HASWELL_NO_TSX = _features(
    'aes apic avx avx2 bmi1 bmi2 clflush cmov cx16 cx8 de erms fma fpu fsgsbase fxsr invpcid lahf_lm lm mca mce mmx '
    'movbe msr mtrr nx pae pat pcid pclmuldq pge pni popcnt pse pse36 rdtscp sep smep sse sse2 sse4.1 sse4.2 ssse3 '
    'syscall tsc tsc-deadline x2apic xsave')
_HASWELL = _HASWELL_NO_TSX | {'hle', 'rtm'}
MODELS = {
    '486': ('', _features('fpu pse vme')),
    # Of a guest with cpu_mode = none, in Nova's own reckoning.
    'qemu64': ('', _features(
        'apic clflush cmov cx16 cx8 de fpu fxsr lm mca mce mmx msr mtrr nx pae pat pge pni pse pse36 sep sse sse2 syscall tsc')),
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
# What libvirt 9.0 does not know; of the model as much as EPYC has.
MODELS['EPYC-Genoa'] = MODELS['EPYC']
# What the silicon has and QEMU gives to no guest: comparing it is LP#2039803.
RAW_ONLY = frozenset(('acpi', 'ds', 'ds_cpl', 'dtes64', 'est', 'pbe', 'tm', 'tm2', 'xtpr'))
# libvirt's first name of a feature -> its present one. A host that has the first has a libvirt which knows no other.
RENAMED = {'arch-facilities': 'arch-capabilities'}


class Refused(Exception):
    """An error of libvirt: ``code``, and ``detail`` without the prefix."""

    def __init__(self, code: int, detail: str, prefix: str = '') -> None:
        super().__init__(prefix + detail)
        self.code, self.detail = code, detail


@dataclasses.dataclass(frozen=True)
class Cpu:
    """What a host's hypervisor can give to a guest: a model of libvirt's CPU map, and what differs from it.

    :param kvm: whether the host has KVM
    :param tsc: frequency in Hz, and whether the host can give a guest another one
    :param unknown: names of models and features that its libvirt does not know
    :param libvirt: version of its libvirt, None: that of Nova's fake one
    """

    model: str = 'Haswell'
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    arch: str = 'x86_64'
    kvm: bool = True
    tsc: Optional[tuple[int, bool]] = None
    unknown: frozenset[str] = frozenset()
    libvirt: Optional[int] = None

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        sets = {key: sorted(getattr(self, key)) for key in ('added', 'removed', 'unknown')}
        return {**dataclasses.asdict(self), **sets}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cpu:
        tsc = value['tsc']
        sets = {key: frozenset(value[key]) for key in ('added', 'removed', 'unknown')}
        return cls(**{**value, **sets, 'tsc': tsc and tuple(tsc)})

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


def expand(xml: str) -> tuple[frozenset[str], str]:
    """The features that a ``<cpu>`` needs, and its vendor.

    :raises Refused: for a model that libvirt does not know
    """
    cpu = ElementTree.fromstring(xml)
    features: set[str] = set()
    model = cpu.findtext('model')
    if model is not None:
        if model not in MODELS:
            raise Refused(ERR_INTERNAL_ERROR, f'Unknown CPU model {model}', 'internal error: ')
        features |= MODELS[model][1]
    for feature in cpu.iter('feature'):
        if feature.get('policy', 'require') == 'require':
            features.add(feature.get('name', ''))
        else:
            features.discard(feature.get('name', ''))
    return frozenset(features), cpu.findtext('vendor') or ''


def compare(host: Cpu, arch: str, virt_type: str, xml: str, flags: int) -> int:
    """virConnectCompareHypervisorCPU.

    :raises Refused: instead of an answer, with ``FAIL_INCOMPATIBLE``
    """
    serves(host, arch, virt_type)
    guest = ElementTree.fromstring(xml)
    if guest.get('mode') in ('host-model', 'host-passthrough'):
        return COMPARE_SUPERSET
    if guest.get('mode') is not None and guest.find('arch') is not None:
        raise Refused(ERR_XML_ERROR, "unexpected 'arch' element in guest CPU", 'XML error: ')
    _reads(host, guest)
    features, vendor = expand(xml)
    for first, present in RENAMED.items():
        if first in host.features and present in features:
            raise Refused(ERR_INTERNAL_ERROR, f'Unknown CPU feature {present}', 'internal error: ')
        if first not in host.features:
            features = frozenset(present if name == first else name for name in features)
    wrong = _wrong(host, features, vendor)
    if wrong and flags & FAIL_INCOMPATIBLE:
        raise Refused(ERR_CPU_INCOMPATIBLE, wrong, 'the CPU is incompatible with host CPU: ')
    return COMPARE_INCOMPATIBLE if wrong else COMPARE_SUPERSET


def _reads(host: Cpu, guest: ElementTree.Element) -> None:
    """:raises Refused: when the host's libvirt does not know a name, whatever the policy"""
    if guest.findtext('model') in host.unknown:
        raise Refused(
            ERR_INTERNAL_ERROR, f'Unknown CPU model {guest.findtext("model")}', 'internal error: '
        )
    for feature in guest.iter('feature'):
        if feature.get('name') in host.unknown:
            raise Refused(
                ERR_INTERNAL_ERROR, f'Unknown CPU feature {feature.get("name")}', 'internal error: '
            )


def serves(host: Cpu, arch: Optional[str], virt_type: Optional[str]) -> None:
    """:raises Refused: when the host has no emulator for such guests"""
    if arch not in (None, host.arch):
        raise Refused(
            ERR_INVALID_ARG,
            f"unable to find any emulator to serve '{arch}' architecture",
            'invalid argument: ',
        )
    if virt_type == 'kvm' and not host.kvm:
        raise Refused(
            ERR_INVALID_ARG,
            "KVM is not supported by '/usr/bin/qemu-system-x86_64' on this host",
            'invalid argument: ',
        )


def starts(host: Cpu, xml: str) -> None:
    """libvirt reads the definition of a guest that comes, and QEMU begins to receive it.

    QEMU does not know libvirt's names.

    :raises Refused: when it lacks what the guest has
    """
    guest = ElementTree.fromstring(xml)
    _reads(host, guest)
    if guest.get('mode') == 'host-passthrough':
        return
    features, vendor = expand(xml)
    wrong = _wrong(
        dataclasses.replace(host, added=_present(host.added)), _present(features), vendor
    )
    if wrong:
        raise Refused(
            ERR_CPU_INCOMPATIBLE,
            wrong,
            'operation failed: guest CPU does not match specification: ',
        )


def _present(names: frozenset[str]) -> frozenset[str]:
    return frozenset(RENAMED.get(name, name) for name in names)


def _wrong(host: Cpu, features: frozenset[str], vendor: str) -> str:
    if vendor and vendor != host.vendor:
        return f'host CPU vendor does not match required CPU vendor {vendor}'
    # libvirt compares with the host-model of the domain capabilities, which lists invtsc.
    missing = features - host.features - {'invtsc'}
    return (
        'Host CPU does not provide required features: ' + ', '.join(sorted(missing))
        if missing
        else ''
    )


def baseline(xml_cpus: Iterable[str], flags: int = 0) -> str:
    """virConnectBaselineCPU, always expanded: what all of these have."""
    xml_cpus = list(xml_cpus)
    first = ElementTree.fromstring(xml_cpus[0])
    features = frozenset.intersection(*(expand(xml)[0] for xml in xml_cpus))
    return _expanded(first.findtext('model') or '486', expand(xml_cpus[0])[1], features, flags)


def hypervisor_baseline(host: Cpu, xml_cpus: Iterable[str], flags: int = 0) -> str:
    """virConnectBaselineHypervisorCPU, always expanded: what all of these have, and the host too."""
    features = host.features | {'invtsc'}
    for xml in xml_cpus:
        features &= expand(xml)[0]
    return _expanded(host.model, host.vendor, features, flags)


def _expanded(model: str, vendor: str, features: frozenset[str], flags: int) -> str:
    if flags & MIGRATABLE:
        features -= {'invtsc'}
    listed = ''.join(f"<feature policy='require' name='{name}'/>" for name in sorted(features))
    named = f'<vendor>{vendor}</vendor>' if vendor else ''
    return f"<cpu mode='custom' match='exact'><model fallback='forbid'>{model}</model>{named}{listed}</cpu>"
