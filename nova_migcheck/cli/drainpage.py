# SPDX-License-Identifier: Apache-2.0
"""Render a drain plan as one HTML page: what stays and why, who goes where, what each target gets.

The script only filters and sorts what is there without it.
"""

from __future__ import annotations

import collections
from typing import Any, Optional

from nova_migcheck import hostranges
from nova_migcheck.cli import page
from nova_migcheck.planning.plan import Move, Plan

# Maximum number of names and ranges of names in the summary of a reason.
_MOST = 4


def render(plan: Plan, commands: str, beyond: str, now: float) -> str:
    """Return the page.

    :param commands: the lines that carry out the plan
    :param beyond: what was not considered
    :param now: seconds since the epoch
    """
    return page.render(
        'drain', now, hosts=hostranges.fold(plan.hosts), sentence=plan.sentence(),
        counts={verdict: len(plan.of(verdict)) for verdict in ('can', 'cannot', 'unknown')},
        minutes=_minutes(plan.minutes), waves=max((move.wave for move in plan.moves), default=0),
        staying=[_row(move) for move in plan.moves if move.target is None],
        moves=[_row(move) for move in plan.of('can')], targets=_targets(plan), commands=commands,
        notes=plan.notes, beyond=beyond)


def _row(move: Move) -> dict[str, Any]:
    reasons = [{'by': reason.by, 'text': reason.text, 'code': reason.code,
                'count': len(reason.hosts), 'all': hostranges.fold(reason.hosts),
                'some': hostranges.fold(reason.hosts, _MOST, count=False)}
               for reason in move.reasons]
    return {'name': move.server.name or move.server.uuid, 'uuid': move.server.uuid,
            'from': move.server.host, 'to': move.target or '', 'verdict': move.verdict,
            'order': move.order, 'wave': move.wave, 'memory': move.server.memory,
            'vcpus': move.server.vcpus, 'minutes': _minutes(move.minutes),
            'locked': move.server.locked, 'reasons': reasons}


def _targets(plan: Plan) -> list[dict[str, Any]]:
    """Return what each target gets, the most memory first."""
    found: dict[str, list[Move]] = collections.defaultdict(list)
    for move in plan.of('can'):
        found[move.target or ''].append(move)
    rows = [{'name': host, 'count': len(moves), 'memory': sum(m.server.memory for m in moves),
             'vcpus': sum(m.server.vcpus for m in moves)} for host, moves in found.items()]
    return sorted(rows, key=lambda row: (-row['memory'], row['name']))


def _minutes(minutes: Optional[float]) -> str:
    if minutes is None:
        return 'unknown'
    return '< 1 min' if minutes < 1 else f'{minutes:.0f} min'
