# SPDX-License-Identifier: Apache-2.0
"""Judge every source against every target, from what the hosts have published. Pure.

A thousand hosts make a million pairs, but few kinds of hosts. A verdict has two parts: one depends
on the target alone (its findings, or that it has no fresh report), the other on the pair (the
guest's CPU, the networks). The second part is judged once for each pair of kinds.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import itertools
from typing import Any, Hashable, Iterator, Mapping, Optional, Sequence

from nova_migcheck.checks import loading
from nova_migcheck.cpu import Cpu
from nova_migcheck.judging.targets import Judge
from nova_migcheck.judging.verdict import Guest, Verdict, is_fresh, judge
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report


class State(str, enum.Enum):
    """Whether a target accepts a source."""

    ACCEPTED = 'accepted'
    WARNED = 'warned'  # accepted, with a warning
    REJECTED = 'rejected'
    APART = 'apart'  # in different cells, between which Nova does not live-migrate
    SAME = 'same'

    def __str__(self) -> str:
        return self.value

    @property
    def sign(self) -> str:
        """One character, which is never shown without another mark."""
        return {State.ACCEPTED: '✓', State.WARNED: '!', State.REJECTED: '✗', State.SAME: '·',
                State.APART: ''}[self]


@dataclasses.dataclass(frozen=True)
class Host:
    """One compute host.

    :param cell: name of its cell
    :param stats: ``ComputeNode.stats``
    :param service: the state of its nova-compute: ``up``, ``down``, ``disabled``, or ``none`` if it
        has none
    """

    name: str
    cell: str
    stats: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    service: str = 'up'

    @functools.cached_property
    def report(self) -> Optional[Report]:
        """Return the published report, or None if there is none or it cannot be read."""
        try:
            return published.read(self.stats)
        except published.Unreadable:
            return None

    @property
    def unreadable(self) -> bool:
        """Return whether it has published a report that this version cannot read."""
        return self.report is None and self.stats.get(published.MAIN) is not None


@dataclasses.dataclass(frozen=True)
class Row:
    """Guests of one host that have the same CPU.

    :param host: number of the host
    :param kind: number of the kind of source
    :param who: the first digits of their UUIDs; empty for a guest that is started there by default
    """

    host: int
    kind: int
    who: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The verdicts of all pairs.

    :param own: for each host, the verdict on it as a target of anything
    :param kinds: for each host, number of its kind of target
    :param pairs: kind of source, kind of target -> the verdict on the pair
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
        """Return the verdict of the scheduler's filter.

        What concerns only some servers is a warning with its scope.
        """
        return self.own[target] + self.pairs[row.kind][self.kinds[target]]

    def state(self, sources: Sequence[Row], targets: Sequence[int]) -> State:
        """Return the state of a group of equal sources and a group of equal targets."""
        if self.hosts[sources[0].host].cell != self.hosts[targets[0]].cell:
            return State.APART
        if len(targets) == 1 and all(row.host == targets[0] for row in sources):
            return State.SAME
        return state(self.verdict(sources[0], targets[0]))

    def folded(self) -> Iterator[tuple[list[Row], list[int], State, Verdict]]:
        """Yield (sources, targets, state, verdict) for each pair of groups of equal hosts.

        Pairs in different cells, and a host with itself, are left out.
        """
        for sources, targets in itertools.product(self.source_groups(), self.target_groups()):
            each = self.state(sources, targets)
            if each not in (State.APART, State.SAME):
                yield sources, targets, each, self.verdict(sources[0], targets[0])

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
    """Return the state for a verdict."""
    if verdict.rejections:
        return State.REJECTED
    return State.WARNED if verdict.warnings else State.ACCEPTED


def build(hosts: Sequence[Host], policies: Policies, migcheck: Any, now: float,
          servers: bool = False) -> Matrix:
    """Judge every pair.

    :param migcheck: ``CONF.migcheck``
    :param now: seconds since the epoch
    :param servers: whether guests with another CPU than usual get a row of their own
    """
    reports = _with_twins(hosts, policies)
    rows, guests = _sources(hosts, reports, migcheck, now, servers)
    # The frequency of a TSC differs on every host, and concerns few guests.
    exact = any(guest.cpu is not None and guest.cpu.tsc_hz is not None for guest, _report in guests)
    numbers: dict[Hashable, int] = {}
    targets: list[Optional[Report]] = []
    kinds = []
    own = []
    without_report = Judge(policies, Guest(), None, now)
    for host, report in zip(hosts, reports):
        kind: Hashable = None
        target: Optional[Report] = None
        if report is None or not is_fresh(report.time, now, policies.stale_after):
            # As in the filter, a report that is too old is stale, whether or not it can be read.
            verdict = without_report.in_full(host.stats)
            own.append(alike(verdict, report, now, policies.stale_after))
        else:
            verdict = judge(Guest(needs=_ALL), None, dataclasses.replace(report, cpu=None), now,
                            policies)
            own.append(_soften(verdict))
            target = dataclasses.replace(report, findings=())
            kind = (published.common(host.stats), exact and report.cpu and report.cpu.tsc_hz,
                    repr(report.own))
        if kind not in numbers:
            numbers[kind] = len(targets)
            targets.append(target)
        kinds.append(numbers[kind])
    pairs = [[_soften(judge(guest, source, target, now, policies)) if target else Verdict()
              for target in targets] for guest, source in guests]
    return Matrix(hosts, rows, own, kinds, pairs, now, policies.stale_after)


def _with_twins(hosts: Sequence[Host], policies: Policies) -> list[Optional[Report]]:
    """Return the report of each host, without what differs on every host.

    Only what two hosts share, and must not, is left: it is compared, and of no kind.
    """
    registry = loading.of(policies.checks)
    texts = [registry.distinct(host.report.own) if host.report else [] for host in hosts]
    counts = collections.Counter(text for found in texts for text in found)
    return [host.report and dataclasses.replace(host.report, own=host.report.own if any(
                counts[text] > 1 for text in found) else {}) for host, found in zip(hosts, texts)]


def _sources(hosts: Sequence[Host], reports: Sequence[Optional[Report]], migcheck: Any, now: float,
             servers: bool) -> tuple[list[Row], list[tuple[Guest, Optional[Report]]]]:
    """Return the rows, and the kinds of sources to which they refer by number."""
    numbers: dict[Hashable, int] = {}
    rows = []
    guests: list[tuple[Guest, Optional[Report]]] = []
    for host_number, report in enumerate(reports):
        cpus: list[tuple[Optional[Cpu], tuple[str, ...]]] = [(None, ())]
        if report is not None and report.knows(0, now, migcheck):
            cpus = [(report.guest(''), ())]
            if servers:
                cpus += [(group.cpu, group.who) for group in report.groups]
        requirements = report.needs.usual if report else ''
        comparable = published.site(report) if report else None
        for cpu, who in cpus:
            key: Hashable = (cpu, requirements, comparable, repr(report.own) if report else '')
            if key not in numbers:
                numbers[key] = len(guests)
                guests.append((Guest(cpu, _ALL, requirements=requirements), report))
            rows.append(Row(host_number, numbers[key], who))
    return rows, guests


def alike(verdict: Verdict, report: Optional[Report], now: float, stale_after: float) -> Verdict:
    """Remove the age of a report that is too old, so that all such hosts are of one kind."""
    if report is None or report.time > now or is_fresh(report.time, now, stale_after):
        return verdict
    detail = f'its report is older than {stale_after:g} s and is not believed'
    return Verdict(tuple(dataclasses.replace(f, detail=detail) for f in verdict.rejections),
                   tuple(dataclasses.replace(f, detail=detail) for f in verdict.warnings))


class _All(frozenset[str]):
    """Needs that contain every scope."""

    def __contains__(self, _scope: object) -> bool:
        return True


_ALL = _All()


def _soften(verdict: Verdict) -> Verdict:
    """Turn rejections that concern only some servers into warnings, since there is no server."""
    if all(not finding.scope for finding in verdict.rejections):
        return verdict
    return Verdict(tuple(f for f in verdict.rejections if not f.scope),
                   tuple(f for f in verdict.rejections if f.scope) + verdict.warnings)
