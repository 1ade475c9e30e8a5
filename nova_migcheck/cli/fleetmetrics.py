# SPDX-License-Identifier: Apache-2.0
"""Write what all hosts have published as metrics in Prometheus' text format."""

from __future__ import annotations

import collections
from typing import Iterable, Sequence

from nova_migcheck.cli.prometheus import Samples, exposed, gauge
from nova_migcheck.cli.shown import FRESH, MISSING, STALE, UNREADABLE, HostStatus
from nova_migcheck.finding import Outcome
from nova_migcheck.judging.matrix import Matrix, State
from nova_migcheck.report.past import Past


def text(statuses: Sequence[HostStatus], checks: Sequence[str], matrix: Matrix, now: float) -> str:
    """Return the metrics of a cloud.

    :param statuses: of all hosts
    :param checks: names of the checks, also those that have found nothing
    :param matrix: of the same hosts
    :param now: seconds since the epoch
    """
    return exposed([
        gauge('hosts', 'Hosts by the state of their report.', _reports(statuses)),
        gauge('hosts_by_outcome', 'Hosts with a fresh report by the outcome of each check.',
              _outcomes(statuses, checks)),
        gauge('hosts_by_code', 'Hosts with a fresh report that have a finding of this code.',
              _codes(statuses)),
        gauge('report_age_seconds', 'Age of the report of each host.',
              (({'host': each.host.name}, each.seconds) for each in statuses
               if each.seconds is not None)),
        gauge('pairs', 'Pairs of source and target in one cell by what the scheduler would do.',
              _pairs(matrix)),
        gauge('sources_without_target', 'Hosts that no other host in their cell accepts guests '
              'from by default.', [({}, _without_target(matrix))]),
        gauge('cpus', 'Different CPUs among the hosts with a fresh report.',
              [({}, len({_cpu(each) for each in statuses} - {None}))]),
        gauge('migrations', 'The last live migrations that hosts have published by their end.',
              _ends(each.host.report.migrations for each in statuses if each.host.report)),
        gauge('rehearsals', 'The last rehearsals that hosts have published by their end.',
              _ends(each.host.report.rehearsals for each in statuses if each.host.report)),
        gauge('fleet_timestamp_seconds', 'When these metrics were made.', [({}, now)]),
    ])


def _fresh(statuses: Sequence[HostStatus]) -> list[HostStatus]:
    return [each for each in statuses if each.report == FRESH]


def _reports(statuses: Sequence[HostStatus]) -> Samples:
    counts = collections.Counter(each.report for each in statuses)
    return [({'report': word}, counts[word]) for word in (FRESH, STALE, MISSING, UNREADABLE)]


def _outcomes(statuses: Sequence[HostStatus], checks: Sequence[str]) -> Samples:
    counts = collections.Counter(
        (check, outcome) for each in _fresh(statuses) for check, outcome in each.checks.items())
    return [({'check': check, 'outcome': str(outcome)}, counts[check, outcome])
            for check in checks for outcome in Outcome]


def _codes(statuses: Sequence[HostStatus]) -> Samples:
    counts = collections.Counter(
        found for each in _fresh(statuses) if each.host.report
        for found in {(f.check, f.code, str(f.outcome)) for f in each.host.report.findings})
    return [({'check': check, 'code': code, 'outcome': outcome}, count)
            for (check, code, outcome), count in sorted(counts.items())]


def _pairs(matrix: Matrix) -> Samples:
    """Count pairs of hosts, each by the guests that the source starts by default."""
    counts: collections.Counter[State] = collections.Counter()
    for sources, targets, state, _verdict in matrix.folded():
        hosts = [row.host for row in sources if not row.who]
        counts[state] += len(hosts) * len(targets) - len(set(hosts) & set(targets))
    return [({'state': str(state)}, counts[state])
            for state in (State.ACCEPTED, State.WARNED, State.REJECTED)]


def _without_target(matrix: Matrix) -> int:
    """Count the sources of which all targets are rejected; a host that is alone is none."""
    some: set[int] = set()
    left: set[int] = set()
    for sources, targets, state, _verdict in matrix.folded():
        for host in [row.host for row in sources if not row.who]:
            if set(targets) - {host}:
                some.add(host)
                if state is not State.REJECTED:
                    left.add(host)
    return len(some - left)


def _cpu(each: HostStatus) -> object:
    report = each.host.report if each.report == FRESH else None
    cpu = report.cpu if report else None
    return (cpu.arch, cpu.virt, cpu.vendor, cpu.features) if cpu else None


def _ends(each: Iterable[Iterable[Past]]) -> Samples:
    counts = collections.Counter(past.ended for pasts in each for past in pasts)
    return [({'ended': ended}, count) for ended, count in sorted(counts.items())]
