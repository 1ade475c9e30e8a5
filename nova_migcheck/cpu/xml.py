# SPDX-License-Identifier: Apache-2.0
"""Read CPU definitions in libvirt's XML, and write those that libvirt is asked about.

Four documents contain one: a ``<cpu>`` element, a ``<domain>``, and a host's
``<domainCapabilities>`` and ``<capabilities>``.
"""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from typing import Iterable, NamedTuple, Optional, Union
from xml.sax.saxutils import quoteattr

from nova_migcheck.cpu import X86, Cpu
from nova_migcheck.cpu import names as cpunames

#: Characters. A domain's XML has tens of thousands, and nothing that libvirt prints has many more.
MAX_XML = 4 * 1024 * 1024

_DOCTYPE = re.compile(r'<!\s*(DOCTYPE|ENTITY)', re.IGNORECASE)
#: The policies that a feature may have.
POLICIES = ('force', 'require', 'optional', 'disable', 'forbid')
#: Modes of a guest that has the CPU of its host.
HOSTS_OWN = ('host-passthrough', 'maximum')
# The smallest model of x86, and its features, which are the same for every libvirt.
_SMALLEST, _SMALLEST_HAS = '486', frozenset({'fpu', 'pse', 'vme'})


class Undefined(ValueError):
    """Raised for a definition from which the features of the CPU do not follow.

    The text says why, and what to use instead.
    """


class Model(NamedTuple):
    """A CPU model that domain capabilities offer.

    :ivar usable: ``yes``, ``no`` or ``unknown``: whether QEMU can give a guest all of it
    :ivar blockers: what QEMU cannot give, if libvirt reports it (since 10.9)
    """

    name: str
    usable: str
    blockers: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Definition:
    """A CPU as it was written.

    :param document: ``cpu``, ``domain``, ``domainCapabilities`` or ``capabilities``
    :param arch: architecture, None if the document does not name it (``<cpu>`` of a guest)
    :param virt: type of the domain, ``kvm`` or ``qemu``; None if the document does not name it
    :param mode: ``custom``, ``host-model``, ``host-passthrough`` or ``maximum``
    :param match: ``exact``, ``minimum`` or ``strict``
    :param check: what libvirt verified: ``none``, ``partial``, ``full``, or '' if absent
    :param migratable: False for host-passthrough with ``migratable='off'``
    :param features: pairs of name and policy
    :param tsc_hz: the guest's fixed TSC frequency, or the host's
    :param tsc_scaling: of the host
    :param fallback: whether libvirt may use another model in place of one that QEMU does not know
    :param live: whether it describes what a running guest has, and not what was requested
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
        """All features that the definition names, with any policy."""
        return self.named(*POLICIES)

    def named(self, *policies: str) -> frozenset[str]:
        """Return the features that the definition names with one of ``policies``."""
        return cpunames.canonical(name for name, policy in self.features if policy in policies)


def parse(xml: str) -> ElementTree.Element:
    """Return the root of a document of libvirt.

    :raises ValueError: if it is not XML, too large, or declares entities
    """
    if len(xml) > MAX_XML:
        raise ValueError(f'the document is larger than {MAX_XML} characters')
    if _DOCTYPE.search(xml):  # libvirt writes none, and an entity may expand to gigabytes
        raise ValueError('the document declares entities, which libvirt never does')
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f'not XML: {error}') from None


def parse_definition(xml: Union[str, ElementTree.Element]) -> Definition:
    """Read one of the four documents.

    :param xml: its text, or what :func:`parse` has returned
    :raises Undefined: for domain capabilities that offer no host-model
    :raises ValueError: if it is none of the four, or not XML, or too large
    """
    root = parse(xml) if isinstance(xml, str) else xml
    read = {'cpu': _read_cpu, 'domain': _read_domain, 'capabilities': _read_capabilities,
            'domainCapabilities': _read_domain_capabilities}.get(root.tag)
    if read is None:
        raise ValueError(f'<{str(root.tag)[:64]}> is none of <cpu>, <domain>, '
                         '<domainCapabilities>, <capabilities>')
    return read(root)


def guest_to_xml(cpu: Cpu) -> str:
    """Return a ``<cpu>`` element that means exactly ``cpu`` to any libvirt."""
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
    lines += [f'<feature policy="{policy}" name={quoteattr(name)}/>'
              for name, policy in policies.items()]
    return ''.join([*lines, '</cpu>'])


def naming(model: Optional[str], features: Iterable[str]) -> str:
    """Return a guest's ``<cpu>`` element that names features and requires none of them.

    :param model: None for the smallest one
    """
    named = ''.join(f'<feature policy="optional" name={quoteattr(name)}/>' for name in features)
    return (f'<cpu mode="custom" match="exact"><model fallback="forbid">'
            f'{_text(model or _SMALLEST)}</model>{named}</cpu>')


def host_to_xml(arch: str, model: str) -> str:
    """Return a host's ``<cpu>`` element with only a model, for ``virConnectBaselineCPU``."""
    return f'<cpu><arch>{_text(arch)}</arch><model>{_text(model)}</model></cpu>'


