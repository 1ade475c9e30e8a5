# SPDX-License-Identifier: Apache-2.0
"""CPUs as sets of features, and the rule that decides whether a guest's CPU can run on a host. No libvirt, no XML.

The rule is the one of libvirt's ``virConnectCompareHypervisorCPU`` with ``VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE``
(libvirt, ``src/cpu/cpu_x86.c``), which is the comparison that QEMU itself confirms when the migration starts: all that
the guest uses must be provided by the target's hypervisor, and the vendor must be the guest's when it names one. That
it gives the same verdicts and the same names as a real libvirtd is tested in ``tests/lab/test_libvirt_cpu.py``.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Iterable, Mapping, Optional

from nova_migcheck.cpu import names as cpunames

COMPATIBLE = 'compatible'
INCOMPATIBLE = 'incompatible'
UNKNOWN = 'unknown'

# Parts per million. libvirt refuses a fixed TSC frequency further than this from the host's (src/qemu/qemu_process.c).
TSC_TOLERANCE_PPM = 250

#: Architectures whose CPUs are compared by their features; one guest's XML may name either.
X86 = ('x86_64', 'i686')
_WORD = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}')
_MAX_FEATURES = 2000
_MAX_HZ = 10 ** 12
# Features that a reason names of those that a libvirt does not know. Nova keeps 255 bytes of it.
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Cpu:
    """What a host's hypervisor provides, or what a guest uses.

    :param arch: libvirt's name of the architecture, ``x86_64``
    :param virt: type of the domain: ``kvm`` or ``qemu``
    :param vendor: a host's vendor; for a guest the vendor that it requires, None for any
    :param model: name of the CPU model that the definition was built from. For people, and for architectures other than
        x86, where features alone do not tell two CPUs apart
    :param features: all of them, by libvirt's present names
    :param tsc_hz: for a host the frequency of its TSC; for a guest the frequency that it needs, None when it needs none
        (it has neither ``invtsc`` nor a fixed frequency)
    :param tsc_scaling: whether the host can give a guest another TSC frequency than its own; None when it is not known
    :param libvirt: version of the libvirt that described this CPU, as ``virConnectGetLibVersion`` counts (9000000 is
        9.0.0); it tells which names that libvirt knew. None when it is not known
    :param hidden: features that a host does not show and may nevertheless give to a guest that already has them
    :param forbids: features that the host must not have (``policy='forbid'``)
    :param at_most: the host must have nothing besides these (``match='strict'``); None for any, as Nova's guests are
    :param spelled: names in the definition of a guest that not every libvirt knows
        (:func:`nova_migcheck.cpu.definition.spelled`); for a host those in its host-model
    :param cpu_map: :func:`nova_migcheck.cpu.names.digest` of the names that the libvirt of a host
        knows; None when that is not known, and for a guest
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
        """JSON. The features are one string of sorted names, a third shorter than a list of strings. What is not set is
        absent."""
        value: dict[str, Any] = {'arch': self.arch, 'virt': self.virt, 'features': ' '.join(sorted(self.features))}
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
        """Read what :meth:`to_dict` wrote, however it comes.

        :raises ValueError: when it is not a CPU
        """
        if not isinstance(value, Mapping):
            raise ValueError('a CPU is a JSON object')
        return cls(arch=_word(value, 'arch'), virt=_word(value, 'virt'), vendor=_optional_word(value, 'vendor'),
                   model=_optional_word(value, 'model'), features=_names(value, 'features'),
                   tsc_hz=_integer(value, 'tsc_hz', _MAX_HZ), tsc_scaling=_flag(value, 'tsc_scaling'),
                   libvirt=_integer(value, 'libvirt', 10 ** 9), hidden=_optional_names(value, 'hidden') or frozenset(),
                   forbids=_optional_names(value, 'forbids') or frozenset(),
                   at_most=_optional_names(value, 'at_most'),
                   spelled=_optional_names(value, 'spelled') or frozenset(),
                   cpu_map=_optional_word(value, 'cpu_map'))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Whether a guest's CPU can run on a host.

    :param outcome: :data:`COMPATIBLE`, :data:`INCOMPATIBLE` or :data:`UNKNOWN`
    :param missing: sorted names of the features that the guest uses and the host lacks
    :param reason: why, in words that can stand behind "target H "
    :param remedy: what to do, where there is more to say than to choose another target
    """

    outcome: str
    missing: tuple[str, ...] = ()
    reason: str = ''
    remedy: str = ''

    @property
    def compatible(self) -> bool:
        return self.outcome == COMPATIBLE


_COMPATIBLE = Comparison(COMPATIBLE)


def lacks(missing: Iterable[str]) -> str:
    """The reason for missing features."""
    return f'lacks {", ".join(missing)} that the guest uses'


def hides(names: Iterable[str]) -> str:
    """The reason for features that a host does not show."""
    return (f'does not show {", ".join(sorted(names))}, which its QEMU hides on this CPU and may still give to a guest '
            'that has it')


def unreadable(names: Iterable[str], guest: Cpu, libvirt: Optional[int]) -> Comparison:
    """Return the comparison with a host whose libvirt does not know names in the guest's definition.

    The definition travels with the guest, and that libvirt refuses it, even where a feature is only
    disabled: "unknown CPU feature: NAME" (src/cpu/cpu_x86.c, virCPUx86ValidateFeatures), "Unknown CPU
    model NAME" (x86ModelFromCPU).

    :param libvirt: version of the host's libvirt
    """
    ours, theirs = cpunames.version_text(libvirt), cpunames.version_text(guest.libvirt)
    return Comparison(
        INCOMPATIBLE, reason=f'has libvirt {ours}, which does not know '
                             f'{naming(names, guest.model)} of the guest (libvirt {theirs})',
        remedy='choose a target whose libvirt knows it, or start the server anew with a CPU model '
               'that both know: nova-migcheck baseline')


def naming(names: Iterable[str], model: Optional[str]) -> str:
    """Return ``CPU model EPYC-v4 and CPU features a, b``, with only the first of many features.

    :param model: of the guest; all other names are features
    """
    found = set(names)
    said = [f'CPU model {model}'] if model in found else []
    features = sorted(found - {model or ''})
    if features:
        shown = ', '.join(features[:_SHOWN])
        more = f' and {len(features) - _SHOWN} more' if len(features) > _SHOWN else ''
        said.append(f'CPU feature{"s" if len(features) > 1 else ""} {shown}{more}')
    return ' and '.join(said)


def compare(guest: Cpu, host: Cpu, known: Optional[Callable[[str], bool]] = None) -> Comparison:
    """Whether ``guest`` can run on ``host``.

    The order of the tests is libvirt's: a wrong vendor is reported without the features, which would then only mislead.
    A name that the host's libvirt does not know makes the answer unknown; a feature that is certainly missing beside it
    makes it incompatible.

    :param known: whether the host's libvirt knows a name; by default that is told from the two versions of libvirt
    """
    if guest.arch != host.arch and (guest.arch, host.arch) != ('i686', 'x86_64'):
        return Comparison(INCOMPATIBLE, reason=f'has architecture {host.arch}, the guest needs {guest.arch}')
    if guest.virt != host.virt:
        return Comparison(INCOMPATIBLE, reason=f'runs guests with {host.virt}, the guest needs {guest.virt}')
    if guest.vendor and guest.vendor != host.vendor:
        vendor = host.vendor or 'unknown to its libvirt'
        return Comparison(INCOMPATIBLE, reason=f'has a CPU of vendor {vendor}, the guest needs {guest.vendor}')
    if guest.arch not in X86:
        return _compare_other_architecture(guest, host)
    refused, doubtful = _not_read(guest, host)
    if refused:
        return unreadable(refused, guest, host.libvirt)
    forbidden = guest.forbids & host.features
    if forbidden:
        return Comparison(INCOMPATIBLE, reason=f'has {", ".join(sorted(forbidden))} that the guest forbids')
    missing = guest.features - host.features
    nameless = _not_known(missing, guest, host, known)
    unsaid = nameless | (missing & host.hidden)
    certain = tuple(sorted(missing - unsaid))
    if certain:
        return Comparison(INCOMPATIBLE, certain, lacks(certain))
    if guest.at_most is not None and host.features - guest.at_most:
        extra = ', '.join(sorted(host.features - guest.at_most))
        return Comparison(INCOMPATIBLE, reason=f'has {extra} besides, and the guest wants a strict match')
    tsc = compare_tsc(guest.tsc_hz, host.tsc_hz, host.tsc_scaling)
    if tsc.outcome == INCOMPATIBLE:
        return tsc
    libvirt = f'libvirt {cpunames.version_text(host.libvirt)}' if host.libvirt else 'libvirt'
    if nameless:
        return Comparison(UNKNOWN, reason=f'cannot say whether it has {", ".join(sorted(nameless))}: its {libvirt} '
                                          'knows no such CPU feature')
    if doubtful:
        named = naming(doubtful, guest.model)
        return Comparison(UNKNOWN, reason=f'does not say whether its {libvirt} knows {named}')
    return Comparison(UNKNOWN, reason=hides(unsaid)) if unsaid else tsc


def _not_read(guest: Cpu, host: Cpu) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names in the guest's definition that the host's libvirt does not, and may not, know."""
    # The host's libvirt knows the names that it uses itself, whatever its version.
    names = guest.spelled - host.spelled - host.features
    known = {name: _knows(host, name, guest) for name in names}
    # Nothing is said about a name that is newer than the table.
    return (frozenset(name for name, answer in known.items() if answer is False),
            frozenset(name for name, answer in known.items()
                      if answer is None and cpunames.is_listed(name)))


