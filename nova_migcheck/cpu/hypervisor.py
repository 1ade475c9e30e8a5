# SPDX-License-Identifier: Apache-2.0
"""Ask libvirt what its hypervisor provides, what a guest has, and for its own comparison.

Every function takes the connection and calls nothing but its methods. So it also works with Nova's
own connection, whose methods are wrapped for eventlet. ``libvirt`` itself is not imported: its
errors are recognized by their ``get_error_code``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import xml.etree.ElementTree as ElementTree
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

# Numbers of libvirt's ABI: virConnectBaselineCPUFlags, virConnectCompareCPUFlags,
# virCPUCompareResult, virErrorNumber.
_EXPAND_FEATURES = 1
_FAIL_INCOMPATIBLE = 1
_COMPARE_INCOMPATIBLE, _COMPARE_IDENTICAL, _COMPARE_SUPERSET = 0, 1, 2
_ERR_INTERNAL_ERROR, _ERR_NO_SUPPORT, _ERR_CONFIG_UNSUPPORTED, _ERR_CPU_INCOMPATIBLE = 1, 3, 67, 91

_AMD = ('AMD', 'Hygon')
_QEMU_10_1 = 10_001_000  # as virConnectGetVersion counts
_FEATURE = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]*')
# libvirt's src/qemu/qemu_domain.c, qemuDomainCheckCPU().
_BY_USABILITY = 10_010_000
# At most this many names that a libvirt does not know are determined: each takes a call.
_MOST_UNKNOWN = 8


class CannotSay(Exception):
    """Raised if libvirt cannot answer. The text says why."""


def host_cpu(conn: Any, virt_type: str) -> Cpu:
    """Return what the hypervisor provides to guests of ``virt_type`` (``kvm`` or ``qemu``).

    This is the expanded host-model of the domain capabilities. The raw host CPU of the
    capabilities, which Nova reports, differs from it in both directions. A call takes about 3 ms.
    The first one after libvirtd has started takes seconds, because libvirtd probes QEMU.

    :raises CannotSay: with the reason
    """
    try:
        raw = cpuxml.parse_definition(conn.getCapabilities())
        version = conn.getLibVersion()
        arch = raw.arch or 'x86_64'
        try:
            definition = cpuxml.parse_definition(
                conn.getDomainCapabilities(None, arch, None, virt_type, 0))
        except cpuxml.Undefined as error:
            if arch in X86 or arch == 's390x':
                raise CannotSay(str(error)) from None
            # On Arm libvirt knows the host's own CPU only.
            return Cpu(arch=arch, virt=virt_type, vendor=raw.vendor, model=raw.model,
                       libvirt=version, features=raw.named('require'))
        try:
            custom = [cpuxml.as_custom(definition)]
            features = _required(conn.baselineHypervisorCPU(
                None, arch, None, virt_type, custom, _EXPAND_FEATURES))
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
        raise CannotSay(f'unexpected answer of libvirt: {error}') from None
    except Exception as error:
        raise CannotSay(_why(error)) from None
    return Cpu(arch=arch, virt=virt_type, vendor=definition.vendor, model=definition.model,
               features=features, tsc_hz=raw.tsc_hz, tsc_scaling=raw.tsc_scaling, libvirt=version,
               hidden=_hidden(conn, virt_type, definition.vendor) - features,
               spelled=spelled, cpu_map=_cpu_map(conn) if arch in X86 else None)


def _cpu_map(conn: Any) -> Optional[str]:
    """Return the digest of the names that this libvirt knows, or None if it cannot be determined.

    libvirt lists the names of models, in 0.5 ms. It does not list those of features, which are
    read from the files of its package. If nova-compute has the files of another release, in a
    container, the digest is none of the known ones.
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
    """Return ``expand(model, arch)``, which asks this libvirt once for each model.

    It does not use ``baselineHypervisorCPU``, which returns only what the host itself provides.
    """
    @functools.cache
    def expand(model: str, arch: str) -> frozenset[str]:
        models = [cpuxml.host_to_xml(arch, model)]
        try:
            if arch == 's390x':  # baselineCPU knows no models there
                return _required(conn.baselineHypervisorCPU(
                    None, arch, None, 'kvm', models, _EXPAND_FEATURES))
            return _required(conn.baselineCPU(models, _EXPAND_FEATURES))
        except Exception as error:
            raise cpuguest.UnknownModel(
                f'libvirt cannot expand the CPU model {model}: {_why(error)}') from None

    return expand


