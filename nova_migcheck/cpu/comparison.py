# SPDX-License-Identifier: Apache-2.0
"""Decide whether a guest's CPU can run on a host. Needs neither libvirt nor XML.

A CPU is a set of features. The rule is that of libvirt's ``virConnectCompareHypervisorCPU`` with
``VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE`` (libvirt, ``src/cpu/cpu_x86.c``), which QEMU confirms
when the migration starts: the target's hypervisor must provide all features that the guest uses,
and must have the guest's vendor if the guest requires one. ``tests/lab/test_libvirt_cpu.py`` tests
that the verdicts and the names are those of a real libvirtd.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Collection, Iterable, Mapping, Optional

from nova_migcheck import wording
from nova_migcheck.cpu import names as cpunames

COMPATIBLE = 'compatible'
INCOMPATIBLE = 'incompatible'
UNKNOWN = 'unknown'

# Parts per million. libvirt refuses a fixed TSC frequency that is further than this from the
# host's (src/qemu/qemu_process.c).
TSC_TOLERANCE_PPM = 250

#: Architectures whose CPUs are compared by their features. A guest's XML may name either.
X86 = ('x86_64', 'i686')
_WORD = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}')
_MAX_FEATURES = 2000
_MAX_HZ = 10 ** 12
# A reason names at most this many unknown features, because Nova keeps only 255 bytes of it.
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Cpu:
    """What a host's hypervisor provides, or what a guest uses.

    :param arch: libvirt's name of the architecture, ``x86_64``
    :param virt: type of the domain: ``kvm`` or ``qemu``
    :param vendor: a host's vendor; for a guest the vendor that it requires, None for any
    :param model: name of the CPU model in the definition, for messages. On architectures other
        than x86 it is also compared, because features alone do not identify a CPU there
    :param features: all of them, by libvirt's present names
    :param tsc_hz: for a host the frequency of its TSC; for a guest the frequency that it needs,
        None if it needs none (it has neither ``invtsc`` nor a fixed frequency)
    :param tsc_scaling: whether the host can give a guest another frequency; None if unknown
    :param libvirt: version of the libvirt that described this CPU, as ``virConnectGetLibVersion``
        counts (9000000 is 9.0.0); None if unknown
    :param hidden: features that a host does not report, but may give to a guest that has them
    :param forbids: features that the host must not have (``policy='forbid'``)
    :param at_most: the only features that the host may have (``match='strict'``), None for any
    :param spelled: names in the definition of a guest that not every libvirt knows
        (:func:`nova_migcheck.cpu.definition.spelled`); for a host those in its host-model
    :param cpu_map: :func:`nova_migcheck.cpu.names.digest` of the names that the libvirt of a host
        knows; None if unknown, and for a guest
    """

    arch: str
    virt: str
    vendor: Optional[str] = None
    model: Optional[str] = None
    features: frozenset[str] = frozenset()
    tsc_hz: Optional[int] = None
    tsc_scaling: Optional[bool] = None
    libvirt: Optional[int] = None
    hidden: frozenset[str] = frozenset()
    forbids: frozenset[str] = frozenset()
    at_most: Optional[frozenset[str]] = None
    spelled: frozenset[str] = frozenset()
    cpu_map: Optional[str] = None

    def __post_init__(self) -> None:
        for key in ('features', 'hidden', 'forbids', 'spelled'):
            object.__setattr__(self, key, cpunames.canonical(getattr(self, key)))
        if self.at_most is not None:
            object.__setattr__(self, 'at_most', cpunames.canonical(self.at_most))

    def to_dict(self) -> dict[str, Any]:
        """Return the CPU as JSON, without what is not set.

        Features are one string of sorted names, which is a third shorter than a list of strings.
        """
        value: dict[str, Any] = {'arch': self.arch, 'virt': self.virt,
                                 'features': ' '.join(sorted(self.features))}
        for key in ('vendor', 'model', 'tsc_hz', 'tsc_scaling', 'libvirt', 'cpu_map'):
            if getattr(self, key) is not None:
                value[key] = getattr(self, key)
        for key in ('hidden', 'forbids', 'spelled'):
            if getattr(self, key):
                value[key] = ' '.join(sorted(getattr(self, key)))
        if self.at_most is not None:
            value['at_most'] = ' '.join(sorted(self.at_most))
        return value

    @classmethod
    def from_dict(cls, value: Any) -> Cpu:
        """Read what :meth:`to_dict` returned. The value may come from anybody.

        :raises ValueError: if it is not a CPU
        """
        if not isinstance(value, Mapping):
            raise ValueError('a CPU is a JSON object')
        return cls(arch=_word(value, 'arch'), virt=_word(value, 'virt'),
                   vendor=_optional_word(value, 'vendor'), model=_optional_word(value, 'model'),
                   features=_names(value, 'features'), at_most=_optional_names(value, 'at_most'),
                   tsc_hz=_integer(value, 'tsc_hz', _MAX_HZ),
                   tsc_scaling=_flag(value, 'tsc_scaling'),
                   libvirt=_integer(value, 'libvirt', 10 ** 9),
                   hidden=_optional_names(value, 'hidden') or frozenset(),
                   forbids=_optional_names(value, 'forbids') or frozenset(),
                   spelled=_optional_names(value, 'spelled') or frozenset(),
                   cpu_map=_optional_word(value, 'cpu_map'))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Whether a guest's CPU can run on a host.

    :param outcome: :data:`COMPATIBLE`, :data:`INCOMPATIBLE` or :data:`UNKNOWN`
    :param missing: sorted names of the features that the guest uses and the host lacks
    :param reason: why, as the rest of a sentence that begins with "target H "
    :param remedy: what to do, if there is more to do than to choose another target
    """

    outcome: str
    missing: tuple[str, ...] = ()
    reason: str = ''
    remedy: str = ''

    @property
    def compatible(self) -> bool:
        return self.outcome == COMPATIBLE

    @property
    def code(self) -> str:
        """Return the code of a finding about it, one of :data:`CODES`."""
        if self.outcome == UNKNOWN:
            return 'cpu-undetermined'
        return 'cpu-features-missing' if self.missing else 'cpu-incompatible'


