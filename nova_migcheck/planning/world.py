# SPDX-License-Identifier: Apache-2.0
"""Put Nova's own decision and ours together: where one server can go, and why not elsewhere."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Callable, Iterable, Mapping, Sequence

from nova_migcheck.finding import Finding, summary
from nova_migcheck.judging.targets import Judge
from nova_migcheck.planning.plan import Move, Reason, Resident
from nova_migcheck.planning.search import place

#: Under which name a dry run says that our own filter takes a host out.
OURS = 'MigrationTargetFilter'


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What an operator wants to assume about rejections.

    :param checks: these do not count
    :param report_only: none counts
    :param repaired: codes of findings that do not count, each alone or as ``HOST:CODE``
    """

    checks: frozenset[str] = frozenset()
    report_only: bool = False
    repaired: frozenset[str] = frozenset()

    def left(self, host: str, rejections: Iterable[Finding]) -> list[Finding]:
        """Return the rejections that count."""
        if self.report_only:
            return []
        return [finding for finding in rejections
                if finding.check not in self.checks and finding.code not in self.repaired
                and f'{host}:{finding.code}' not in self.repaired]


@dataclasses.dataclass(frozen=True)
class Case:
    """One server to place.

    :param request: of :class:`nova_migcheck.novadb.scheduling.Scheduling`
    """

    server: Resident
    request: Any
    judge: Judge


class World:
    """What :func:`nova_migcheck.planning.search.place` asks, about servers by their UUIDs.

    :param scheduling: a :class:`nova_migcheck.novadb.scheduling.Scheduling`
    :param barred: hosts that are no targets -> why
    """

    def __init__(self, scheduling: Any, cases: Mapping[str, Case], barred: Mapping[str, str],
                 assumptions: Assumptions) -> None:
        self._scheduling = scheduling
        self._cases = cases
        self._barred = barred
        self._assumptions = assumptions

    def options(self, uuid: str) -> Any:
        """Return the :class:`nova_migcheck.novadb.requests.Decision` about a server."""
        case = self._cases[uuid]

        def refused(state: Any) -> bool:
            rejections = case.judge.verdict(state.stats).rejections
            if rejections and self._assumptions.repaired:
                # Codes stand only in the full verdict, which takes longer.
                rejections = case.judge.in_full(state.stats).rejections
            return bool(rejections and self._assumptions.left(state.host, rejections))
        return self._scheduling.decide(case.request, self._barred, refused)

    def take(self, uuid: str, options: Any, host: str) -> Callable[[], None]:
        """Move a server in the plan."""
        undo: Callable[[], None] = self._scheduling.take(self._cases[uuid].request, options, host)
        return undo

    def reasons(self, uuid: str, stats: Mapping[str, Any]) -> tuple[Reason, ...]:
        """Return why a server cannot go to the hosts that are out now, most hosts first.

        :param stats: host -> what it has published
        """
        case = self._cases[uuid]
        found: dict[Reason, list[str]] = collections.defaultdict(list)
        for host, (by, text) in self.options(uuid).out.items():
            if by != OURS:
                found[Reason(by, text)].append(host)
                continue
            verdict = case.judge.in_full(stats.get(host))
            for finding in self._assumptions.left(host, verdict.rejections):
                found[Reason(finding.check, summary(finding), finding.code)].append(host)
        return tuple(dataclasses.replace(reason, hosts=tuple(sorted(hosts)))
                     for reason, hosts in sorted(found.items(), key=lambda item: -len(item[1])))


def plan(cases: Sequence[Case], world: World, stats: Mapping[str, Any],
         seconds: float) -> list[Move]:
    """Return what becomes of each server that Nova would move at all.

    :param seconds: how long to look for a better plan
    """
    ordered = sorted(cases, key=lambda case: case.server.place)
    found = place([case.server.uuid for case in ordered], world, seconds)
    moves = []
    for case in ordered:
        uuid = case.server.uuid
        if uuid in found.targets:
            moves.append(Move(case.server, found.targets[uuid]))
            continue
        known = uuid in found.stuck or found.proven
        reasons = list(world.reasons(uuid, stats))
        if not known:
            reasons.insert(0, Reason('plan', 'it could go alone; no way was found to move it '
                                     f'together with the others, in {seconds:g} s of looking'))
        elif uuid not in found.stuck:
            reasons.insert(0, Reason('plan', 'it could go alone, but no plan moves it without '
                                     'leaving another server behind'))
        moves.append(Move(case.server, None, tuple(reasons), known))
    return moves
