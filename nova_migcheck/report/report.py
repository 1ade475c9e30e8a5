# SPDX-License-Identifier: Apache-2.0
"""What one host says about itself: its findings that are not ok, and facts with which other hosts are compared."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu.population import GuestCpus, guest_by_default
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report.past import Past

# Keys of the ``migration`` and ``storage`` facts that differ on every host. The others are alike on many and travel apart from
# these, so that the filter can cache what it makes of them.
OWN_KEYS = {'migration': ('host', 'libvirt_host', 'inbound', 'addresses', 'others'), 'storage': ('free_bytes', 'total_bytes', 'device')}


@dataclasses.dataclass(frozen=True)
class Group:
    """Guests of one host whose CPU is not what that host gives by default.

    :param cpu: what they use, None when it could not be told
    :param who: the first 12 hexadecimal digits of each instance's UUID
    """

    cpu: Optional[Cpu]
    who: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """One host's report.

    :param time: when its checks ended, in seconds since the epoch
    :param findings: those that are not ok
    :param cpu: what its hypervisor provides, None when it could not say
    :param default_guest: the CPU of a guest that no group names, None when it is what the host gives by itself (``guest_by_default``)
    :param groups: guests with another CPU
    :param migration: the ``migration`` fact of the address check
    :param storage: the ``storage`` fact of the storage check
    :param dropped: what did not fit, and ``guests`` when nothing tells what a guest has that no group names
    :param counted: when its guests were counted, in seconds since the epoch; None when that was with the rest, at ``time``
    :param migrations: the last few live migrations from and to it, oldest first
    :param site: what of the networks and the storage takes part in a comparison with another host, as it was published; '' when this report
        was not read from a published one
    """

    time: int
    findings: tuple[Finding, ...] = ()
    cpu: Optional[Cpu] = None
    default_guest: Optional[Cpu] = None
    groups: tuple[Group, ...] = ()
    migration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    storage: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    counted: Optional[int] = None
    migrations: tuple[Past, ...] = ()
    site: str = dataclasses.field(default='', compare=False, repr=False)

    def guest(self, instance_uuid: str) -> Optional[Cpu]:
        """The CPU that this host's guest uses, None when the report cannot tell."""
        short = shorten(instance_uuid)
        for group in self.groups:
            if short in group.who:
                return group.cpu
        if 'guests' in self.dropped:
            return None
        if self.default_guest is None and self.cpu is not None:
            return guest_by_default(self.cpu)
        return self.default_guest

    def knows(self, arrived: float, now: float, migcheck: Any) -> bool:
        """Whether what :meth:`guest` says of a guest still holds.

        A guest that came after the guests were counted has the CPU of the host where it was started, which nobody here knows.

        :param arrived: when the guest came to this host, in seconds since the epoch
        :param migcheck: ``CONF.migcheck``, or what ``conf.register`` has read of it
        """
        counted = (self.time if self.counted is None else self.counted) - migcheck.round_deadline
        return bool(counted > arrived and abs(now - self.time) <= migcheck.stale_after)

    @property
    def summary(self) -> str:
        """All of the findings that a decision rests on, in a word that is the same on every host in the same state."""
        return summarise(self.findings)


def summarise(findings: tuple[Finding, ...]) -> str:
    """``address=failure,endpoint/volumes=warning``, sorted; ``-`` for none."""
    words = {f'{f.check}/{f.scope}={f.outcome}' if f.scope else f'{f.check}={f.outcome}' for f in findings}
    return ','.join(sorted(words)).replace(' ', '_') or '-'


def shorten(instance_uuid: str) -> str:
    """What of an instance's UUID a report holds: 48 bits tell the guests of one host apart."""
    return instance_uuid.replace('-', '')[:12].lower()


def build(time: float, findings: list[Finding], facts: Mapping[str, Any], counted: Optional[float] = None) -> Report:
    """A report from a round of checks. A fact that is not what its name promises is a finding, not an error.

    :param time: seconds since the epoch
    :param counted: when the ``guests`` were counted, None: in this round
    :param facts: ``cpu``, ``guests``, ``migration``, ``storage`` as the checks published them
    """
    told = [f for f in findings if f.outcome is not Outcome.OK]
    cpu = default = None
    groups: tuple[Group, ...] = ()
    # A check that was killed between the two has not said that its guests have the CPU which this host gives by itself.
    dropped = ('guests',) if facts.get('cpu') is not None and 'guests' not in facts else ()
    try:
        if facts.get('cpu') is not None:
            cpu = Cpu.from_dict(facts['cpu'])
            guests = GuestCpus.from_dict(facts.get('guests') or {}, cpu)
            default = guests.default if guests.default != guest_by_default(cpu) else None
            if guests.default is None:
                dropped = ('guests',)
            who: dict[Optional[Cpu], list[str]] = {}
            for uuid, guest in guests.named.items():
                who.setdefault(guest, []).append(shorten(uuid))
            groups = tuple(Group(guest, tuple(sorted(uuids))) for guest, uuids in who.items())
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        told.append(Finding('cpu', Outcome.UNKNOWN, 'cpu', f'the check published no usable CPU: {e}', '', 'this is a bug of the check'))
    return Report(int(time), tuple(told), cpu, default, groups, _mapping(facts.get('migration')), _mapping(facts.get('storage')),
                  dropped, None if counted is None else int(counted))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
