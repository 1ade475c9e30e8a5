# SPDX-License-Identifier: Apache-2.0
"""Publish the last migrations of a host with its report, and warn if they have failed.

Pure. A report may come from another version, or be forged, so reading one never raises.
"""

from __future__ import annotations

import dataclasses
import time as clock
from typing import Any, Iterable, Optional, Sequence

from nova_migcheck.finding import Finding, Outcome, printable

CHECK = 'history'

IN, OUT = 'in', 'out'
COMPLETED, STRAYED, FAILED, CANCELLED = 'completed', 'strayed', 'failed', 'cancelled'
_ENDS = (COMPLETED, STRAYED, FAILED, CANCELLED)

# How many migrations a report holds, how many rehearsals, and how much of each text.
PUBLISHED, REHEARSALS = 3, 6
_NAME, _TEXT = 64, 100

# Warn about this many bad ones in a row, unless the last one is older than this (seconds).
IN_A_ROW = 3
REMEMBERED = 86400.0


@dataclasses.dataclass(frozen=True)
class Past:
    """How one live migration from or to a host ended, or a rehearsal of one.

    :param time: seconds since the epoch
    :param direction: ``in`` or ``out``
    :param instance: the first 12 hexadecimal digits of its UUID
    :param peer: the other host
    :param ended: ``completed``, ``strayed`` (completed, over an interface that was not intended),
        ``failed`` or ``cancelled``
    :param milliseconds: how long it took; None if unknown, as for the next two
    :param downtime: milliseconds
    :param data: bytes
    :param interface: on which most of the data arrived
    :param text: why it failed
    :param rate: of the link in bytes per second, where a rehearsal has measured it
    :param rehearsal: whether it was a guest of ``nova-migcheck rehearse`` instead of a server
    """

    time: int
    direction: str
    instance: str
    peer: str
    ended: str
    milliseconds: Optional[int] = None
    downtime: Optional[int] = None
    data: Optional[int] = None
    interface: str = ''
    text: str = ''
    rate: Optional[int] = None
    rehearsal: bool = False

    @property
    def bad(self) -> bool:
        return self.ended in (STRAYED, FAILED)

    def to_json(self) -> list[Any]:
        """Return a list that takes about 80 bytes in JSON."""
        return [self.time, self.direction, self.instance, self.peer[:_NAME], self.ended,
                self.milliseconds, self.downtime, self.data, self.interface[:_NAME],
                self.text[:_TEXT], *([] if self.rate is None else [self.rate])]

    @classmethod
    def from_json(cls, value: Any) -> Optional[Past]:
        """Read what :meth:`to_json` returned; return None for anything else.

        What a later version appends is ignored.
        """
        if not isinstance(value, list) or len(value) < 10:
            return None
        (time, direction, instance, peer, ended, milliseconds, downtime, data, interface,
         text) = value[:10]
        words = (direction, instance, peer, ended, interface, text)
        if not _is_number(time) or not all(isinstance(word, str) for word in words):
            return None
        if direction not in (IN, OUT) or ended not in _ENDS:
            return None
        rate = value[10] if len(value) > 10 and _is_number(value[10]) else None
        numbers = (milliseconds, downtime, data)
        if not all(number is None or _is_number(number) for number in numbers):
            return None
        return cls(time, direction, printable(instance[:12]), printable(peer[:_NAME]), ended,
                   milliseconds, downtime, data, printable(interface[:_NAME]),
                   printable(text[:_TEXT]), rate)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that a command prints. Only a rehearsal measures a rate."""
        values = dataclasses.asdict(self)
        rehearsal, rate = values.pop('rehearsal'), values.pop('rate')
        return {**values, 'rate': rate} if rehearsal else values

    def __str__(self) -> str:
        time, peer = when(self.time), self.peer
        if self.rehearsal:
            text = (f'{time} rehearsal from {peer} {self.ended}' if self.direction == IN else
                    f'{time} rehearsal to {peer} {self.ended}')
        else:
            text = (f'{time} from {peer} {self.ended}' if self.direction == IN else
                    f'{time} to {peer} {self.ended}')
        if self.ended == STRAYED and self.interface:
            text = f'{text} (by {self.interface})'
        return f'{text}: {self.text}' if self.text else text


def read(value: Any) -> tuple[Past, ...]:
    """Return the migrations in a report, without what cannot be read."""
    if not isinstance(value, list):
        return ()
    pasts = map(Past.from_json, value[-PUBLISHED:])
    return tuple(past for past in pasts if past is not None)


def to_publish(pasts: Iterable[Past]) -> tuple[Past, ...]:
    """Return the last few, without departures that completed: the target reports those."""
    kept = [past for past in pasts
            if not past.rehearsal and (past.direction == IN or past.ended != COMPLETED)]
    return tuple(kept[-PUBLISHED:])


def read_rehearsals(value: Any) -> tuple[Past, ...]:
    """Return the rehearsals in a report, without what cannot be read."""
    if not isinstance(value, list):
        return ()
    pasts = map(Past.from_json, value[-REHEARSALS:])
    return tuple(dataclasses.replace(past, rehearsal=True) for past in pasts if past is not None)


def rehearsals_to_publish(pasts: Iterable[Past]) -> tuple[Past, ...]:
    """Return the last rehearsal of each way, oldest first; of too many rather the bad ones."""
    last: dict[tuple[str, str], Past] = {}
    for past in pasts:
        if past.rehearsal:
            last.pop((past.direction, past.peer), None)
            last[past.direction, past.peer] = past
    ranked = sorted(last.values(), key=lambda past: past.bad)[-REHEARSALS:]
    return tuple(past for past in last.values() if past in ranked)


def warn(pasts: Sequence[Past], direction: str, peer: str, now: float) -> list[Finding]:
    """Return a warning if the last three migrations ended badly.

    :param pasts: oldest first
    :param direction: ``in``: to this host from any other; ``out``: from here to ``peer``
    :param now: seconds since the epoch
    """
    last = [past for past in pasts
            if past.direction == direction and past.ended != CANCELLED
            and (direction == IN or past.peer == peer)][-IN_A_ROW:]
    if len(last) < IN_A_ROW or not all(past.bad for past in last):
        return []
    if now - last[-1].time > REMEMBERED:
        return []
    where = 'this host' if direction == IN else peer
    ends = '; '.join(map(str, reversed(last)))
    return [Finding(CHECK, Outcome.WARNING, f'live migrations to {where}',
                    f'the last {IN_A_ROW} live migrations to {where} failed or strayed: {ends}',
                    'the ledger of nova-compute',
                    'see "live migration of" in the log of nova-compute there and on the sources',
                    code='migrations-failing')]


def when(time: float) -> str:
    """Return a time in UTC, to the minute."""
    try:
        return clock.strftime('%m-%d %H:%MZ', clock.gmtime(time))
    except (OverflowError, OSError, ValueError):
        return '?'


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
