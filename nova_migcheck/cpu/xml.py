# SPDX-License-Identifier: Apache-2.0
"""CPU definitions as libvirt writes them in XML: read, and written to ask libvirt.

Four documents hold one: a ``<cpu>`` element, a ``<domain>``, and a host's ``<domainCapabilities>`` and
``<capabilities>``.
"""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from typing import Iterable, NamedTuple, Optional
from xml.sax.saxutils import quoteattr

from nova_migcheck.cpu import X86, Cpu
from nova_migcheck.cpu import names as cpunames

#: Characters. A domain's XML has tens of thousands; nothing that libvirt prints comes near.
MAX_XML = 4 * 1024 * 1024

_DOCTYPE = re.compile(r'<!\s*(DOCTYPE|ENTITY)', re.IGNORECASE)
#: What a definition may say of a feature.
POLICIES = ('force', 'require', 'optional', 'disable', 'forbid')
#: Modes of a guest that has the CPU of the host that it runs on.
HOSTS_OWN = ('host-passthrough', 'maximum')
# The smallest model of x86, and what it means: the same to every libvirt.
_SMALLEST, _SMALLEST_HAS = '486', frozenset({'fpu', 'pse', 'vme'})


class Undefined(ValueError):
    """A definition that does not say by itself which features the CPU has. The text says why and what would."""


class Model(NamedTuple):
    """A CPU model that domain capabilities offer.

    :ivar usable: ``yes``, ``no`` or ``unknown``: whether QEMU can give a guest all of it
    :ivar blockers: what QEMU cannot give, where libvirt says it (since 10.9)
    """

    name: str
    usable: str
    blockers: frozenset[str]


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
    :param fallback: whether libvirt may give another model in place of one that QEMU does not know
    :param live: it says what a running guest has, and not what one was asked for
    :param models: of domain capabilities, the models that a guest can have
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
    fallback: bool = True
    live: bool = False
    models: tuple[Model, ...] = ()

    @property
    def takes_hosts_cpu(self) -> bool:
        """Whether a guest with this definition has the CPU of its host."""
        return self.document in ('cpu', 'domain') and self.mode != 'custom'

    @property
    def all_named(self) -> frozenset[str]:
        """The features that the definition names, under whatever policy."""
        return self.named(*POLICIES)

    def named(self, *policies: str) -> frozenset[str]:
        """The features that the definition names with one of ``policies``."""
        return cpunames.canonical(name for name, policy in self.features if policy in policies)


def parse(xml: str) -> ElementTree.Element:
    """Return the root of a document of libvirt's.

    :raises ValueError: when it is not XML, too large, or declares entities
    """
    if len(xml) > MAX_XML:
        raise ValueError(f'the document is larger than {MAX_XML} characters')
    if _DOCTYPE.search(xml):  # libvirt writes none, and an entity may expand to gigabytes
        raise ValueError('the document declares entities, which libvirt never does')
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f'not XML: {error}') from None


def parse_definition(xml: str) -> Definition:
    """Read one of the four documents.

    :raises Undefined: for domain capabilities that offer no host-model
    :raises ValueError: when it is none of the four, or not XML, or too large
    """
    root = parse(xml)
    read = {'cpu': _read_cpu, 'domain': _read_domain, 'domainCapabilities': _read_domain_capabilities,
            'capabilities': _read_capabilities}.get(root.tag)
    if read is None:
        raise ValueError(f'<{str(root.tag)[:64]}> is none of <cpu>, <domain>, <domainCapabilities>, <capabilities>')
    return read(root)


def guest_to_xml(cpu: Cpu) -> str:
    """A ``<cpu>`` element whose meaning is exactly ``cpu``, to ask a libvirt that knows nothing else of the guest."""
    x86 = cpu.arch in X86
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


def naming(model: Optional[str], features: Iterable[str]) -> str:
    """Return a guest's ``<cpu>`` element that names features, and needs none of them.

    :param model: None for the smallest one
    """
    named = ''.join(f'<feature policy="optional" name={quoteattr(name)}/>' for name in features)
    return (f'<cpu mode="custom" match="exact"><model fallback="forbid">'
            f'{_text(model or _SMALLEST)}</model>{named}</cpu>')


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


def _read_cpu(element: ElementTree.Element) -> Definition:
    features: dict[str, str] = {}
    for feature in element.findall('feature'):
        name, policy = feature.get('name', ''), feature.get('policy', 'require')
        if not name or policy not in POLICIES:
            raise ValueError(f'a <feature> of the <cpu> has no name, or a policy {policy[:64]!r} that libvirt does not '
                             'have')
        if name in features:
            raise ValueError(f'the <cpu> names the feature {name[:64]!r} twice')
        features[name] = policy
    # The counter stands in a host's <cpu> only.
    counter = element.find("counter[@name='tsc']")
    scaling = None if counter is None else {'yes': True, 'no': False}.get(counter.get('scaling', ''))
    return Definition(
        'cpu', arch=_child(element, 'arch'), mode=_known(element, 'mode', 'custom', 'host-model', *HOSTS_OWN),
        match=_known(element, 'match', 'exact', 'minimum', 'strict'), check=element.get('check', ''),
        fallback=element.find("model[@fallback='forbid']") is None,
        live=element.get('check') == 'full',
        migratable=element.get('migratable') != 'off', model=_child(element, 'model'), vendor=_child(element, 'vendor'),
        features=tuple(features.items()), tsc_hz=_hertz(counter), tsc_scaling=scaling)


def _read_domain(root: ElementTree.Element) -> Definition:
    element = root.find('cpu')
    os_type = root.find('os/type')
    cpu = Definition('domain') if element is None else _read_cpu(element)
    return dataclasses.replace(cpu, document='domain', virt=root.get('type'),
                               live=cpu.live or root.get('id') is not None,
                               arch=(os_type.get('arch') if os_type is not None else None) or cpu.arch,
                               tsc_hz=_hertz(root.find("clock/timer[@name='tsc']")), tsc_scaling=None)


def _read_domain_capabilities(root: ElementTree.Element) -> Definition:
    arch, virt = _child(root, 'arch'), _child(root, 'domain')
    mode = root.find("cpu/mode[@name='host-model']")
    if mode is None or mode.get('supported') != 'yes':
        raise Undefined(f'these domain capabilities ({arch}, {virt}) offer no host-model CPU: the hypervisor does not '
                        'say what it provides')
    cpu = _read_cpu(mode)
    return dataclasses.replace(cpu, document='domainCapabilities', arch=arch, virt=virt,
                               models=_models(root))


def _models(root: ElementTree.Element) -> tuple[Model, ...]:
    custom = root.find("cpu/mode[@name='custom']")
    if custom is None or custom.get('supported') != 'yes':
        return ()
    blockers = {}
    for element in custom.findall('blockers'):
        features = (feature.get('name', '') for feature in element.findall('feature'))
        blockers[element.get('model', '')] = cpunames.canonical(features)
    found = []
    for element in custom.findall('model'):
        name = (element.text or '').strip()
        usable = element.get('usable', 'unknown')
        found.append(Model(name, usable, blockers.get(name, frozenset())))
    return tuple(found)


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
