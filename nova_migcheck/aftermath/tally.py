# SPDX-License-Identifier: Apache-2.0
"""Count the live migrations of a host since its nova-compute started, for monitoring.

nova-compute writes its counters to one small file after each migration, and replaces it in one
step. ``nova-migcheck check --prometheus`` reads it, since it is another process, on a host that
cannot read Nova's database. The file holds numbers only.
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
    """Hold the counters and sums. All but ``ended`` are about incoming migrations only.

    :ivar since: when the counting began, in seconds since the epoch
    :ivar ended: ``in completed`` and the like -> number of migrations
    :ivar timed: completed migrations with a duration from libvirt
    :ivar seconds: sum of these durations
    :ivar stopped: completed migrations with a downtime from libvirt
    :ivar downtime: sum of these downtimes, in seconds
    :ivar data: bytes
    :ivar stray: bytes that arrived on an interface that was not intended
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
        """Count one migration."""
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
        """Write the file.

        :raises OSError: if it cannot be written there
        """
        atomic.write(os.path.join(state_path, NAME),
                     json.dumps(dataclasses.asdict(self), sort_keys=True) + '\n')


def read(state_path: str) -> Optional[Tally]:
    """Read the file; return None if there is none, or it cannot be read.

    :param state_path: '' if unknown
    """
    if not state_path:
        return None
    try:
        with open(os.path.join(state_path, NAME), encoding='utf-8') as file:
            values = json.loads(file.read(_LARGEST))
        tally = Tally(_number(values['since']))
        tally.ended = {key: int(_number(values['ended'][key])) for key in tally.ended}
        for name in ('timed', 'stopped', 'data', 'stray', 'strayed'):
            setattr(tally, name, int(_number(values[name])))
        tally.seconds, tally.downtime = _number(values['seconds']), _number(values['downtime'])
        return tally
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise ValueError(f'{value!r} is not a count')
    return value
