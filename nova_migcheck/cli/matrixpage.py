# SPDX-License-Identifier: Apache-2.0
"""Render the matrix as one HTML page that needs no network and no other file.

The page contains the hosts' own texts, and a host may be hostile. Jinja2 escapes all of them, or
they are in JSON in which ``<`` is escaped. The script only writes text nodes. A content security
policy allows only the page's own script and style.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import time
from typing import Any, Sequence

import jinja2
import markupsafe

from nova_migcheck import hostranges
from nova_migcheck.cli.columns import summary
from nova_migcheck.finding import Finding
from nova_migcheck.judging.matrix import Matrix, State
from nova_migcheck.judging.verdict import Verdict, is_fresh

# Maximum number of source hosts to name with a reason in the table.
_MOST_NAMED = 3


def render(matrix: Matrix, notes: Sequence[str], beyond: str) -> str:
    """Return the page.

    :param notes: remarks for the reader, such as a cell that cannot be read
    :param beyond: what was not considered
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('nova_migcheck.cli'), autoescape=True, trim_blocks=False,
        undefined=jinja2.StrictUndefined)
    loader = environment.loader
    assert loader is not None
    style = loader.get_source(environment, 'matrix.css')[0]
    script = loader.get_source(environment, 'matrix.js')[0]
    when = time.gmtime(matrix.now)
    return environment.get_template('matrix.html').render(
        style=markupsafe.Markup(style), style_hash=_hash(style),
        script=markupsafe.Markup(script), script_hash=_hash(script),
        data=markupsafe.Markup(_data(matrix)), hosts=_table(matrix), notes=notes, beyond=beyond,
        version=importlib.metadata.version('nova-migcheck'),
        when=time.strftime('%Y-%m-%d %H:%M UTC', when),
        when_iso=time.strftime('%Y-%m-%dT%H:%M:%SZ', when))


def _hash(text: str) -> str:
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


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