#: Code -> its meaning.
CODES = {
    'cpu-features-missing': 'The target lacks CPU features that the guest uses.',
    'cpu-incompatible': "The target's CPU or libvirt is of another kind than the guest needs.",
    'cpu-refused-by-nova': "Nova's own comparison refuses what is compatible for libvirt.",
    'cpu-undetermined': 'It is unknown whether the target has what the CPU of the guest needs.',
}

_COMPATIBLE = Comparison(COMPATIBLE)


def lacks(missing: Iterable[str]) -> str:
    """Return the reason for missing features."""
    return f'lacks {", ".join(missing)} that the guest uses'


def hides(names: Iterable[str]) -> str:
    """Return the reason for features that a host does not report."""
    return (f'does not report {", ".join(sorted(names))}, which its QEMU hides on this CPU and may '
            'still give to a guest that has it')


def unreadable(names: Collection[str], guest: Cpu, libvirt: Optional[int]) -> Comparison:
    """Return the comparison with a host whose libvirt does not know names of the guest.

    The definition travels with the guest, and that libvirt refuses it, even if a feature is only
    disabled: "unknown CPU feature: NAME" (src/cpu/cpu_x86.c, virCPUx86ValidateFeatures), "Unknown
    CPU model NAME" (x86ModelFromCPU).

    :param libvirt: version of the host's libvirt
    """
    ours, theirs = cpunames.version_text(libvirt), cpunames.version_text(guest.libvirt)
    return Comparison(
        INCOMPATIBLE, reason=f'has libvirt {ours}, which does not know '
                             f'{naming(names, guest.model)} of the guest (libvirt {theirs})',
        remedy='choose a target whose libvirt knows it, or restart the server with a CPU model '
               'that both know: nova-migcheck baseline')