def as_custom(definition: Definition) -> str:
    """Return the definition as a guest's ``<cpu>`` with mode custom, as libvirt takes a host's."""
    lines = ['<cpu mode="custom" match="exact">']
    if definition.model:
        lines.append(f'<model fallback="forbid">{_text(definition.model)}</model>')
    if definition.vendor:
        lines.append(f'<vendor>{_text(definition.vendor)}</vendor>')
    lines += [f'<feature policy="{policy}" name={quoteattr(name)}/>'
              for name, policy in definition.features]
    return ''.join([*lines, '</cpu>'])


def _read_cpu(element: ElementTree.Element) -> Definition:
    features: dict[str, str] = {}
    for feature in element.findall('feature'):
        name, policy = feature.get('name', ''), feature.get('policy', 'require')
        if not name or policy not in POLICIES:
            raise ValueError(f'a <feature> of the <cpu> has no name, or a policy {policy[:64]!r} '
                             'that libvirt does not have')
        if name in features:
            raise ValueError(f'the <cpu> names the feature {name[:64]!r} twice')
        features[name] = policy
    counter = element.find("counter[@name='tsc']")  # in a host's <cpu> only
    scaling = counter.get('scaling', '') if counter is not None else ''
    return Definition(
        'cpu', arch=_child(element, 'arch'),
        mode=_one_of(element, 'mode', 'custom', 'host-model', *HOSTS_OWN),
        match=_one_of(element, 'match', 'exact', 'minimum', 'strict'),
        check=element.get('check', ''),
        fallback=element.find("model[@fallback='forbid']") is None,
        live=element.get('check') == 'full',
        migratable=element.get('migratable') != 'off',
        model=_child(element, 'model'), vendor=_child(element, 'vendor'),
        features=tuple(features.items()), tsc_hz=_hertz(counter),
        tsc_scaling={'yes': True, 'no': False}.get(scaling))


def _read_domain(root: ElementTree.Element) -> Definition:
    element = root.find('cpu')
    os_type = root.find('os/type')
    cpu = Definition('domain') if element is None else _read_cpu(element)
    arch = os_type.get('arch') if os_type is not None else None
    return dataclasses.replace(cpu, document='domain', virt=root.get('type'), arch=arch or cpu.arch,
                               live=cpu.live or root.get('id') is not None,
                               tsc_hz=_hertz(root.find("clock/timer[@name='tsc']")),
                               tsc_scaling=None)


def _read_domain_capabilities(root: ElementTree.Element) -> Definition:
    arch, virt = _child(root, 'arch'), _child(root, 'domain')
    mode = root.find("cpu/mode[@name='host-model']")
    if mode is None or mode.get('supported') != 'yes':
        raise Undefined(f'these domain capabilities ({arch}, {virt}) offer no host-model CPU: the '
                        'hypervisor does not report what it provides')
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
    models = []
    for element in custom.findall('model'):
        name = (element.text or '').strip()
        usable = element.get('usable', 'unknown')
        models.append(Model(name, usable, blockers.get(name, frozenset())))
    return tuple(models)


def _read_capabilities(root: ElementTree.Element) -> Definition:
    element = root.find('host/cpu')
    if element is None:
        raise ValueError('these capabilities hold no <cpu> of a host')
    return dataclasses.replace(_read_cpu(element), document='capabilities')


def _child(element: ElementTree.Element, tag: str) -> Optional[str]:
    return (element.findtext(tag) or '').strip() or None


def _one_of(element: ElementTree.Element, attribute: str, *values: str) -> str:
    value = element.get(attribute, values[0])
    if value not in values:
        raise ValueError(f'{attribute} {value[:64]!r} of the <cpu> does not exist in libvirt')
    return value


def _hertz(element: Optional[ElementTree.Element]) -> Optional[int]:
    text = element.get('frequency', '') if element is not None else ''
    if not text:
        return None
    if not re.fullmatch('[0-9]{1,12}', text) or not int(text):
        raise ValueError(f'{text[:64]!r} is not a TSC frequency in Hz')
    return int(text)


def _text(value: str) -> str:
    return value.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
