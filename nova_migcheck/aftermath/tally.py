# SPDX-License-Identifier: Apache-2.0
"""What all live migrations of a host since the start of its nova-compute came to, for monitoring.

The numbers live in nova-compute. ``nova-migcheck check --prometheus`` is another process, on a host that cannot read Nova's database:
nova-compute leaves them in one small file, written anew in one step after each migration. It holds numbers only.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Optional

from nova_migcheck import atomic
from nova_migcheck.aftermath.result import Result
from nova_migcheck.report import past

NAME = 'nova-migcheck-migrations.json'
_LARGEST = 16 * 1024
_ENDS = (past.COMPLETED, past.FAILED, past.CANCELLED)


@dataclasses.dataclass
class Tally:
    """Counts, sums of seconds and bytes; all of incoming migrations but ``ended``.

    :ivar since: when the counting began, in seconds since the epoch
    :ivar ended: ``in completed`` and the like -> how many
    :ivar timed: completed ones of which libvirt told how long they took, ``seconds`` in all
    :ivar stopped: those of which it told the downtime, ``downtime`` seconds in all
    :ivar data: bytes
    :ivar stray: bytes that came by an interface that was not intended
    :ivar strayed: migrations of which a large part did
    """

    since: float
    ended: dict[str, int] = dataclasses.field(default_factory=lambda: {
        f'{direction} {end}': 0 for direction in (past.IN, past.OUT) for end in _ENDS})
    timed: int = 0
    seconds: float = 0.0
    stopped: int = 0
    downtime: float = 0.0
    data: int = 0
    stray: int = 0
    strayed: int = 0

    def add(self, result: Result) -> None:
        self.ended[f'{result.direction} {result.ended}'] += 1
        if result.job is not None:
            self.timed += 1
            self.seconds += result.job.seconds
            self.data += result.job.data
            if result.job.downtime is not None:
                self.stopped += 1
                self.downtime += result.job.downtime / 1000
        if result.carried is not None and result.strayed:
            self.strayed += 1
            self.stray += result.carried.strayed

    def write(self, state_path: str) -> None:
        """:raises OSError: when it cannot be written there"""
        atomic.write(os.path.join(state_path, NAME), json.dumps(dataclasses.asdict(self), sort_keys=True) + '\n')


def read(state_path: str) -> Optional[Tally]:
    """What nova-compute left; None when there is nothing that can be read.

    :param state_path: '' when it is not known
    """
    if not state_path:
        return None
    try:
        with open(os.path.join(state_path, NAME), encoding='utf-8') as file:
            found = json.loads(file.read(_LARGEST))
        if not isinstance(found, dict):
            return None
        tally = Tally(_number(found['since']))
        tally.ended = {key: int(_number(found['ended'][key])) for key in tally.ended}
        for name in ('timed', 'stopped', 'data', 'stray', 'strayed'):
            setattr(tally, name, int(_number(found[name])))
        tally.seconds, tally.downtime = _number(found['seconds']), _number(found['downtime'])
        return tally
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def prometheus(tally: Tally) -> list[str]:
    """The lines of Prometheus' text format."""
    name = 'nova_migcheck_migration'
    lines = [f'# HELP {name}s_total Live migrations that ended, since nova-compute started.', f'# TYPE {name}s_total counter']
    for key, count in sorted(tally.ended.items()):
        direction, _, end = key.partition(' ')
        lines.append(f'{name}s_total{{direction="{direction}",result="{end}"}} {count}')
    for suffix, text, count, total in (
            ('seconds', 'How long incoming live migrations took, by libvirt.', tally.timed, tally.seconds),
            ('downtime_seconds', 'For how long their guests did not run, by libvirt.', tally.stopped, tally.downtime)):
        lines += [f'# HELP {name}_{suffix} {text}', f'# TYPE {name}_{suffix} summary', f'{name}_{suffix}_sum {total:.3f}',
                  f'{name}_{suffix}_count {count}']
    for suffix, text, value in (
            ('bytes', 'Bytes of incoming live migrations, by libvirt.', tally.data),
            ('stray_bytes', 'Of these, the least that came by an interface that was not intended.', tally.stray),
            ('strayed', 'Incoming live migrations of which a large part did.', tally.strayed)):
        lines += [f'# HELP {name}_{suffix}_total {text}', f'# TYPE {name}_{suffix}_total counter', f'{name}_{suffix}_total {value}']
    return [*lines, f'# HELP {name}s_since_timestamp_seconds When nova-compute began to count.',
            f'# TYPE {name}s_since_timestamp_seconds gauge', f'{name}s_since_timestamp_seconds {tally.since:.0f}']


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise ValueError(f'{value!r} is no count')
    return value