def naming(names: Collection[str], model: Optional[str]) -> str:
    """Return ``CPU model EPYC-v4 and CPU features a, b``, with only the first of many features.

    :param model: of the guest; all other names are features
    """
    features = sorted(set(names) - {model})
    parts = [f'CPU model {model}'] if model in names else []
    if features:
        shown = wording.some(features, _SHOWN)
        parts.append(f'CPU feature {shown}' if len(features) == 1 else f'CPU features {shown}')
    return wording.both(parts)


def compare(guest: Cpu, host: Cpu, known: Optional[Callable[[str], bool]] = None) -> Comparison:
    """Compare the CPU of a guest with what a host provides.

    The order of the tests is libvirt's. A wrong vendor is reported without the features, which
    would only mislead. If the host's libvirt does not know the name of a missing feature, the
    outcome is unknown, unless another feature is certainly missing.

    :param known: whether the host's libvirt knows a name; by default derived from both versions
    """
    if guest.arch != host.arch and (guest.arch, host.arch) != ('i686', 'x86_64'):
        return _incompatible(f'has architecture {host.arch}, the guest needs {guest.arch}')
    if guest.virt != host.virt:
        return _incompatible(f'runs guests with {host.virt}, the guest needs {guest.virt}')
    if guest.vendor and guest.vendor != host.vendor:
        vendor = host.vendor or 'unknown to its libvirt'
        return _incompatible(f'has a CPU of vendor {vendor}, the guest needs {guest.vendor}')
    if guest.arch not in X86:
        return _compare_other_architecture(guest, host)
    refused, doubtful = _not_read(guest, host)
    if refused:
        return unreadable(refused, guest, host.libvirt)
    forbidden = guest.forbids & host.features
    if forbidden:
        return _incompatible(f'has {", ".join(sorted(forbidden))} that the guest forbids')
    missing = guest.features - host.features
    nameless = _not_known(missing, guest, host, known)
    uncertain = nameless | (missing & host.hidden)
    certain = tuple(sorted(missing - uncertain))
    if certain:
        return Comparison(INCOMPATIBLE, certain, lacks(certain))
    if guest.at_most is not None and host.features - guest.at_most:
        extra = ', '.join(sorted(host.features - guest.at_most))
        return _incompatible(f'also has {extra}, but the guest requires a strict match')
    tsc = compare_tsc(guest.tsc_hz, host.tsc_hz, host.tsc_scaling)
    if tsc.outcome == INCOMPATIBLE:
        return tsc
    libvirt = f'libvirt {cpunames.version_text(host.libvirt)}' if host.libvirt else 'libvirt'
    if nameless:
        return _unknown(f'may lack {", ".join(sorted(nameless))}: its {libvirt} does not know '
                        'such a CPU feature')
    if doubtful:
        named = naming(doubtful, guest.model)
        return _unknown(f'does not report whether its {libvirt} knows {named}')
    return _unknown(hides(uncertain)) if uncertain else tsc


def _incompatible(reason: str) -> Comparison:
    return Comparison(INCOMPATIBLE, reason=reason)


def _unknown(reason: str) -> Comparison:
    return Comparison(UNKNOWN, reason=reason)


def _not_read(guest: Cpu, host: Cpu) -> tuple[frozenset[str], frozenset[str]]:
    """Return the guest's names that the host's libvirt does not know, and those it may not know.

    A name that is newer than the table is in neither.
    """
    # The host's libvirt knows the names that it uses itself, whatever its version.
    names = guest.spelled - host.spelled - host.features
    known = {name: _knows(host, name, guest) for name in names}
    return (frozenset(name for name, answer in known.items() if answer is False),
            frozenset(name for name, answer in known.items()
                      if answer is None and cpunames.is_listed(name)))


