# SPDX-License-Identifier: Apache-2.0
"""The matrix as one HTML page that needs nothing else: no network, no other file.

The hosts' own texts are in it, and a host may be hostile: all of it goes through Jinja2's escaping or stands in JSON whose ``<`` is
escaped, the script writes text only, and a content security policy lets nothing run or load but what the page was made with.
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
from nova_migcheck.cli.columns import said
from nova_migcheck.finding import Finding
from nova_migcheck.judging.matrix import Matrix, State
from nova_migcheck.judging.verdict import Verdict, is_fresh

# Source hosts that a reason in the table names.
_MOST_NAMED = 3


def render(matrix: Matrix, notes: Sequence[str], beyond: str) -> str:
    """The page.

    :param notes: what the reader must know, such as a cell that is away
    :param beyond: what was not looked at
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader('nova_migcheck.cli'), autoescape=True, trim_blocks=False,
                                     undefined=jinja2.StrictUndefined)
    loader = environment.loader
    assert loader is not None
    style = loader.get_source(environment, 'matrix.css')[0]
    script = loader.get_source(environment, 'matrix.js')[0]
    return environment.get_template('matrix.html').render(
        style=markupsafe.Markup(style), style_hash=_hash(style), script=markupsafe.Markup(script), script_hash=_hash(script),
        data=markupsafe.Markup(_data(matrix)), notes=notes, beyond=beyond, version=importlib.metadata.version('nova-migcheck'),
        when=time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(matrix.now)),
        when_iso=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(matrix.now)), hosts=_table(matrix))


def _hash(text: str) -> str:
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(matrix: Matrix) -> str:
    """What the script draws from: hosts, kinds, and the verdicts by number. A thousand hosts take some 100 kB."""
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
    data['verdicts'] = [[[findings[f] for f in verdict.rejections], [findings[f] for f in verdict.warnings]] for verdict in verdicts]
    text = json.dumps(data, separators=(',', ':'))
    for character in '<>&\u2028\u2029':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def _table(matrix: Matrix) -> list[dict[str, Any]]:
    """For each host as a target: from how many sources it is accepted, and each reason with the sources that it concerns."""
    groups = matrix.source_groups()
    lines = []
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
            for rejects, found in ((True, verdict.rejections), (False, verdict.warnings)):
                for finding in found:
                    reasons.setdefault((finding, rejects), []).extend(names)
        own = matrix.own[number]
        if not count:  # the only host of its cell
            reasons = {(finding, rejects): [] for rejects, found in ((True, own.rejections), (False, own.warnings)) for finding in found}
        # A host to which some may go is a target.
        worst = State.REJECTED if own.rejections or (count and not accepted) else State.WARNED if reasons else State.ACCEPTED
        lines.append({
            'name': host.name, 'cell': host.cell, 'service': getattr(host, 'service', ''), 'report': _report(matrix, number),
            'accepted': accepted, 'sources': count, 'state': str(worst), 'sign': worst.sign,
            'reasons': [{
                'finding': finding, 'state': State.REJECTED if rejects else State.WARNED, 'brief': said(finding),
                'sources': '' if len(names) == count else hostranges.fold(list(dict.fromkeys(names)), _MOST_NAMED),
            } for (finding, rejects), names in sorted(reasons.items(), key=lambda item: not item[0][1])]})
    return lines


def _report(matrix: Matrix, number: int) -> str:
    report = matrix.hosts[number].report
    if report is None:
        return 'missing'
    return 'fresh' if is_fresh(report.time, matrix.now, matrix.stale_after) else 'stale'