def guest_cpu(conn: Any, domain_xml: Union[str, ElementTree.Element], host: Cpu,
              expand: Optional[cpuguest.Expand] = None,
              asked: Optional[Callable[[], Optional[str]]] = None) -> Cpu:
    """Return the CPU of a running guest.

    :param domain_xml: its live XML, ``XMLDesc(0)``, parsed or not; that of
        ``VIR_DOMAIN_XML_MIGRATABLE`` lacks what was disabled when it started
    :param host: the host that it runs on, from :func:`host_cpu`
    :param expand: from :func:`expander`; pass one to ask for each model only once
    :param asked: returns the XML with which the guest was requested,
        ``XMLDesc(VIR_DOMAIN_XML_MIGRATABLE)``, None if it has just ended; called only if that
        matters (see ``definition.spelled``)
    :raises CannotSay: with the reason
    """
    try:
        definition = cpuxml.parse_definition(domain_xml)
        if definition.virt is not None and definition.virt != host.virt:
            host = host_cpu(conn, definition.virt)
        if definition.mode == 'custom' and definition.arch not in (*X86, 's390x', None):
            # Arm: libvirt cannot expand the models. Only the names can be compared.
            return Cpu(arch=definition.arch or host.arch, virt=definition.virt or host.virt,
                       vendor=definition.vendor, model=definition.model,
                       features=definition.named('require'), libvirt=host.libvirt)
        return cpuguest.guest(definition, expand or expander(conn), host, host.libvirt,
                              CpuMap().added, functools.partial(_named, asked) if asked else None)
    except (ValueError, LookupError) as error:
        raise CannotSay(str(error)) from None


def _named(asked: Callable[[], Optional[str]]) -> frozenset[str]:
    xml = asked()
    return frozenset() if xml is None else cpuxml.parse_definition(xml).all_named


def unknown_names(conn: Any, guest: Cpu) -> frozenset[str]:
    """Return the names in a guest's definition that this libvirt does not know.

    libvirt reports one name at a time, so it is asked again until it accepts the rest or has
    reported eight. It is not asked about the guest's own definition: libvirt 11.3 looks neither at
    the features of a model with ``-vN``, nor at features that are disabled in a usable model.
    """
    features = sorted(guest.spelled - {guest.model})
    unknown: set[str] = set()
    if guest.model in guest.spelled:
        unknown |= _unknown_name(conn, guest, cpuxml.naming(guest.model, ()), {guest.model})
    while features and len(unknown) < _MOST_UNKNOWN:
        reported = _unknown_name(conn, guest, cpuxml.naming(None, features), set(features))
        if not reported:
            break
        unknown |= reported
        features = [name for name in features if name not in reported]
    return frozenset(unknown)


def _unknown_name(conn: Any, guest: Cpu, xml: str, names: set[str]) -> set[str]:
    """Return the one of ``names`` that libvirt reports as unknown."""
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
    :returns: with ``missing`` from libvirt's message; UNKNOWN if libvirt cannot compare
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
            how = (' (compared with the raw CPU of the host, since its libvirt cannot compare with '
                   'the hypervisor)')
            answer = conn.compareCPU(xml, _FAIL_INCOMPATIBLE)
    except Exception as error:
        if _code(error) == _ERR_CPU_INCOMPATIBLE:
            return _unless_hidden(conn, guest, _incompatible(error, guest, how))
        return Comparison(UNKNOWN, reason=f'libvirt cannot compare: {_why(error)}{how}')
    if answer == _COMPARE_INCOMPATIBLE:  # with the flag, libvirt should have raised an error
        return Comparison(INCOMPATIBLE, reason='is incompatible according to its libvirt, which '
                                               f'did not say why{how}')
    if answer in (_COMPARE_IDENTICAL, _COMPARE_SUPERSET):
        return Comparison(COMPATIBLE, reason=how.strip(' ()'))
    return Comparison(UNKNOWN, reason=f'libvirt answered {answer}{how}')


