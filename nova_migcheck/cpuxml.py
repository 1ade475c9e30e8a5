# SPDX-License-Identifier: Apache-2.0
"""CPU definitions as libvirt writes them in XML, and what they mean as sets of features.

Four documents hold one: a ``<cpu>`` element, a ``<domain>``, and a host's ``<domainCapabilities>`` and
``<capabilities>``. A definition is a model and changes to it; what a model means is asked of an *expand* function,
``expand(model, arch) -> names``, which raises :class:`UnknownModel`: :meth:`nova_migcheck.cpumap.CpuMap.expand` reads
libvirt's files, :func:`nova_migcheck.libvirtcpu.expander` asks a libvirtd.
"""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from typing import Callable, Optional
from xml.sax.saxutils import quoteattr

from nova_migcheck import cpunames
from nova_migcheck.cpu import Cpu

Expand = Callable[[str, str], frozenset[str]]

#: Characters. A domain's XML has tens of thousands; nothing that libvirt prints comes near.
MAX_XML = 4 * 1024 * 1024

#: A guest that takes the host's CPU gets these only when its definition requires them by name: QEMU leaves out what
#: it cannot migrate (its CPU property ``migratable``), although the domain capabilities list it.
NOT_BY_DEFAULT = frozenset({'invtsc'})

#: KVM gives these to any guest, whatever the host: QEMU's kvm_arch_get_supported_cpuid() adds topoext, without ever
#: enabling it for ``-cpu host``, from which libvirt learns what the host can do. So every running EPYC host-model guest
#: "lacks" it on its own host by libvirt's comparison, and migrates well.
ALWAYS_FROM_KVM = frozenset({'topoext'})

_DOCTYPE = re.compile(r'<!\s*(DOCTYPE|ENTITY)', re.IGNORECASE)
_POLICIES = ('force', 'require', 'optional', 'disable', 'forbid')
_HOSTS_OWN = ('host-passthrough', 'maximum')
# The smallest model of x86, and what it means: the same to every libvirt.
_SMALLEST, _SMALLEST_HAS = '486', frozenset({'fpu', 'pse', 'vme'})


class UnknownModel(LookupError):
    """A CPU model that this libvirt does not know."""


class Undefined(ValueError):
    """A definition that does not say by itself which features the CPU has. The text says why and what would."""


@dataclasses.dataclass(frozen=True)
class Definition:
    """A CPU as it was written.

    :param document: ``cpu``, ``domain``, ``domainCapabilities`` or ``capabilities``
    :param arch: architecture, None when the document does not name it (``<cpu>`` of a guest)
    :param virt: type of the domain, ``kvm`` or ``qemu``; None when the document does not name it
    :param mode: ``custom``, ``host-model``, ``host-passthrough`` or ``maximum``
    :param match: ``exact``, ``minimum`` or ``strict``
    :param check: what libvirt verified: ``none``, ``partial``, ``full``, or '' when it is not said
    :param migratable: False for host-passthrough with ``migratable='off'``
    :param features: name -> policy
    :param tsc_hz: the guest's fixed TSC frequency, or the host's
    :param tsc_scaling: of the host
    """

    document: str
    arch: Optional[str] = None
    virt: Optional[str] = None
    mode: str = 'custom'
    match: str = 'exact'
    check: str = ''
    migratable: bool = True
    model: Optional[str] = None
    vendor: Optional[str] = None
    features: tuple[tuple[str, str], ...] = ()
    tsc_hz: Optional[int] = None
    tsc_scaling: Optional[bool] = None

    def named(self, *policies: str) -> frozenset[str]:
        """The features that the definition names with one of ``policies``."""
        return cpunames.canonical(name for name, policy in self.features if policy in policies)


def parse_definition(xml: str) -> Definition:
    """Read one of the four documents.

    :raises Undefined: for domain capabilities that offer no host-model
    :raises ValueError: when it is none of the four, or not XML, or too large
    """
    if len(xml) > MAX_XML:
        raise ValueError(f'the document is larger than {MAX_XML} characters')
    if _DOCTYPE.search(xml):  # libvirt writes none, and an entity may expand to gigabytes
        raise ValueError('the document declares entities, which libvirt never does')
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f'not XML: {error}') from None
    read = {'cpu': _read_cpu, 'domain': _read_domain, 'domainCapabilities': _read_domain_capabilities,
            'capabilities': _read_capabilities}.get(root.tag)
    if read is None:
        raise ValueError(f'<{str(root.tag)[:64]}> is none of <cpu>, <domain>, <domainCapabilities>, <capabilities>')
    return read(root)


