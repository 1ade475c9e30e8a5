# SPDX-License-Identifier: Apache-2.0
"""The last migrations of a host, short enough to travel with its report, and what they say about the next one.

Pure. What another host published may come from another version, or be hostile: reading it never raises.
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

# How many a report holds, and how much of each text.
PUBLISHED = 5
_NAME, _TEXT = 64, 100

# So many bad ones in a row are worth a warning, unless the last one is older than this (seconds).
IN_A_ROW = 3
REMEMBERED = 86400.0


@dataclasses.dataclass(frozen=True)
class Past:
    """How one live migration from or to a host ended.

    :param time: seconds since the epoch
    :param direction: ``in`` or ``out``
    :param instance: the first 12 hexadecimal digits of its UUID
    :param peer: the other host
    :param ended: ``completed``, ``strayed`` (completed, over an interface that was not intended), ``failed``, ``cancelled``
    :param milliseconds: how long it took; None when not known, as with the next two
    :param downtime: milliseconds
    :param data: bytes
    :param interface: by which most of it came in
    :param text: why it failed
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

    @property
    def bad(self) -> bool:
        return self.ended in (STRAYED, FAILED)

    def to_json(self) -> list[Any]:
        """About 80 bytes in JSON."""
        return [self.time, self.direction, self.instance, self.peer[:_NAME], self.ended, self.milliseconds, self.downtime, self.data,
                self.interface[:_NAME], self.text[:_TEXT]]

    @classmethod
    def from_json(cls, value: Any) -> Optional[Past]:
        """What :meth:`to_json` wrote; None for anything else. What a later version adds behind it is left out."""
        if not isinstance(value, list) or len(value) < 10:
            return None
        time, direction, instance, peer, ended, milliseconds, downtime, data, interface, text = value[:10]
        if not _is_number(time) or not all(isinstance(word, str) for word in (direction, instance, peer, ended, interface, text)):
            return None
        if direction not in (IN, OUT) or ended not in _ENDS:
            return None
        if any(number is not None and not _is_number(number) for number in (milliseconds, downtime, data)):
            return None
        return cls(time, direction, printable(instance[:12]), printable(peer[:_NAME]), ended, milliseconds, downtime, data,
                   printable(interface[:_NAME]), printable(text[:_TEXT]))

    def to_dict(self) -> dict[str, Any]:
        """For people and programs that read it from a command."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        text = f'{when(self.time)} {"from" if self.direction == IN else "to"} {self.peer} {self.ended}'
        if self.ended == STRAYED and self.interface:
            text += f' (by {self.interface})'
        return f'{text}: {self.text}' if self.text else text


def read(value: Any) -> tuple[Past, ...]:
    """The migrations in a report, those that make sense."""
    found = (Past.from_json(entry) for entry in value[-PUBLISHED:]) if isinstance(value, list) else ()
    return tuple(past for past in found if past is not None)


def to_publish(pasts: Iterable[Past]) -> tuple[Past, ...]:
    """The last few, without those that left and arrived: of these the other host tells more."""
    return tuple([past for past in pasts if past.direction == IN or past.ended != COMPLETED][-PUBLISHED:])


def warn(pasts: Sequence[Past], direction: str, peer: str, now: float) -> list[Finding]:
    """A warning when the last three migrations ended badly.

    :param pasts: oldest first
    :param direction: ``in``: to this host, wherever they came from; ``out``: from here to ``peer``
    :param now: seconds since the epoch
    """
    asked = [past for past in pasts if past.direction == direction and past.ended != CANCELLED and (direction == IN or past.peer == peer)]
    last = asked[-IN_A_ROW:]
    if len(last) < IN_A_ROW or not all(past.bad for past in last) or now - last[-1].time > REMEMBERED:
        return []
    where = 'this host' if direction == IN else peer
    return [Finding(CHECK, Outcome.WARNING, f'live migrations to {where}', f'the last {IN_A_ROW} live migrations to {where} failed or '
                    'strayed: ' + '; '.join(str(past) for past in reversed(last)), 'nova-compute, since its start',
                    'see "live migration of" in the log of nova-compute there and on the sources',
                    code='migrations-failing')]


def when(time: float) -> str:
    """A time in UTC, to the minute."""
    try:
        return clock.strftime('%m-%d %H:%MZ', clock.gmtime(time))
    except (OverflowError, OSError, ValueError):
        return '?'


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
