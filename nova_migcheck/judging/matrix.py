# SPDX-License-Identifier: Apache-2.0
"""Every source against every target, from what the hosts have published. Pure: it is given the hosts.

A thousand hosts make a million pairs, but few kinds of hosts. What a decision rests on falls in two: what the target says about
itself (its findings, or that it has no report that is believed), and what two hosts say together (the guest's CPU, the networks).
The second is judged once for each pair of kinds.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from typing import Any, Hashable, Iterator, Optional, Protocol, Sequence

from nova_migcheck.cpu import Cpu
from nova_migcheck.judging.targets import Judge
from nova_migcheck.judging.verdict import Guest, Verdict, is_fresh, judge
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report


class State(str, enum.Enum):
    """What becomes of a pair."""

    ACCEPTED = 'accepted'
    WARNED = 'warned'  # accepted, with something to know
    REJECTED = 'rejected'
    APART = 'apart'  # in two of Nova's cells, between which it does not live-migrate
    SAME = 'same'

    def __str__(self) -> str:
        return self.value

    @property
    def sign(self) -> str:
        """One character; never the only thing that tells it."""
        return {State.ACCEPTED: '✓', State.WARNED: '!', State.REJECTED: '✗', State.SAME: '·', State.APART: ''}[self]


class Host(Protocol):
    """What is needed of a host; :class:`nova_migcheck.novadb.fleet.Host` is one."""

    @property
    def name(self) -> str: ...

    @property
    def cell(self) -> str: ...

    @property
    def stats(self) -> Any: ...

    @property
    def report(self) -> Optional[Report]: ...


@dataclasses.dataclass(frozen=True)
class Row:
    """Guests of one host that have the same CPU.

    :param host: number of the host
    :param kind: number of the kind of source
    :param who: the first digits of their UUIDs, empty for what is started there by default
    """

    host: int
    kind: int
    who: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The verdicts of all pairs.

    :param own: for each host, what it says about itself as a target
    :param kinds: for each host, number of its kind of target
    :param pairs: kind of source, kind of target -> what both say together
    :param now: seconds since the epoch
    """

    hosts: Sequence[Host]
    rows: Sequence[Row]
    own: Sequence[Verdict]
    kinds: Sequence[int]
    pairs: Sequence[Sequence[Verdict]]
    now: float
    stale_after: float

    def verdict(self, row: Row, target: int) -> Verdict:
        """The same as the scheduler's filter comes to, but that what matters to some servers only is a warning with its scope."""
        return self.own[target] + self.pairs[row.kind][self.kinds[target]]

    def state(self, row: Row, target: int) -> State:
        if row.host == target:
            return State.SAME
        if self.hosts[row.host].cell != self.hosts[target].cell:
            return State.APART
        return state(self.verdict(row, target))

    def folded(self) -> Iterator[tuple[list[Row], list[int], State, Verdict]]:
        """(sources, targets, what becomes of them, why) for each pair of groups of hosts that are alike in all, cells apart left out.

        A host alone is not its own target.
        """
        for sources, targets in itertools.product(self.source_groups(), self.target_groups()):
            if self.hosts[sources[0].host].cell != self.hosts[targets[0]].cell:
                continue
            if len(targets) == 1 and all(row.host == targets[0] for row in sources):
                continue
            verdict = self.verdict(sources[0], targets[0])
            yield sources, targets, state(verdict), verdict

    def source_groups(self) -> list[list[Row]]:
        groups: dict[Hashable, list[Row]] = {}
        for row in self.rows:
            groups.setdefault((self.hosts[row.host].cell, row.kind, bool(row.who)), []).append(row)
        return list(groups.values())

    def target_groups(self) -> list[list[int]]:
        groups: dict[Hashable, list[int]] = {}
        for number, host in enumerate(self.hosts):
            groups.setdefault((host.cell, self.kinds[number], self.own[number]), []).append(number)
        return list(groups.values())


def state(verdict: Verdict) -> State:
    """What a verdict comes to."""
    if verdict.rejections:
        return State.REJECTED
    return State.WARNED if verdict.warnings else State.ACCEPTED


def build(hosts: Sequence[Host], policies: Policies, migcheck: Any, now: float, servers: bool = False) -> Matrix:
    """Judge every pair.

    :param migcheck: ``CONF.migcheck``
    :param now: seconds since the epoch
    :param servers: whether guests with a CPU of their own get a row of their own
    """
    sources: dict[Hashable, int] = {}
    rows = []
    guests: list[tuple[Guest, Optional[Report]]] = []
    for number, host in enumerate(hosts):
        report = host.report
        known = report is not None and report.knows(0, now, migcheck)
        found: list[tuple[Optional[Cpu], tuple[str, ...]]] = [(report.guest('') if known and report else None, ())]
        if servers and known and report:
            found += [(group.cpu, group.who) for group in report.groups]
        for cpu, who in found:
            requirements = report.needs.usual if report else ''
            key: Hashable = (cpu, requirements, published.site(report) if report else None)
            if key not in sources:
                sources[key] = len(guests)
                guests.append((Guest(cpu, _ALL, requirements=requirements), report))
            rows.append(Row(number, sources[key], who))
    # The frequency of a TSC differs on every host, and concerns few guests.
    exact = any(guest.cpu is not None and guest.cpu.tsc_hz is not None for guest, _report in guests)
    targets: dict[Hashable, int] = {}
    bare: list[Optional[Report]] = []
    kinds = []
    own = []
    unbelieved = Judge(policies, Guest(), None, now)
    for host in hosts:
        report = host.report
        kind: Hashable = None
        alone: Optional[Report] = None
        if report is None or not is_fresh(report.time, now, policies.stale_after):
            # As the filter, for which what is too old is stale, whether or not it can be read.
            own.append(alike(unbelieved.in_full(host.stats), report, now, policies.stale_after))
        else:
            own.append(_soften(judge(Guest(needs=_ALL), None, dataclasses.replace(report, cpu=None), now, policies)))
            alone = dataclasses.replace(report, findings=())
            kind = published.common(host.stats), exact and report.cpu and report.cpu.tsc_hz
        if kind not in targets:
            targets[kind] = len(bare)
            bare.append(alone)
        kinds.append(targets[kind])
    pairs = [[Verdict() if target is None else _soften(judge(guest, source, target, now, policies)) for target in bare]
             for guest, source in guests]
    return Matrix(hosts, rows, own, kinds, pairs, now, policies.stale_after)


def alike(verdict: Verdict, report: Optional[Report], now: float, stale_after: float) -> Verdict:
    """Without the age of a report that is too old, which would make each such host a kind of its own."""
    if report is None or report.time > now or is_fresh(report.time, now, stale_after):
        return verdict
    detail = f'its report is older than {stale_after:g} s and is not believed'
    return Verdict(tuple(dataclasses.replace(f, detail=detail) for f in verdict.rejections),
                   tuple(dataclasses.replace(f, detail=detail) for f in verdict.warnings))


class _All(frozenset[str]):
    """Needs of which every scope is one."""

    def __contains__(self, _scope: object) -> bool:
        return True


_ALL = _All()


def _soften(verdict: Verdict) -> Verdict:
    """What concerns some servers only is a warning here, where no server is meant."""
    if all(not finding.scope for finding in verdict.rejections):
        return verdict
    return Verdict(tuple(f for f in verdict.rejections if not f.scope),
                   tuple(f for f in verdict.rejections if f.scope) + verdict.warnings)
