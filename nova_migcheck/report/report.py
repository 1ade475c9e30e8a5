# SPDX-License-Identifier: Apache-2.0
"""What one host says about itself: its findings that are not ok, and facts with which other hosts are compared."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

from nova_migcheck.checks.needs import Needs, shorten
from nova_migcheck.checks.registry import Registry
from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu.population import GuestCpus, guest_by_default
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report.past import Past


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
    :param common: fact -> what of it is alike on many hosts, which is what hosts are compared by
    :param own: fact -> what of it differs on every host
    :param needs: of its guests, besides the CPU
    :param dropped: what did not fit, and ``guests`` when nothing tells what a guest has that no group names
    :param counted: when its guests were counted, in seconds since the epoch; None when that was with the rest, at ``time``
    :param migrations: the last few live migrations from and to it, oldest first
    :param site: :attr:`common` as it was published; '' when this report was not read
    """

    time: int
    findings: tuple[Finding, ...] = ()
    cpu: Optional[Cpu] = None
    default_guest: Optional[Cpu] = None
    groups: tuple[Group, ...] = ()
    common: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    needs: Needs = dataclasses.field(default_factory=Needs)
    dropped: tuple[str, ...] = ()
    counted: Optional[int] = None
    migrations: tuple[Past, ...] = ()
    site: str = dataclasses.field(default='', compare=False, repr=False)

    def fact(self, name: str) -> dict[str, Any]:
        """Return a whole fact, empty when the host has not published it."""
        return {**self.own.get(name, {}), **self.common.get(name, {})}

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """All facts."""
        return {name: self.fact(name) for name in sorted(self.common.keys() | self.own.keys())}

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


def build(time: float, findings: list[Finding], facts: Mapping[str, Any],
          registry: Registry, counted: Optional[float] = None) -> Report:
    """Make a report of a round of checks. A fact that is not as declared is a finding.

    :param time: seconds since the epoch
    :param facts: name -> value, as the checks published them
    :param registry: of the checks that ran
    :param counted: when the ``guests`` were counted, None: in this round
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
        told.append(Finding('cpu', Outcome.UNKNOWN, 'cpu',
                            f'the check published no usable CPU: {e}', '',
                            'this is a bug in the check', code='fact-malformed'))
    common: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Any]] = {}
    for name in sorted(facts.keys() - {'cpu', 'guests', 'needs'}):
        if name not in registry.offers or not isinstance(facts[name], dict):
            why = ('is no JSON object' if name in registry.offers
                   else 'is declared by none of the enabled checks')
            told.append(Finding('report', Outcome.UNKNOWN, name, f'this fact {why}; it is not published',
                                '', 'this is a bug in the check that yields it: see its OFFERS',
                                code='fact-malformed'))
            continue
        for part, fact in zip((common, own), registry.split(name, facts[name])):
            if fact:
                part[name] = fact
    needs = Needs.from_json(facts.get('needs'))
    return Report(int(time), tuple(told), cpu, default, groups, common, own, needs, dropped,
                  None if counted is None else int(counted))
