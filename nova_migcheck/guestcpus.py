# SPDX-License-Identifier: Apache-2.0
"""The CPUs of a host's running guests, as they stand in its report: one for most of them, and the exceptions.

The JSON, whose size does not grow with guests that are like the others::

    {"default": CPU,              # absent when it is what the host gives by default, see guest_by_default()
     "groups": [{"cpu": CPU, "who": [UUID, ...]}, ...],   # guests that differ; absent when there are none
     "unsaid": [UUID, ...]}       # guests whose CPU is not known; absent when there are none

A ``CPU`` is what :meth:`nova_migcheck.cpu.Cpu.to_dict` gives, where ``features`` may be written as what it has less
and more than the host that the report is about: ``"less": "avx512f invtsc", "more": ""``.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Mapping, Optional

from nova_migcheck.cpu import Cpu
from nova_migcheck.cpuxml import ALWAYS_FROM_KVM, NOT_BY_DEFAULT

_MAX_GROUPS = 1000
_MAX_GUESTS = 10000


def guest_by_default(host: Cpu) -> Cpu:
    """What a guest has here that takes the host's CPU (host-model, host-passthrough) and changes nothing.

    It is less than the host provides: QEMU leaves out what it cannot migrate.
    """
    dropped = NOT_BY_DEFAULT | (ALWAYS_FROM_KVM if host.virt == 'kvm' else frozenset())
    return dataclasses.replace(host, features=host.features - dropped, tsc_hz=None, tsc_scaling=None)


@dataclasses.dataclass(frozen=True)
class GuestCpus:
    """The CPU of every guest of a host.

    :param default: of each guest that is not named
    :param named: UUID -> its CPU, None for one that could not be told
    """

    default: Cpu
    named: Mapping[str, Optional[Cpu]] = dataclasses.field(default_factory=dict)

    def of(self, instance_uuid: str) -> Optional[Cpu]:
        """The CPU of one guest, None when it is not known."""
        return self.named.get(instance_uuid, self.default)

    @classmethod
    def gather(cls, host: Cpu, guests: Mapping[str, Optional[Cpu]], from_host: bool = True) -> GuestCpus:
        """Find the default.

        It is also what a guest is taken to have that started after the report, so for guests that take the host's CPU
        it is the one foretold from the host, unless no guest has that; else the CPU that most guests have.

        :param guests: UUID -> CPU of each running guest, None where it could not be told
        :param from_host: whether guests are configured to take the host's CPU
        """
        default = guest_by_default(host)
        counts = collections.Counter(_key(cpu) for cpu in guests.values()
                                     if cpu is not None and (cpu.arch, cpu.virt) == (host.arch, host.virt))
        if counts and not (from_host and _key(default) in counts):
            # The smallest of equals, so that two rounds do not differ.
            most = min(counts, key=lambda key: (-counts[key], sorted(key.features), str(key)))
            default = next(cpu for cpu in guests.values() if cpu is not None and _key(cpu) == most)
        return cls(default, {uuid: cpu for uuid, cpu in guests.items() if cpu is None or _key(cpu) != _key(default)})

    def to_dict(self, host: Cpu) -> dict[str, Any]:
        """The JSON in this module's first lines.

        :param host: what the same report says of the host
        """
        value: dict[str, Any] = {}
        if _key(self.default) != _key(guest_by_default(host)):
            value['default'] = _difference(self.default, host)
        groups: dict[Cpu, list[str]] = {}
        for uuid, cpu in sorted(self.named.items()):
            if cpu is not None:
                groups.setdefault(cpu, []).append(uuid)
        if groups:
            value['groups'] = [{'cpu': _difference(cpu, host), 'who': who} for cpu, who in groups.items()]
        unsaid = sorted(uuid for uuid, cpu in self.named.items() if cpu is None)
        if unsaid:
            value['unsaid'] = unsaid
        return value

    @classmethod
    def from_dict(cls, value: Any, host: Cpu) -> GuestCpus:
        """Read what :meth:`to_dict` wrote, however it comes.

        :raises ValueError: when it is not that
        """
        if not isinstance(value, Mapping):
            raise ValueError('guests are a JSON object')
        default = guest_by_default(host) if value.get('default') is None else _from_difference(value['default'], host)
        named: dict[str, Optional[Cpu]] = {}
        for group in _list(value.get('groups', []), _MAX_GROUPS):
            if not isinstance(group, Mapping):
                raise ValueError('a group of guests is a JSON object')
            cpu = _from_difference(group.get('cpu'), host)
            named.update((uuid, cpu) for uuid in _uuids(group.get('who', [])))
        named.update((uuid, None) for uuid in _uuids(value.get('unsaid', [])))
        return cls(default, named)


def _key(cpu: Cpu) -> Cpu:
    """What makes two CPUs the same: not who described them, and not the model's name where the features tell all."""
    return dataclasses.replace(cpu, model=None if cpu.arch in ('x86_64', 'i686') else cpu.model, libvirt=None)


def _difference(cpu: Cpu, host: Cpu) -> dict[str, Any]:
    value = cpu.to_dict()
    less, more = ' '.join(sorted(host.features - cpu.features)), ' '.join(sorted(cpu.features - host.features))
    if len(less) + len(more) < len(value['features']):
        del value['features']
        value.update(less=less, more=more)
    return value


def _from_difference(value: Any, host: Cpu) -> Cpu:
    if isinstance(value, Mapping) and 'features' not in value:
        less, more = value.get('less', ''), value.get('more', '')
        if not isinstance(less, str) or not isinstance(more, str):
            raise ValueError('less and more of a CPU are strings of names')
        value = {**value, 'features': ' '.join([*(host.features - frozenset(less.split())), more])}
    return Cpu.from_dict(value)


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f'a list of at most {most} is expected')
    return value


def _uuids(value: Any) -> list[str]:
    uuids = _list(value, _MAX_GUESTS)
    if not all(isinstance(uuid, str) and len(uuid) <= 64 for uuid in uuids):
        raise ValueError('guests are named by their UUIDs')
    return uuids
