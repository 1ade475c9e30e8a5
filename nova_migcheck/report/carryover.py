# SPDX-License-Identifier: Apache-2.0
"""Carry results over to a round in which a check did not finish.

On a busy host a check may be killed at its deadline. Then the failures that it found in an earlier
round still count. They count only as long as a report does, because they may have been repaired
since.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Optional

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rounds.runner import CheckOutput, Round


class _Result(NamedTuple):
    """A finding or the value of a fact, and its time in seconds of the monotonic clock."""

    time: float
    value: Any


class Carryover:
    """Complete each round with the results of earlier ones for checks that did not finish."""

    def __init__(self) -> None:
        # Check -> subject -> failure, and check -> name -> fact.
        self._failures: dict[str, dict[tuple[str, str, str], _Result]] = {}
        self._facts: dict[str, dict[str, _Result]] = {}

    def complete(self, outcome: Round, now: float,
                 fresh: float) -> tuple[list[Finding], dict[str, Any], Optional[float]]:
        """Return the findings and facts that hold after a round.

        What a check that has finished did not find again is gone. A check that did not finish keeps
        its earlier failures, except those about subjects that it did report on. A fact is also kept
        if the check ended with an ``unknown`` finding instead.

        :param now: seconds of the monotonic clock
        :param fresh: seconds for which a result holds
        :returns: findings, facts, and the age in seconds of the ``guests`` fact if it is not of
            this round
        """
        findings, facts, guests_age = list(outcome.findings), dict(outcome.facts), None
        for check, output in outcome.outputs.items():
            self._failures[check] = failures = self._still_failing(check, output, now, fresh)
            findings += [_aged(result, now) for result in failures.values() if result.time != now]
            self._facts[check] = kept = self._still_facts(check, output, now, fresh)
            older = {name: result for name, result in kept.items()
                     if result.time != now and name not in facts}
            if older:
                facts.update((name, result.value) for name, result in older.items())
                age = now - min(result.time for result in older.values())
                _append(findings, check,
                        f'results of {age:.0f} s ago still count: {", ".join(sorted(older))}')
            if 'guests' in older:
                guests_age = now - older['guests'].time
        return findings, facts, guests_age

    def _still_failing(self, check: str, output: CheckOutput, now: float,
                       fresh: float) -> dict[tuple[str, str, str], _Result]:
        failures = {} if output.ended else {
            subject: result for subject, result in self._failures.get(check, {}).items()
            if now - result.time <= fresh}
        for finding in output.findings:
            failures.pop(_subject(finding), None)
        failures.update((_subject(finding), _Result(now, finding)) for finding in output.findings
                        if finding.outcome is Outcome.FAILURE)
        return failures

    def _still_facts(self, check: str, output: CheckOutput, now: float,
                     fresh: float) -> dict[str, _Result]:
        unknown = any(finding.outcome is Outcome.UNKNOWN for finding in output.findings)
        facts = {} if output.ended and not unknown else {
            name: result for name, result in self._facts.get(check, {}).items()
            if now - result.time <= fresh}
        facts.update((name, _Result(now, value)) for name, value in output.facts.items())
        return facts


def _subject(finding: Finding) -> tuple[str, str, str]:
    return finding.check, finding.subject, finding.scope


def _aged(result: _Result, now: float) -> Finding:
    finding: Finding = result.value
    age = f'found {now - result.time:.0f} s ago, and the check has not finished since'
    return dataclasses.replace(finding, detail=f'{finding.detail or finding.subject}; {age}')


def _append(findings: list[Finding], check: str, more: str) -> None:
    """Append to the detail of the check's first ``unknown`` finding."""
    for number, finding in enumerate(findings):
        if finding.check == check and finding.outcome is Outcome.UNKNOWN:
            findings[number] = dataclasses.replace(finding, detail=f'{finding.detail}; {more}')
            return