def ask_and_count(conn: Any, guest: Cpu, provided: Optional[Cpu]) -> Comparison:
    """Ask the hypervisor; if it accepts the guest, also compare the features.

    Since 10.10 compareHypervisorCPU looks at neither features nor vendor if QEMU calls the model
    usable and no feature is required by name, and compares newer models by what blocks them. For
    nine guests with features that the target's QEMU had switched off, libvirt 11.3 accepted the
    live <cpu>, and all nine migrations failed. :func:`ask_hypervisor` asks about the oldest model
    with each feature required, and the answer was right for all nine. It is not known to accept any
    guest wrongly, but features that are certainly missing decide.

    :param provided: what the hypervisor provides, as published; read again before it decides
    """
    answer = ask_hypervisor(conn, guest, guest.virt)
    if not answer.compatible or provided is None or conn.getLibVersion() < _BY_USABILITY:
        return answer
    # libvirt has accepted the names, whatever names were published.
    guest = dataclasses.replace(guest, spelled=frozenset())
    if compare(guest, provided).outcome != INCOMPATIBLE:
        return answer
    try:
        compared = compare(guest, host_cpu(conn, guest.virt))
    except CannotSay:
        return answer
    return compared if compared.outcome == INCOMPATIBLE else answer


def _emulated(arch: Optional[str]) -> Optional[str]:
    # The CPU is the same, and the emulator for i686 is often not installed.
    return 'x86_64' if arch == 'i686' else arch


def _incompatible(error: Exception, guest: Union[Cpu, str], how: str) -> Comparison:
    """Convert libvirt's message, which is in libvirtd's language; the names in it are not."""
    message = str(getattr(error, 'get_str2', lambda: '')() or _why(error))
    missing = _missing(message, guest)
    reason = lacks(missing) if missing else f'is incompatible: {message}'
    return Comparison(INCOMPATIBLE, missing, reason + how)


def _unless_hidden(conn: Any, guest: Union[Cpu, str], result: Comparison) -> Comparison:
    if not result.missing or not isinstance(guest, Cpu):
        return result
    # Looked at first, because _hidden() asks libvirt.
    if not cpunames.ARCH_CAPABILITIES.issuperset(result.missing):
        return result
    if not _hidden(conn, guest.virt, guest.vendor).issuperset(result.missing):
        return result
    return Comparison(UNKNOWN, reason=hides(result.missing))


def _missing(message: str, guest: Union[Cpu, str]) -> tuple[str, ...]:
    # "Host CPU does not provide required features: hle, rtm; try using 'Haswell-noTSX' CPU model"
    names = message.partition(';')[0].rpartition(':')[2].split(',') if ':' in message else []
    named = [name.strip() for name in names]
    if not named or not all(_FEATURE.fullmatch(name) for name in named):
        return ()
    missing = cpunames.canonical(named)
    # Other messages list features too: those that the guest forbids, or the strict match excludes.
    uses = isinstance(guest, Cpu) and missing <= guest.features - guest.forbids
    if 'does not provide required features' in message or uses:
        return tuple(sorted(missing))
    return ()


def _hidden(conn: Any, virt: Optional[str], vendor: Optional[str]) -> frozenset[str]:
    """Return what the hypervisor gives to a guest that has it, but does not report.

    QEMU 10.1 stopped enabling the features of Intel's arch-capabilities register by default on AMD.
    KVM still emulates them (libvirt's release notes, 12.5.0), but neither domain capabilities nor
    compareHypervisorCPU show that.
    """
    if virt != 'kvm' or vendor not in _AMD or conn.getVersion() < _QEMU_10_1:
        return frozenset()
    return cpunames.ARCH_CAPABILITIES


def _required(xml: str) -> frozenset[str]:
    """Return the features of an expanded ``<cpu>``, which also lists disabled ones."""
    return cpuxml.parse_definition(xml).named('require', 'force')


def _code(error: Exception) -> Optional[int]:
    """Return the code of a ``libvirtError``.

    :raises Exception: ``error`` itself if it is anything else, because it then is a bug
    """
    get_error_code = getattr(error, 'get_error_code', None)
    if get_error_code is None:
        raise error
    code = get_error_code()
    return code if isinstance(code, int) else None


def _why(error: Exception) -> str:
    _code(error)
    return str(getattr(error, 'get_error_message', lambda: '')() or error)
