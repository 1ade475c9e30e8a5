# SPDX-License-Identifier: Apache-2.0
"""Render the matrix as one HTML page that needs no network and no other file.

The hosts' own texts are escaped by Jinja2 (:mod:`nova_migcheck.cli.page`), or they are in JSON in
which ``<`` is escaped. The script only writes text nodes.
"""

from __future__ import annotations

import json
from typing import Any, Sequence

import markupsafe

from nova_migcheck import hostranges
from nova_migcheck.cli import page
from nova_migcheck.finding import Finding, summary
from nova_migcheck.judging.matrix import Matrix, State
from nova_migcheck.judging.verdict import Verdict, is_fresh

# Maximum number of source hosts to name with a reason in the table.
_MOST_NAMED = 3


def render(matrix: Matrix, notes: Sequence[str], beyond: str) -> str:
    """Return the page.

    :param notes: remarks for the reader, such as a cell that cannot be read
    :param beyond: what was not considered
    """
    return page.render('matrix', matrix.now, data=markupsafe.Markup(_data(matrix)),
                       hosts=_table(matrix), notes=notes, beyond=beyond)


def _data(matrix: Matrix) -> str:
    """Return the JSON for the script: hosts, kinds, and the verdicts by number.

    A thousand hosts take about 100 kB.
    """
    findings: dict[Finding, int] = {}
    verdicts: dict[Verdict, int] = {}

    def number(verdict: Verdict) -> int:
        for finding in (*verdict.rejections, *verdict.warnings):
            findings.setdefault(finding, len(findings))
        return verdicts.setdefault(verdict, len(verdicts))

    data: dict[str, Any] = {
        'hosts': [{'name': host.name, 'cell': host.cell, 'kind': kind, 'own': number(own)}
                  for host, kind, own in zip(matrix.hosts, matrix.kinds, matrix.own)],
        'rows': [{'host': row.host, 'kind': row.kind, 'who': row.who} for row in matrix.rows],
        'pairs': [[number(verdict) for verdict in line] for line in matrix.pairs],
    }
    data['findings'] = [finding.to_dict() for finding in findings]
    data['verdicts'] = [[[findings[finding] for finding in verdict.rejections],
                         [findings[finding] for finding in verdict.warnings]]
                        for verdict in verdicts]
    text = json.dumps(data, separators=(',', ':'))
    for character in '<>&\u2028\u2029':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def _table(matrix: Matrix) -> list[dict[str, Any]]:
    """Return a row for each target: from how many sources it is accepted, and why not from others.

    Each reason has the names of its sources, unless it concerns all of them.
    """
    groups = matrix.source_groups()
    rows = []
    for number, host in enumerate(matrix.hosts):
        accepted = count = 0
        reasons: dict[tuple[Finding, bool], list[str]] = {}
        for group in groups:
            names = [matrix.hosts[row.host].name for row in group if row.host != number]
            if matrix.hosts[group[0].host].cell != host.cell or not names:
                continue
            verdict = matrix.verdict(group[0], number)
            count += len(names)
            accepted += len(names) if verdict.accepted else 0
            for reason in _reasons(verdict):
                reasons.setdefault(reason, []).extend(names)
        own = matrix.own[number]
        if not count:  # the only host of its cell
            reasons = {reason: [] for reason in _reasons(own)}
        # A host that accepts at least one source is a target.
        worst = State.WARNED if reasons else State.ACCEPTED
        if own.rejections or (count and not accepted):
            worst = State.REJECTED
        rows.append({
            'name': host.name, 'cell': host.cell, 'service': host.service,
            'report': _report(matrix, number), 'accepted': accepted, 'sources': count,
            'state': str(worst), 'sign': worst.sign,
            'reasons': [{
                'finding': finding, 'state': State.REJECTED if rejects else State.WARNED,
                'brief': summary(finding),
                'sources': '' if len(names) == count else hostranges.fold(
                    list(dict.fromkeys(names)), _MOST_NAMED),
            } for (finding, rejects), names in sorted(reasons.items(),
                                                      key=lambda item: not item[0][1])]})
    return rows


def _reasons(verdict: Verdict) -> list[tuple[Finding, bool]]:
    """Return the findings of a verdict, each with whether it rejects."""
    return [*((finding, True) for finding in verdict.rejections),
            *((finding, False) for finding in verdict.warnings)]


def _report(matrix: Matrix, number: int) -> str:
    report = matrix.hosts[number].report
    if report is None:
        return 'missing'
    return 'fresh' if is_fresh(report.time, matrix.now, matrix.stale_after) else 'stale'