def _knows(host: Cpu, name: str, guest: Cpu) -> Optional[bool]:
    return cpunames.knows(host.libvirt, host.cpu_map, name, guest.libvirt)


def _not_known(names: frozenset[str], guest: Cpu, host: Cpu, known: Optional[Callable[[str], bool]]) -> frozenset[str]:
    if known is not None:
        return frozenset(name for name in names if not known(name))
    if host.libvirt is None:
        return frozenset()
    return frozenset(name for name in names if not _knows(host, name, guest))


def compare_tsc(needed: Optional[int], given: Optional[int], scaling: Optional[bool]) -> Comparison:
    """libvirt's rule for a fixed TSC frequency: near enough, or the host scales. Unknown where it lets QEMU try.

    :param needed: by the guest, in Hz; None when it needs none
    :param given: by the host, in Hz; None when it does not say
    :param scaling: whether the host can give another one than its own; None when it does not say
    """
    if needed is None or scaling:
        return _COMPATIBLE
    if given is None:
        return Comparison(UNKNOWN, reason=f'does not say its TSC frequency, the guest needs {needed} Hz')
    off = abs(needed - given)
    if off * 1_000_000 <= given * TSC_TOLERANCE_PPM:
        return _COMPATIBLE
    ppm = -(-off * 1_000_000 // given)  # rounded up: never "250 ppm apart, limit 250 ppm"
    reason = f'has a TSC of {given} Hz, the guest needs {needed} Hz ({ppm} ppm apart, limit {TSC_TOLERANCE_PPM} ppm)'
    if scaling is None:
        return Comparison(UNKNOWN, reason=f'{reason}, and the host does not say whether it can scale')
    return Comparison(INCOMPATIBLE, reason=f'{reason}, and the host cannot scale')


def _compare_other_architecture(guest: Cpu, host: Cpu) -> Comparison:
    """Equality is all that can be told from names: on Arm libvirt itself compares no more, on s390x only QEMU can."""
    if guest.model is not None and guest.model == host.model and guest.features <= host.features:
        return _COMPATIBLE
    ours, theirs = guest.model or 'unnamed', host.model or 'unnamed'
    missing = sorted(guest.features - host.features)
    detail = f'; the guest has {", ".join(missing)} besides' if missing else ''
    return Comparison(UNKNOWN, reason=f'has a {host.arch} CPU {theirs}, the guest {ours}{detail}: on {host.arch} only '
                                      f'equal CPUs are known to be compatible')


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
        raise ValueError(f'{key} of a CPU holds something that is no name')
    return frozenset(names)


def _optional_names(value: Mapping[str, Any], key: str) -> Optional[frozenset[str]]:
    return None if value.get(key) is None else _names(value, key)


def _integer(value: Mapping[str, Any], key: str, most: int) -> Optional[int]:
    number = value.get(key)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= most:
        raise ValueError(f'{key} of a CPU is a number above 0')
    return number


def _flag(value: Mapping[str, Any], key: str) -> Optional[bool]:
    flag = value.get(key)
    if flag is not None and not isinstance(flag, bool):
        raise ValueError(f'{key} of a CPU is true or false')
    return flag
