# SPDX-License-Identifier: Apache-2.0
"""Describe a host as the commands about all hosts show it: its report, or its verdict."""

from __future__ import annotations

import collections
import dataclasses
from typing import Iterable, Mapping, Optional, Sequence

from nova_migcheck.finding import Outcome, worst
from nova_migcheck.judging.matrix import Host, State
from nova_migcheck.judging.verdict import Verdict, is_fresh
from nova_migcheck.report.past import Past

FRESH, STALE, MISSING, UNREADABLE = 'fresh', 'stale', 'missing', 'unreadable'
SOURCE = 'source'


@dataclasses.dataclass(frozen=True)
class HostStatus:
    """What one host has published.

    :param report: ``fresh``, ``stale``, ``missing`` or ``unreadable``
    :param seconds: age of the report, None if there is none
    :param checks: check -> its worst outcome
    """

    host: Host
    report: str
    seconds: Optional[float]
    checks: Mapping[str, Outcome]

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome; ``unknown`` if the report is not fresh."""
        return worst(self.checks.values()) if self.report == FRESH else Outcome.UNKNOWN

    @property
    def well(self) -> bool:
        """Return whether the host has no problem."""
        return self.outcome is Outcome.OK and self.host.service == 'up'

    @property
    def migrations(self) -> str:
        """Return how many of its live migrations and rehearsals ended in which way."""
        report = self.host.report
        migrations = _ends(report.migrations if report else ())
        rehearsals = _ends(report.rehearsals if report else ())
        return '; '.join(filter(None, (migrations, rehearsals and f'rehearsed: {rehearsals}')))


def _ends(pasts: Iterable[Past]) -> str:
    counts = collections.Counter(past.ended for past in pasts)
    return ', '.join(f'{count} {ended}' for ended, count in sorted(counts.items()))


def status(host: Host, checks: Sequence[str], now: float, stale_after: float) -> HostStatus:
    """Return the status of a host.

    :param checks: names of the checks to show
    :param now: seconds since the epoch
    """
    report = host.report
    if report is None:
        return HostStatus(host, UNREADABLE if host.unreadable else MISSING, None, {})
    outcomes = {check: worst(finding.outcome for finding in report.findings
                             if finding.check == check) for check in checks}
    age_word = FRESH if is_fresh(report.time, now, stale_after) else STALE
    return HostStatus(host, age_word, round(now - report.time, 1), outcomes)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A host as a target for one server.

    :param state: None for the host that the server is on
    :param alike: the verdict without the details that differ between otherwise equal hosts
    :param rehearsals: from the server's host to this one, oldest first
    """

    host: Host
    state: Optional[State]
    verdict: Verdict
    alike: Verdict
    rehearsals: tuple[Past, ...] = ()

    @property
    def word(self) -> str:
        """Return the state in one word."""
        return SOURCE if self.state is None else str(self.state)


def age(seconds: Optional[float]) -> str:
    """Return an age in the largest unit that fits, '' for None."""
    if seconds is None:
        return ''
    sign, seconds = ('-', -seconds) if seconds < 0 else ('', seconds)
    for unit, length in (('d', 86400), ('h', 3600), ('min', 60)):
        if seconds >= 2 * length:
            return f'{sign}{seconds // length:.0f} {unit}'
    return f'{sign}{seconds:.0f} s'
