# SPDX-License-Identifier: Apache-2.0
"""What one host reports: findings that are not ok, and facts to compare hosts by."""

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
    """Guests of one host whose CPU is not its default.

    :param cpu: what they use, None if unknown
    :param who: the first 12 hexadecimal digits of each instance's UUID
    """

    cpu: Optional[Cpu]
    who: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """One host's report.

    :param time: when its checks ended, in seconds since the epoch
    :param findings: those that are not ok
    :param cpu: what its hypervisor provides, None if unknown
    :param default_guest: the CPU of a guest that is in no group, None if it is
        ``guest_by_default``
    :param groups: guests with another CPU
    :param common: fact -> what of it is alike on many hosts, which is compared with other hosts'
    :param own: fact -> what of it differs on every host
    :param needs: what its guests need besides the CPU
    :param dropped: what did not fit, and ``guests`` if the CPU of a guest in no group is unknown
    :param counted: when its guests were counted, in seconds since the epoch; None if at ``time``
    :param migrations: the last few live migrations from and to it, oldest first
    :param rehearsals: the last few rehearsals of live migrations from it, oldest first
    :param site: :attr:`common` as it was published; '' if this report was not read
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
    rehearsals: tuple[Past, ...] = ()
    site: str = dataclasses.field(default='', compare=False, repr=False)

    def fact(self, name: str) -> dict[str, Any]:
        """Return a whole fact, empty when the host has not published it."""
        return {**self.own.get(name, {}), **self.common.get(name, {})}

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """All facts."""
        return {name: self.fact(name) for name in sorted(self.common.keys() | self.own.keys())}

    def guest(self, instance_uuid: str) -> Optional[Cpu]:
        """Return the CPU that this host's guest uses, None if the report does not contain it."""
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
        """Return whether the result of :meth:`guest` holds for a guest.

        A guest that came after the guests were counted has the CPU of the host where it started,
        which is unknown here.

        :param arrived: when the guest came to this host, in seconds since the epoch
        :param migcheck: ``CONF.migcheck``, or what ``conf.register`` has read of it
        """
        counted = (self.time if self.counted is None else self.counted) - migcheck.round_deadline
        return bool(counted > arrived and abs(now - self.time) <= migcheck.stale_after)

    @property
    def summary(self) -> str:
        """Return what decisions use of the findings, as a word that is alike on similar hosts."""
        return summarise(self.findings)


def summarise(findings: tuple[Finding, ...]) -> str:
    """Return a word like ``address=failure,endpoint/volumes=warning``; ``-`` for no findings."""
    words = {f'{f.check}{f"/{f.scope}" if f.scope else ""}={f.outcome}' for f in findings}
    return ','.join(sorted(words)).replace(' ', '_') or '-'


def build(time: float, findings: list[Finding], facts: Mapping[str, Any],
          registry: Registry, counted: Optional[float] = None) -> Report:
    """Make a report of a round of checks. A fact that is not as declared is a finding.

    :param time: seconds since the epoch
    :param facts: name -> value, as the checks published them
    :param registry: of the checks that ran
    :param counted: when the ``guests`` were counted; None if in this round
    """
    kept = [f for f in findings if f.outcome is not Outcome.OK]
    values = _guests(facts, kept)
    common: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Any]] = {}
    for name in sorted(facts.keys() - {'cpu', 'guests', 'needs'}):
        if name not in registry.offers or not isinstance(facts[name], dict):
            why = ('is no JSON object' if name in registry.offers
                   else 'is declared by none of the enabled checks')
            kept.append(Finding(
                'report', Outcome.UNKNOWN, name, f'this fact {why}; it is not published', '',
                'this is a bug in the check that yields it: see its OFFERS', code='fact-malformed'))
            continue
        for part, fact in zip((common, own), registry.split(name, facts[name])):
            if fact:
                part[name] = fact
    return Report(int(time), tuple(kept), common=common, own=own,
                  needs=Needs.from_json(facts.get('needs')),
                  counted=None if counted is None else int(counted), **values)


def _guests(facts: Mapping[str, Any], findings: list[Finding]) -> dict[str, Any]:
    """Return the fields of a report about the CPUs of the host and its guests.

    :param findings: a fact that is malformed adds one
    """
    if facts.get('cpu') is None:
        return {}
    unknown = {'dropped': ('guests',)}
    try:
        cpu = Cpu.from_dict(facts['cpu'])
        guests = GuestCpus.from_dict(facts.get('guests') or {}, cpu)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        findings.append(Finding(
            'cpu', Outcome.UNKNOWN, 'cpu', f'the check published no usable CPU: {e}', '',
            'this is a bug in the check', code='fact-malformed'))
        return unknown if 'guests' not in facts else {}
    who: dict[Optional[Cpu], list[str]] = {}
    for uuid, guest in guests.named.items():
        who.setdefault(guest, []).append(shorten(uuid))
    usual = guest_by_default(cpu)
    return {
        'cpu': cpu, 'default_guest': guests.default if guests.default != usual else None,
        'groups': tuple(Group(guest, tuple(sorted(uuids))) for guest, uuids in who.items()),
        # A check that was killed before it had read the guests has not published them.
        **(unknown if guests.default is None or 'guests' not in facts else {})}
