# SPDX-License-Identifier: Apache-2.0
"""Drop parts of a report until its text fits."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, Iterable, Sequence

from nova_migcheck.checks.needs import Needs
from nova_migcheck.finding import Finding
from nova_migcheck.report.report import Report

# Findings beyond this number are dropped first.
MAX_FINDINGS = 100

Step = Callable[[Report], Report]


def fit(report: Report, text_of: Callable[[Report], str], limit: int,
        order: Sequence[str] = ()) -> str:
    """Return the text of a report, without what does not fit.

    Each part that is dropped is named in :attr:`Report.dropped`. What a decision rests on goes
    after what explains it, and the CPU goes last.

    :param text_of: make the text of a report
    :param limit: in bytes; all characters of the text are ASCII
    :param order: names of facts in the order in which they are dropped; others go before them
    """
    if len(report.findings) > MAX_FINDINGS:
        report = _drop(report, 'findings', findings=(
            *_one_each(report.findings), *report.findings)[:MAX_FINDINGS])
    others = sorted((report.common.keys() | report.own.keys()) - set(order))
    facts: list[Step] = [functools.partial(_drop_fact, name=name) for name in (*others, *order)]
    text = text_of(report)
    for step in (*_FIRST, *facts, *_LAST):
        if len(text) <= limit:
            break
        report = step(report)
        text = text_of(report)
    return text


def _drop(report: Report, word: str, **changes: Any) -> Report:
    dropped = (*(other for other in report.dropped if other != word), word)
    return dataclasses.replace(report, dropped=dropped, **changes)


def _drop_fact(report: Report, name: str) -> Report:
    return _drop(report, name, **{
        part: {fact: value for fact, value in getattr(report, part).items() if fact != name}
        for part in ('common', 'own')})


def _cut(findings: Iterable[Finding], length: int) -> tuple[Finding, ...]:
    """Return the findings without remedies, and each text cut to ``length`` characters."""
    return tuple(dataclasses.replace(
        f, subject=f.subject[:length], detail=f.detail[:length], origin=f.origin[:length],
        remedy='') for f in findings)


def _one_each(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding for each of those that a decision tells apart."""
    return tuple({(f.check, f.outcome, f.scope): f
                  for f in reversed(tuple(findings))}.values())[::-1]


_FIRST: tuple[Step, ...] = (
    lambda r: _drop(r, 'migrations', migrations=(), rehearsals=()),
    lambda r: _drop(r, 'remedies', findings=tuple(
        dataclasses.replace(f, remedy='') for f in r.findings)),
    lambda r: _drop(r, 'texts', findings=_cut(r.findings, 120)),
    lambda r: _drop(r, 'findings', findings=_one_each(r.findings)),
    lambda r: _drop(r, 'guests', groups=()),
    lambda r: _drop(r, 'findings', findings=_cut(r.findings, 0)[:40]),
    lambda r: _drop(r, 'needs', needs=Needs()),
    lambda r: _drop(r, 'default', default_guest=None),
)
_LAST: tuple[Step, ...] = (
    lambda r: _drop(r, 'cpu', cpu=None),
    lambda r: Report(r.time, dropped=('all',)),
)
