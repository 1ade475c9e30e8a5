# SPDX-License-Identifier: Apache-2.0
"""What the checks of this host have told so far, for a round that could not tell.

On a machine under load a check may be killed at its deadline. That is no news about what it looks at: a failure that it found a minute
ago is still the best that is known. Nor is it known for ever: what was repaired meanwhile must not keep a host out, so it counts only as
long as a report would.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, NamedTuple, Optional, Protocol

from nova_migcheck.finding import Finding, Outcome


class CheckOutput(Protocol):
    """What is needed of the output of one check; ``rounds.runner`` has the class."""

    @property
    def findings(self) -> list[Finding]: ...

    @property
    def facts(self) -> dict[str, Any]: ...

    @property
    def ended(self) -> bool: ...


class Round(Protocol):
    """What is needed of a round; ``rounds.runner`` has the class."""

    @property
    def findings(self) -> list[Finding]: ...

    @property
    def facts(self) -> dict[str, Any]: ...

    @property
    def outputs(self) -> Mapping[str, CheckOutput]: ...


class _At(NamedTuple):
    """A finding or the value of a fact, and when it was told, in seconds of the monotonic clock."""

    when: float
    what: Any


class Carryover:
    """Completes each round with what earlier ones told, where this one could not."""

    def __init__(self) -> None:
        # check -> (what it is about -> the failure), (name -> the fact)
        self._failures: dict[str, dict[tuple[str, str, str], _At]] = {}
        self._facts: dict[str, dict[str, _At]] = {}

    def complete(self, outcome: Round, now: float, fresh: float) -> tuple[list[Finding], dict[str, Any], Optional[float]]:
        """The findings and facts that hold after a round.

        A check that came to its end is believed: what it did not find again is gone. One that did not leaves the failures that it had
        found before, except about what it did speak of. A fact stays also when the check ended with an ``unknown`` in its place.

        :param now: seconds of the monotonic clock
        :param fresh: seconds for which something holds since it was told
        :returns: findings, facts, and the age of the ``guests`` fact in seconds when it is not of this round
        """
        findings, facts, guests_age = list(outcome.findings), dict(outcome.facts), None
        for check, told in outcome.outputs.items():
            self._failures[check] = failures = self._still_failing(check, told, now, fresh)
            findings += [_aged(at, now) for at in failures.values() if at.when != now]
            self._facts[check] = known = self._still_facts(check, told, now, fresh)
            older = {name: at for name, at in known.items() if at.when != now and name not in facts}
            if older:
                facts.update((name, at.what) for name, at in older.items())
                _say(findings, check, f'what it said {now - min(at.when for at in older.values()):.0f} s ago still counts: '
                                      + ', '.join(sorted(older)))
            if 'guests' in older:
                guests_age = now - older['guests'].when
        return findings, facts, guests_age

    def _still_failing(self, check: str, told: CheckOutput, now: float, fresh: float) -> dict[tuple[str, str, str], _At]:
        failures = {} if told.ended else {
            key: at for key, at in self._failures.get(check, {}).items() if now - at.when <= fresh}
        for finding in told.findings:
            failures.pop(_about(finding), None)
        failures.update((_about(f), _At(now, f)) for f in told.findings if f.outcome is Outcome.FAILURE)
        return failures

    def _still_facts(self, check: str, told: CheckOutput, now: float, fresh: float) -> dict[str, _At]:
        sure = told.ended and not any(f.outcome is Outcome.UNKNOWN for f in told.findings)
        facts = {} if sure else {name: at for name, at in self._facts.get(check, {}).items() if now - at.when <= fresh}
        facts.update((name, _At(now, value)) for name, value in told.facts.items())
        return facts


def _about(finding: Finding) -> tuple[str, str, str]:
    return finding.check, finding.subject, finding.scope


def _aged(at: _At, now: float) -> Finding:
    finding: Finding = at.what
    age = f'found {now - at.when:.0f} s ago, and the check has not come to its end since'
    return dataclasses.replace(finding, detail=f'{finding.detail or finding.subject}; {age}')


def _say(findings: list[Finding], check: str, more: str) -> None:
    """Add to what the check said of its not knowing."""
    for number, finding in enumerate(findings):
        if finding.check == check and finding.outcome is Outcome.UNKNOWN:
            findings[number] = dataclasses.replace(finding, detail=f'{finding.detail}; {more}')
            return
