# SPDX-License-Identifier: Apache-2.0
"""CPUs, asked of a libvirt connection: what its hypervisor provides, what a guest has, and libvirt's own comparison.

Every function takes the connection and calls nothing but its methods, so that Nova's own connection will do, whose
methods are wrapped for eventlet. ``libvirt`` itself is not imported: its errors are known by their ``get_error_code``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any, Callable, Optional, Union

from nova_migcheck.cpu import (
    COMPATIBLE,
    INCOMPATIBLE,
    UNKNOWN,
    X86,
    Comparison,
    Cpu,
    compare,
    hides,
    lacks,
    unreadable,
)
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.models import CpuMap

# Numbers of libvirt's ABI: virConnectBaselineCPUFlags, virConnectCompareCPUFlags, virCPUCompareResult, virErrorNumber.
_EXPAND_FEATURES = 1
_FAIL_INCOMPATIBLE = 1
_COMPARE_INCOMPATIBLE, _COMPARE_IDENTICAL, _COMPARE_SUPERSET = 0, 1, 2
_ERR_INTERNAL_ERROR, _ERR_NO_SUPPORT, _ERR_CONFIG_UNSUPPORTED, _ERR_CPU_INCOMPATIBLE = 1, 3, 67, 91

_AMD = ('AMD', 'Hygon')
_QEMU_10_1 = 10_001_000  # as virConnectGetVersion counts
_FEATURE = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]*')
# libvirt's src/qemu/qemu_domain.c, qemuDomainCheckCPU().
_BY_USABILITY = 10_010_000
# Names that a libvirt does not know and that are found out, one a question.
_MOST_UNKNOWN = 8


class CannotSay(Exception):
    """libvirt cannot tell what was asked. The text says why."""


def host_cpu(conn: Any, virt_type: str) -> Cpu:
    """What the hypervisor of the connection provides to guests of ``virt_type`` (``kvm`` or ``qemu``).

    It is the domain capabilities' host-model, expanded. The raw host CPU of the capabilities, which Nova reports,
    differs from it in both directions. Takes about 3 ms; at the first call after libvirtd started, which probes QEMU,
    seconds.

    :raises CannotSay: with the reason
    """
    try:
        raw = cpuxml.parse_definition(conn.getCapabilities())
        version = conn.getLibVersion()
        arch = raw.arch or 'x86_64'
        try:
            definition = cpuxml.parse_definition(conn.getDomainCapabilities(None, arch, None, virt_type, 0))
        except cpuxml.Undefined as error:
            if arch in X86 or arch == 's390x':
                raise CannotSay(str(error)) from None
            # On Arm libvirt knows the host's own CPU only.
            return Cpu(arch=arch, virt=virt_type, vendor=raw.vendor, model=raw.model, libvirt=version,
                       features=raw.named('require'))
        try:
            features = _required(conn.baselineHypervisorCPU(None, arch, None, virt_type,
                                                            [cpuxml.as_custom(definition)], _EXPAND_FEATURES))
        except Exception as error:
            if _code(error) != _ERR_NO_SUPPORT:
                raise
            features = cpuguest.host_features(definition, expander(conn))
        spelled = frozenset[str]()
        if arch in X86:
            spelled = cpuguest.spelled(definition, expander(conn), CpuMap().added)
    except (CannotSay, cpuguest.UnknownModel, cpuxml.Undefined) as error:
        raise CannotSay(str(error)) from None
    except ValueError as error:
        raise CannotSay(f'libvirt answered something unexpected: {error}') from None
    except Exception as error:
        raise CannotSay(_why(error)) from None
    return Cpu(arch=arch, virt=virt_type, vendor=definition.vendor, model=definition.model, features=features,
               tsc_hz=raw.tsc_hz, tsc_scaling=raw.tsc_scaling, libvirt=version,
               hidden=_hidden(conn, virt_type, definition.vendor) - features,
               spelled=spelled, cpu_map=_cpu_map(conn) if arch in X86 else None)


def _cpu_map(conn: Any) -> Optional[str]:
    """Return the digest of the names that this libvirt knows, None when that cannot be told.

    It is asked for the names of models, in 0.5 ms. It does not tell those of features, which are
    read from the files of its package. If nova-compute has another release's files, in a container,
    both together have a digest that no release has.
    """
    ask = getattr(conn, 'getCPUModelNames', None)  # some stand-ins for a connection lack it
    try:
        return cpunames.digest(ask('x86_64'), CpuMap().features()) if ask is not None else None
    except OSError:
        return None
    except Exception as error:
        _code(error)
        return None


def expander(conn: Any) -> cpuguest.Expand:
    """``expand(model, arch)`` that asks this libvirt, once for each model.

    Not ``baselineHypervisorCPU``, which would leave only what the host itself provides.
    """
    known: dict[tuple[str, str], frozenset[str]] = {}

    def expand(model: str, arch: str) -> frozenset[str]:
        if (model, arch) not in known:
            wanted = cpuxml.host_to_xml(arch, model)
            try:
                if arch == 's390x':  # no models without the hypervisor there, and it does not intersect a single one
                    answer = conn.baselineHypervisorCPU(None, arch, None, 'kvm', [wanted], _EXPAND_FEATURES)
                else:
                    answer = conn.baselineCPU([wanted], _EXPAND_FEATURES)
            except Exception as error:
                raise cpuguest.UnknownModel(f'libvirt cannot tell what the CPU model {model} is: {_why(error)}') from None
            known[model, arch] = _required(answer)
        return known[model, arch]

    return expand


def guest_cpu(conn: Any, domain_xml: str, host: Cpu, expand: Optional[cpuguest.Expand] = None,
              asked: Optional[Callable[[], Optional[str]]] = None) -> Cpu:
    """The CPU of a running guest.

    :param domain_xml: its live XML, ``XMLDesc(0)``: ``VIR_DOMAIN_XML_MIGRATABLE`` leaves out what was disabled live
    :param host: the host that it runs on, from :func:`host_cpu`
    :param expand: from :func:`expander`; pass one to ask for each model once only
    :param asked: gives the XML with which it was asked for, ``XMLDesc(VIR_DOMAIN_XML_MIGRATABLE)``,
        None when it has just ended; called only where that matters (see ``definition.spelled``)
    :raises CannotSay: with the reason
    """
    try:
        definition = cpuxml.parse_definition(domain_xml)
        if definition.virt is not None and definition.virt != host.virt:
            host = host_cpu(conn, definition.virt)
        if definition.mode == 'custom' and definition.arch not in (*X86, 's390x', None):
            # Arm: no models that libvirt could expand; the name of the model and what is added to it is all there is.
            return Cpu(arch=definition.arch or host.arch, virt=definition.virt or host.virt, vendor=definition.vendor,
                       model=definition.model, features=definition.named('require'), libvirt=host.libvirt)
        return cpuguest.guest(definition, expand or expander(conn), host, host.libvirt,
                              CpuMap().added, functools.partial(_named, asked) if asked else None)
    except (ValueError, LookupError) as error:
        raise CannotSay(str(error)) from None


def _named(asked: Callable[[], Optional[str]]) -> frozenset[str]:
    xml = asked()
    return frozenset() if xml is None else cpuxml.parse_definition(xml).all_named


def unknown_names(conn: Any, guest: Cpu) -> frozenset[str]:
    """Return the names in a guest's definition that this libvirt does not know.

    libvirt complains of one at a time, so it is asked until it is content, or has named eight. The
    question is not the guest's own definition: libvirt 11.3 does not look at the features of a model
    with ``-vN``, nor at features that are disabled in a model that QEMU calls usable.
    """
    features = sorted(guest.spelled - {guest.model})
    found: set[str] = set()
    if guest.model in guest.spelled:
        found |= _unknown_name(conn, guest, cpuxml.naming(guest.model, ()), {guest.model})
    while features and len(found) < _MOST_UNKNOWN:
        unknown = _unknown_name(conn, guest, cpuxml.naming(None, features), set(features))
        if not unknown:
            break
        found |= unknown
        features = [name for name in features if name not in unknown]
    return frozenset(found)


def _unknown_name(conn: Any, guest: Cpu, xml: str, names: set[str]) -> set[str]:
    """Return the one of ``names`` that libvirt complains of."""
    try:
        conn.compareHypervisorCPU(None, _emulated(guest.arch), None, guest.virt, xml, 0)
    except Exception as error:
        if _code(error) in (_ERR_INTERNAL_ERROR, _ERR_CONFIG_UNSUPPORTED):
            # "Unknown CPU feature NAME", in libvirtd's language.
            return names & set(_FEATURE.findall(_why(error)))
    return set()


def ask_hypervisor(conn: Any, guest: Union[Cpu, str], virt: Optional[str] = None,
                   arch: Optional[str] = None) -> Comparison:
    """Let libvirt compare a guest's CPU with what its hypervisor provides.

    :param guest: a :class:`Cpu`, or a ``<cpu>`` element
    :param virt: ``kvm`` or ``qemu``; needed with an element
    :param arch: of the guest; without it the host's
    :returns: with ``missing`` from libvirt's message; UNKNOWN when libvirt cannot tell
    """
    if isinstance(guest, Cpu):
        unknown = unknown_names(conn, guest) if guest.arch in X86 else None
        if unknown:
            return unreadable(unknown, guest, conn.getLibVersion())
        xml, virt, arch = cpuxml.guest_to_xml(guest), virt or guest.virt, arch or guest.arch
    else:
        xml = guest
    arch = _emulated(arch)
    how = ''
    try:
        try:
            answer = conn.compareHypervisorCPU(None, arch, None, virt, xml, _FAIL_INCOMPATIBLE)
        except Exception as error:
            if _code(error) != _ERR_NO_SUPPORT:
                raise
            how = ' (compared with the raw CPU of the host: its libvirt cannot compare with the hypervisor)'
            answer = conn.compareCPU(xml, _FAIL_INCOMPATIBLE)
    except Exception as error:
        if _code(error) == _ERR_CPU_INCOMPATIBLE:
            return _unless_hidden(conn, guest, _incompatible(error, guest, how))
        return Comparison(UNKNOWN, reason=f'libvirt cannot compare: {_why(error)}{how}')
    if answer == _COMPARE_INCOMPATIBLE:  # it should have raised, and named the features
        return Comparison(INCOMPATIBLE, reason=f'is incompatible by the word of its libvirt, which names nothing{how}')
    if answer in (_COMPARE_IDENTICAL, _COMPARE_SUPERSET):
        return Comparison(COMPATIBLE, reason=how.strip(' ()'))
    return Comparison(UNKNOWN, reason=f'libvirt answered {answer}{how}')


def ask_and_count(conn: Any, guest: Cpu, provided: Optional[Cpu]) -> Comparison:
    """Ask the hypervisor, and let the comparison of features have the word against a yes that is not believed.

    Since 10.10 compareHypervisorCPU looks at neither features nor vendor if QEMU calls the model
    usable and no feature is required by name, and compares newer models by what blocks them. For nine
    guests with features that the target's QEMU had switched off, libvirt 11.3 accepted the live
    <cpu>, and all nine migrations failed. :func:`ask_hypervisor` puts another question, the oldest
    model with each feature required, and the answer was right for all nine. No guest is known that
    would be accepted wrongly by it, but features that are certainly missing have the word.

    :param provided: what the hypervisor provides, as it was published; asked anew before it counts
    """
    asked = ask_hypervisor(conn, guest, guest.virt)
    if not asked.compatible or provided is None or conn.getLibVersion() < _BY_USABILITY:
        return asked
    # libvirt was asked about the names, whatever was published of what it knows.
    guest = dataclasses.replace(guest, spelled=frozenset())
    if compare(guest, provided).outcome != INCOMPATIBLE:
        return asked
    try:
        counted = compare(guest, host_cpu(conn, guest.virt))
    except CannotSay:
        return asked
    return counted if counted.outcome == INCOMPATIBLE else asked


def _emulated(arch: Optional[str]) -> Optional[str]:
    # One CPU, and the emulator for i686 alone is often not installed.
    return 'x86_64' if arch == 'i686' else arch


def _incompatible(error: Exception, guest: Union[Cpu, str], how: str) -> Comparison:
    """libvirt's message as a comparison. It is translated into libvirtd's language, the names in it are not."""
    message = str(getattr(error, 'get_str2', lambda: '')() or _why(error))
    missing = _missing(message, guest)
    reason = lacks(missing) if missing else f'is incompatible: {message}'
    return Comparison(INCOMPATIBLE, missing, reason + how)


def _unless_hidden(conn: Any, guest: Union[Cpu, str], found: Comparison) -> Comparison:
    vendor, virt = (guest.vendor, guest.virt) if isinstance(guest, Cpu) else (None, None)
    if not found.missing or not frozenset(found.missing) <= cpunames.ARCH_CAPABILITIES:
        return found
    if not frozenset(found.missing) <= _hidden(conn, virt, vendor):
        return found
    return Comparison(UNKNOWN, reason=hides(found.missing))


def _missing(message: str, guest: Union[Cpu, str]) -> tuple[str, ...]:
    # "Host CPU does not provide required features: hle, rtm; try using 'Haswell-noTSX' CPU model"
    names = message.partition(';')[0].rpartition(':')[2].split(',') if ':' in message else []
    found = [name.strip() for name in names]
    if not found or not all(_FEATURE.fullmatch(name) for name in found):
        return ()
    if 'does not provide required features' in message:
        return tuple(sorted(cpunames.canonical(found)))
    # Other messages list features too: those that the guest forbids, those that a strict match has too many.
    if isinstance(guest, Cpu) and cpunames.canonical(found) <= guest.features - guest.forbids:
        return tuple(sorted(cpunames.canonical(found)))
    return ()


def _hidden(conn: Any, virt: Optional[str], vendor: Optional[str]) -> frozenset[str]:
    """What the hypervisor gives to a guest that has it, and does not show.

    QEMU 10.1 stopped to enable by itself, on AMD, what belongs to Intel's arch-capabilities register. KVM still
    emulates it (libvirt's release notes, 12.5.0), but neither domain capabilities nor compareHypervisorCPU tell.
    """
    if virt != 'kvm' or vendor not in _AMD or conn.getVersion() < _QEMU_10_1:
        return frozenset()
    return cpunames.ARCH_CAPABILITIES


def _required(xml: str) -> frozenset[str]:
    """The features that an expanded ``<cpu>`` has. It lists those of its model that the host lacks too, as disabled."""
    return cpuxml.parse_definition(xml).named('require', 'force')


def _code(error: Exception) -> Optional[int]:
    """The code of a ``libvirtError``.

    :raises Exception: ``error`` itself when it is anything else, which is a bug and not libvirt's answer
    """
    get_error_code = getattr(error, 'get_error_code', None)
    if get_error_code is None:
        raise error
    code = get_error_code()
    return code if isinstance(code, int) else None


def _why(error: Exception) -> str:
    _code(error)
    return str(getattr(error, 'get_error_message', lambda: '')() or error)