def _knows(host: Cpu, name: str, guest: Cpu) -> Optional[bool]:
    return cpunames.knows(host.libvirt, host.cpu_map, name, guest.libvirt)


def _not_known(names: frozenset[str], guest: Cpu, host: Cpu,
               known: Optional[Callable[[str], bool]]) -> frozenset[str]:
    if known is not None:
        return frozenset(name for name in names if not known(name))
    if host.libvirt is None:
        return frozenset()
    return frozenset(name for name in names if not _knows(host, name, guest))


def compare_tsc(needed: Optional[int], given: Optional[int], scaling: Optional[bool]) -> Comparison:
    """Apply libvirt's rule for a fixed TSC frequency: it is near enough, or the host can scale.

    If libvirt would let QEMU try, the outcome is unknown.

    :param needed: frequency in Hz that the guest needs; None if it needs none
    :param given: frequency of the host in Hz; None if it does not report it
    :param scaling: whether the host can give a guest another one; None if it does not report it
    """
    if needed is None or scaling:
        return _COMPATIBLE
    if given is None:
        return _unknown(f'does not report its TSC frequency, the guest needs {needed} Hz')
    if (off := abs(needed - given)) * 1_000_000 <= given * TSC_TOLERANCE_PPM:
        return _COMPATIBLE
    ppm = -(-off * 1_000_000 // given)  # rounded up: never "250 ppm apart, limit 250 ppm"
    apart = f'{ppm} ppm apart, limit {TSC_TOLERANCE_PPM} ppm'
    if scaling is None:
        return _unknown(f'has a TSC of {given} Hz, the guest needs {needed} Hz ({apart}), and the '
                        'host does not report whether it can scale')
    return _incompatible(f'has a TSC of {given} Hz, the guest needs {needed} Hz ({apart}), and the '
                         'host cannot scale')


def _compare_other_architecture(guest: Cpu, host: Cpu) -> Comparison:
    """Accept only equal CPUs: on Arm libvirt compares no more either, on s390x only QEMU can."""
    if guest.model is not None and guest.model == host.model and guest.features <= host.features:
        return _COMPATIBLE
    ours, theirs = guest.model or 'unnamed', host.model or 'unnamed'
    missing = sorted(guest.features - host.features)
    if missing:
        ours = f'{ours}; the guest also has {", ".join(missing)}'
    return _unknown(f'has a {host.arch} CPU {theirs}, the guest {ours}: on {host.arch} only equal '
                    'CPUs are known to be compatible')


def _word(value: Mapping[str, Any], key: str) -> str:
    word = value.get(key)
    if not isinstance(word, str) or not _WORD.fullmatch(word):
        raise ValueError(f'{key} of a CPU is a name')
    return word


def _optional_word(value: Mapping[str, Any], key: str) -> Optional[str]:
    return None if value.get(key) is None else _word(value, key)


def _names(value: Mapping[str, Any], key: str) -> frozenset[str]:
    text = value.get(key)
    if not isinstance(text, str) or len(text) > 65 * _MAX_FEATURES:
        raise ValueError(f'{key} of a CPU is a string of names')
    names = text.split()
    if len(names) > _MAX_FEATURES or not all(_WORD.fullmatch(name) for name in names):
        raise ValueError(f'{key} of a CPU contains something that is not a name')
    return frozenset(names)


def _optional_names(value: Mapping[str, Any], key: str) -> Optional[frozenset[str]]:
    return None if value.get(key) is None else _names(value, key)


def _integer(value: Mapping[str, Any], key: str, most: int) -> Optional[int]:
    number = value.get(key)
    if number is not None and (type(number) is not int or not 0 < number <= most):
        raise ValueError(f'{key} of a CPU is a number above 0')
    return number


def _flag(value: Mapping[str, Any], key: str) -> Optional[bool]:
    flag = value.get(key)
    if flag is not None and not isinstance(flag, bool):
        raise ValueError(f'{key} of a CPU is true or false')
    return flag
