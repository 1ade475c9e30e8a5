# SPDX-License-Identifier: Apache-2.0
"""The CPUs of a host's running guests: one that most of them have, and the exceptions."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from typing import Any, Mapping, Optional

from nova_migcheck.cpu import X86, Cpu
from nova_migcheck.cpu.definition import ALWAYS_FROM_KVM, NOT_BY_DEFAULT


def guest_by_default(host: Cpu) -> Cpu:
    """Return the CPU of a guest that takes the host's (host-model, host-passthrough) unchanged.

    It is less than the host provides: QEMU leaves out what it cannot migrate.
    """
    dropped = NOT_BY_DEFAULT | (ALWAYS_FROM_KVM if host.virt == 'kvm' else frozenset())
    return dataclasses.replace(host, features=host.features - dropped, hidden=frozenset(),
                               tsc_hz=None, tsc_scaling=None, cpu_map=None)


def fingerprint(cpu: Cpu) -> str:
    """Return 16 hexadecimal digits that are alike for CPUs that every comparison treats alike."""
    text = json.dumps(_key(cpu).to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pack(guest: Cpu, host: Optional[Cpu]) -> dict[str, Any]:
    """Return a guest's CPU as JSON, as its difference from what its host provides.

    A host provides nearly all that its guests use.
    """
    packed = guest.to_dict()
    if host:
        del packed['features']
        packed['+'] = ' '.join(sorted(guest.features - host.features))
        packed['-'] = ' '.join(sorted(host.features - guest.features))
        if guest.spelled == host.spelled:
            packed.pop('spelled', None)
        else:
            packed.setdefault('spelled', '')
    return packed


def unpack(packed: Any, host: Optional[Cpu]) -> Cpu:
    """Read what :func:`pack` wrote, also by a version without ``spelled``.

    :raises Exception: of any class, for anything else
    """
    packed = dict(packed)
    if 'features' not in packed:
        if host is None:
            raise ValueError('a guest refers to the CPU of its host, which is missing')
        more, less = packed.pop('+').split(), packed.pop('-').split()
        packed['features'] = ' '.join((host.features | set(more)) - set(less))
        packed.setdefault('spelled', ' '.join(host.spelled))
    return Cpu.from_dict(packed)


@dataclasses.dataclass(frozen=True)
class GuestCpus:
    """The CPU of every guest of a host.

    :param default: of each guest that is not named, None if unknown
    :param named: UUID -> its CPU, None if unknown
    """

    default: Optional[Cpu]
    named: Mapping[str, Optional[Cpu]] = dataclasses.field(default_factory=dict)

    @classmethod
    def gather(cls, host: Cpu, guests: Mapping[str, Optional[Cpu]],
               from_host: bool = True) -> GuestCpus:
        """Find the default.

        A guest that started after the report is assumed to have the default, too. So if guests
        take the host's CPU, the default is derived from the host, unless no guest has that. In
        other cases it is the CPU that most guests have. Without any guest, it is then unknown.

        :param guests: UUID -> CPU of each running guest, None if unknown
        :param from_host: whether guests are configured to take the host's CPU unchanged
        """
        expected = guest_by_default(host)
        default: Optional[Cpu] = expected
        counts = collections.Counter(
            _key(cpu) for cpu in guests.values()
            if cpu is not None and (cpu.arch, cpu.virt) == (host.arch, host.virt))
        if not counts and not from_host:
            default = None
        elif counts and not (from_host and _key(expected) in counts):
            # A guest that differs only in the names in its definition counts as expected.
            alike = [key for key in counts if from_host and _key(expected) == dataclasses.replace(
                key, spelled=expected.spelled)]
            # Break ties in the same way in each round.
            most = min(alike or counts, key=lambda key: (
                -counts[key], sorted(key.features), str(key.vendor), sorted(key.spelled)))
            default = next(cpu for cpu in guests.values() if cpu is not None and _key(cpu) == most)
        usual = _key(default) if default is not None else None
        return cls(default, {uuid: cpu for uuid, cpu in guests.items()
                             if cpu is None or _key(cpu) != usual})

    def to_dict(self, host: Cpu) -> dict[str, Any]:
        """Return JSON whose size does not depend on the number of guests that have the default.

        ::

            {"default": CPU,          # null if unknown; absent if it is guest_by_default(host)
             "groups": [{"cpu": CPU, "who": [UUID, ...]}, ...],   # absent if there are none
             "unsaid": [UUID, ...]}   # guests whose CPU is unknown; absent if there are none

        A ``CPU`` is what :meth:`nova_migcheck.cpu.Cpu.to_dict` returns.
        """
        value: dict[str, Any] = {}
        if self.default is None:
            value['default'] = None
        elif _key(self.default) != _key(guest_by_default(host)):
            value['default'] = self.default.to_dict()
        groups: dict[Cpu, list[str]] = {}
        for uuid, cpu in sorted(self.named.items()):
            if cpu is not None:
                groups.setdefault(cpu, []).append(uuid)
        if groups:
            value['groups'] = [{'cpu': cpu.to_dict(), 'who': who} for cpu, who in groups.items()]
        unknown = sorted(uuid for uuid, cpu in self.named.items() if cpu is None)
        if unknown:
            value['unsaid'] = unknown
        return value

    @classmethod
    def from_dict(cls, value: Any, host: Cpu) -> GuestCpus:
        """Read what :meth:`to_dict` wrote.

        :raises ValueError: for anything else
        """
        if not isinstance(value, Mapping):
            raise ValueError('guests are a JSON object')
        default: Optional[Cpu] = guest_by_default(host)
        if 'default' in value:
            default = None if value['default'] is None else Cpu.from_dict(value['default'])
        named: dict[str, Optional[Cpu]] = {}
        for group in _list(value.get('groups', [])):
            if not isinstance(group, Mapping):
                raise ValueError('a group of guests is a JSON object')
            named.update(dict.fromkeys(_uuids(group.get('who')), Cpu.from_dict(group.get('cpu'))))
        named.update(dict.fromkeys(_uuids(value.get('unsaid', []))))
        return cls(default, named)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError('a list is expected')
    return value


def _uuids(value: Any) -> list[str]:
    if not all(isinstance(uuid, str) for uuid in _list(value)):
        raise ValueError('guests are named by their UUIDs')
    return list(value)


def _key(cpu: Cpu) -> Cpu:
    """Return what decides whether two CPUs are alike: on x86 the features, not the model's name."""
    return dataclasses.replace(cpu, model=None if cpu.arch in X86 else cpu.model, libvirt=None)