def guest_features(definition: Definition, expand: Expand) -> frozenset[str]:
    """What the target must provide for a guest: the model and what is required, without what is disabled, optional or
    forced. (QEMU emulates what is forced; what was optional and is in use stands as required in a live XML.)

    :raises Undefined: when the definition takes the CPU of a host
    :raises UnknownModel: from ``expand``
    """
    if definition.document in ('domain', 'cpu') and definition.mode != 'custom':
        raise Undefined(f'a definition with mode {definition.mode} does not say which features the guest has: take the '
                        'XML of the running guest, or the domain capabilities of the host that it runs on')
    if definition.model is None and definition.document in ('domain', 'cpu') and not definition.features:
        raise Undefined('the definition names no model: take the XML of the running guest')
    return (_model(definition, expand) | definition.named('require')) - definition.named('disable', 'optional', 'force')


def host_features(definition: Definition, expand: Expand) -> frozenset[str]:
    """What a host provides that is described so.

    :raises Undefined: when the definition takes the CPU of another host
    :raises UnknownModel: from ``expand``
    """
    if definition.document in ('domain', 'cpu') and definition.mode != 'custom':
        raise Undefined(f'a definition with mode {definition.mode} says nothing of a host')
    if definition.model is None:
        raise Undefined('the definition names no model')
    return (_model(definition, expand) | definition.named('require', 'force')) - definition.named('disable', 'forbid')


def passthrough_features(definition: Definition, host: frozenset[str]) -> frozenset[str]:
    """What a guest has whose definition takes the CPU of its host (host-passthrough, maximum), which gives ``host``."""
    given = host if not definition.migratable else host - NOT_BY_DEFAULT
    return (given | definition.named('require')) - definition.named('disable', 'forbid')


def guest(definition: Definition, expand: Expand, own_host: Optional[Cpu] = None, libvirt: Optional[int] = None) -> Cpu:
    """The CPU of a running guest.

    :param own_host: the host that it runs on: what a host-passthrough guest has, and the bound for a guest that libvirt
        did not verify (``check='none'``: QEMU left out silently what the host lacks)
    :param libvirt: version of the libvirt that wrote the definition
    :raises Undefined: when the definition takes the CPU of its host and that is not given
    :raises UnknownModel: from ``expand``
    """
    arch = definition.arch or (own_host.arch if own_host else 'x86_64')
    virt = definition.virt or (own_host.virt if own_host else 'kvm')
    vendor, model = definition.vendor, definition.model
    if definition.mode in _HOSTS_OWN and own_host is not None:
        features = passthrough_features(definition, own_host.features)
        vendor, model = own_host.vendor, own_host.model
    else:
        features = guest_features(definition, expand)
        if definition.document in ('domainCapabilities', 'capabilities'):
            features -= NOT_BY_DEFAULT
        elif definition.check == 'none' and own_host is not None:
            features &= own_host.features | definition.named('require')
        features = _with_vmx_as_started(definition, features)
    at_most = None
    if definition.match == 'strict':
        at_most = features | definition.named('optional', 'disable', 'force')
    if definition.document == 'domain' and virt == 'kvm':
        features -= ALWAYS_FROM_KVM
    return Cpu(arch=arch, virt=virt, vendor=vendor, model=model, features=features, libvirt=libvirt, at_most=at_most,
               tsc_hz=_needed_tsc(definition, virt, features, own_host),
               forbids=definition.named('forbid') if definition.mode == 'custom' else frozenset())


def host(definition: Definition, expand: Expand, libvirt: Optional[int] = None) -> Cpu:
    """The CPU that a host provides which is described so.

    :raises Undefined: when the definition takes the CPU of another host
    :raises UnknownModel: from ``expand``
    """
    return Cpu(arch=definition.arch or 'x86_64', virt=definition.virt or 'kvm', vendor=definition.vendor,
               model=definition.model, features=host_features(definition, expand), libvirt=libvirt,
               tsc_hz=definition.tsc_hz, tsc_scaling=definition.tsc_scaling)


def guest_to_xml(cpu: Cpu) -> str:
    """A ``<cpu>`` element whose meaning is exactly ``cpu``, to ask a libvirt that knows nothing else of the guest."""
    x86 = cpu.arch in ('x86_64', 'i686')
    lines = [f'<cpu mode="custom" match="{"exact" if cpu.at_most is None else "strict"}">',
             f'<model fallback="forbid">{_SMALLEST if x86 else _text(cpu.model or "")}</model>']
    if cpu.vendor:
        lines.append(f'<vendor>{_text(cpu.vendor)}</vendor>')
    policies = dict.fromkeys(sorted(cpu.at_most or ()), 'optional')
    if x86:
        policies.update(dict.fromkeys(sorted(_SMALLEST_HAS - cpu.features), 'disable'))
    policies.update(dict.fromkeys(sorted(cpu.features), 'require'))
    policies.update(dict.fromkeys(sorted(cpu.forbids), 'forbid'))
    lines += [f'<feature policy="{policy}" name={quoteattr(name)}/>' for name, policy in policies.items()]
    return ''.join([*lines, '</cpu>'])


def host_to_xml(arch: str, model: str) -> str:
    """A host's ``<cpu>`` element with nothing but a model, as ``virConnectBaselineCPU`` takes it."""
    return f'<cpu><arch>{_text(arch)}</arch><model>{_text(model)}</model></cpu>'


def as_custom(definition: Definition) -> str:
    """The definition as a guest's ``<cpu>`` with mode custom: the form in which libvirt takes a host's CPU."""
    lines = ['<cpu mode="custom" match="exact">']
    if definition.model:
        lines.append(f'<model fallback="forbid">{_text(definition.model)}</model>')
    if definition.vendor:
        lines.append(f'<vendor>{_text(definition.vendor)}</vendor>')
    lines += [f'<feature policy="{policy}" name={quoteattr(name)}/>' for name, policy in definition.features]
    return ''.join([*lines, '</cpu>'])


def _model(definition: Definition, expand: Expand) -> frozenset[str]:
    if definition.model is None:
        return frozenset()
    return cpunames.canonical(expand(definition.model, definition.arch or 'x86_64'))


def _with_vmx_as_started(definition: Definition, features: frozenset[str]) -> frozenset[str]:
    """``features`` without those of VMX that only today's definition of the model has.

    They belong to the models since libvirt 9.10, and say nothing of a guest without VMX nor of one that an older
    libvirt started, whose XML names none of them.
    """
    named = any(name.startswith('vmx-') for name, _ in definition.features)
    return features if named and 'vmx' in features else cpunames.without_vmx_details(features)


def _needed_tsc(definition: Definition, virt: str, features: frozenset[str], own_host: Optional[Cpu]) -> Optional[int]:
    """The frequency that the guest's TSC must keep. Under TCG the TSC is QEMU's own, on every host."""
    if virt != 'kvm' or definition.document != 'domain':
        return None
    if definition.tsc_hz is not None:
        return definition.tsc_hz
    return own_host.tsc_hz if own_host is not None and 'invtsc' in features else None


def _read_cpu(element: ElementTree.Element) -> Definition:
    features: dict[str, str] = {}
    for feature in element.findall('feature'):
        name, policy = feature.get('name', ''), feature.get('policy', 'require')
        if not name or policy not in _POLICIES:
            raise ValueError(f'a <feature> of the <cpu> has no name, or a policy {policy[:64]!r} that libvirt does not '
                             'have')
        if name in features:
            raise ValueError(f'the <cpu> names the feature {name[:64]!r} twice')
        features[name] = policy
    # The counter stands in a host's <cpu> only.
    counter = element.find("counter[@name='tsc']")
    scaling = None if counter is None else {'yes': True, 'no': False}.get(counter.get('scaling', ''))
    return Definition(
        'cpu', arch=_child(element, 'arch'), mode=_known(element, 'mode', 'custom', 'host-model', *_HOSTS_OWN),
        match=_known(element, 'match', 'exact', 'minimum', 'strict'), check=element.get('check', ''),
        migratable=element.get('migratable') != 'off', model=_child(element, 'model'), vendor=_child(element, 'vendor'),
        features=tuple(features.items()), tsc_hz=_hertz(counter), tsc_scaling=scaling)


def _read_domain(root: ElementTree.Element) -> Definition:
    element = root.find('cpu')
    os_type = root.find('os/type')
    cpu = Definition('domain') if element is None else _read_cpu(element)
    return dataclasses.replace(cpu, document='domain', virt=root.get('type'),
                               arch=(os_type.get('arch') if os_type is not None else None) or cpu.arch,
                               tsc_hz=_hertz(root.find("clock/timer[@name='tsc']")), tsc_scaling=None)


def _read_domain_capabilities(root: ElementTree.Element) -> Definition:
    arch, virt = _child(root, 'arch'), _child(root, 'domain')
    mode = root.find("cpu/mode[@name='host-model']")
    if mode is None or mode.get('supported') != 'yes':
        raise Undefined(f'these domain capabilities ({arch}, {virt}) offer no host-model CPU: the hypervisor does not '
                        'say what it provides')
    cpu = _read_cpu(mode)
    return dataclasses.replace(cpu, document='domainCapabilities', arch=arch, virt=virt)


def _read_capabilities(root: ElementTree.Element) -> Definition:
    element = root.find('host/cpu')
    if element is None:
        raise ValueError('these capabilities hold no <cpu> of a host')
    return dataclasses.replace(_read_cpu(element), document='capabilities')


def _child(element: ElementTree.Element, tag: str) -> Optional[str]:
    return (element.findtext(tag) or '').strip() or None


def _known(element: ElementTree.Element, attribute: str, *values: str) -> str:
    value = element.get(attribute, values[0])
    if value not in values:
        raise ValueError(f'{attribute} {value[:64]!r} of the <cpu> is none that libvirt has')
    return value


def _hertz(element: Optional[ElementTree.Element]) -> Optional[int]:
    text = element.get('frequency', '') if element is not None else ''
    if not text:
        return None
    if not re.fullmatch('[0-9]{1,12}', text) or not int(text):
        raise ValueError(f'{text[:64]!r} is no TSC frequency in Hz')
    return int(text)


def _text(value: str) -> str:
    return value.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
