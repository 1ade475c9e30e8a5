# SPDX-License-Identifier: Apache-2.0
"""The plan: which server goes where, in which order, how long it takes, and what stays. Pure."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from typing import Any, Iterable, Mapping, Optional, Sequence

from nova_migcheck import wording
from nova_migcheck.judging.matrix import Host
from nova_migcheck.report import past


@dataclasses.dataclass(frozen=True)
class Resident:
    """A server on a host that is to be emptied.

    :param memory: MiB
    :param disk: GiB
    """

    uuid: str
    name: str
    host: str
    cell: str
    memory: int
    vcpus: int
    disk: int
    locked: bool = False

    @property
    def place(self) -> tuple[int, int, int, str, str]:
        """Return the key to sort servers by, largest first."""
        return -self.memory, -self.vcpus, -self.disk, self.name, self.uuid


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a server does not go to some hosts.

    :param by: who says so: ``nova``, ``placement``, ``conductor``, the name of a filter of Nova's,
        the name of a check of ours, or ``plan``
    :param code: of our finding, else ''
    :param hosts: all whom it concerns; none: every host
    """

    by: str
    text: str
    code: str = ''
    hosts: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the reason as a JSON object."""
        return {**dataclasses.asdict(self), 'hosts': list(self.hosts)}


@dataclasses.dataclass(frozen=True)
class Move:
    """What becomes of one server.

    :param target: None if it goes nowhere
    :param reasons: why it has none, by the hosts that are out
    :param known: False if there is no target because it could not be determined
    :param order: from 1, 0 without a target; so is ``wave``
    :param minutes: how long it takes, None if that is not known
    """

    server: Resident
    target: Optional[str]
    reasons: tuple[Reason, ...] = ()
    known: bool = True
    order: int = 0
    wave: int = 0
    minutes: Optional[float] = None

    @property
    def verdict(self) -> str:
        """Return ``can``, ``cannot`` or ``unknown``."""
        return 'can' if self.target else 'cannot' if self.known else 'unknown'

    def to_dict(self) -> dict[str, Any]:
        """Return the move as a JSON object."""
        return {'server': self.server.uuid, 'name': self.server.name, 'from': self.server.host,
                'to': self.target, 'verdict': self.verdict, 'order': self.order or None,
                'wave': self.wave or None, 'memory_mb': self.server.memory,
                'vcpus': self.server.vcpus, 'minutes': rounded(self.minutes),
                'reasons': [reason.to_dict() for reason in self.reasons]}


@dataclasses.dataclass(frozen=True)
class Plan:
    """All moves, in order; then what stays.

    :param notes: remarks for the reader
    """

    hosts: tuple[str, ...]
    moves: tuple[Move, ...]
    notes: tuple[str, ...] = ()

    def of(self, verdict: str) -> list[Move]:
        """Return the moves of a verdict."""
        return [move for move in self.moves if move.verdict == verdict]

    @property
    def minutes(self) -> Optional[float]:
        """Return how long all waves take, None if that is not known of a server."""
        waves: dict[int, list[Optional[float]]] = collections.defaultdict(list)
        for move in self.of('can'):
            waves[move.wave].append(move.minutes)
        total = 0.0
        for times in waves.values():
            known = [time for time in times if time is not None]
            if len(known) < len(times):
                return None
            total += max(known)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return {'hosts': list(self.hosts), 'moves': [move.to_dict() for move in self.moves],
                **{verdict: len(self.of(verdict)) for verdict in ('can', 'cannot', 'unknown')},
                'minutes': rounded(self.minutes), 'notes': list(self.notes)}

    def sentence(self) -> str:
        """Return the sum of the plan in one sentence."""
        if not self.moves:
            return wording.counted(len(self.hosts), 'No server is left: the host is empty.',
                                   'No server is left: the hosts are empty.')
        parts = [f'{len(self.of("can"))} of {len(self.moves)} servers can go']
        for verdict, words in (('cannot', 'cannot'), ('unknown', 'unknown')):
            moves = self.of(verdict)
            if moves:
                names = [move.server.name or move.server.uuid for move in moves]
                parts.append(f'{len(moves)} {words}: {wording.some(names, 5)}')
        waves = max((move.wave for move in self.moves), default=0)
        if waves:
            time = self.minutes
            duration = ('the time is unknown' if time is None else
                        f'about {max(1, round(time))} min')
            parts.append(f'{wording.counted(waves, "{} wave", "{} waves")}, {duration}')
        return '; '.join(parts) + '.'


def waves(moves: Iterable[Move], at_once: int, rates: Mapping[str, float]) -> list[Move]:
    """Return the moves, largest first, those with a target numbered and with their times.

    :param at_once: how many servers move at a time
    :param rates: from :func:`rates`
    """
    ordered = sorted(moves, key=lambda move: (move.target is None, not move.known,
                                              move.server.place))
    result = []
    for number, move in enumerate(ordered, 1):
        if move.target is not None:
            rate = rates.get(move.server.host)
            move = dataclasses.replace(
                move, order=number, wave=(number - 1) // at_once + 1,
                minutes=move.server.memory * 2 ** 20 / rate / 60 if rate else None)
        result.append(move)
    return result


def rates(hosts: Sequence[Host]) -> dict[str, float]:
    """Return how fast the last live migrations from each host were, in bytes of data a second.

    The target reports a migration that completed. The median counts.
    """
    found: dict[str, list[float]] = collections.defaultdict(list)
    for host in hosts:
        for each in host.report.migrations if host.report else ():
            if (each.direction == past.IN and each.ended in (past.COMPLETED, past.STRAYED)
                    and each.data and each.milliseconds):
                found[each.peer].append(each.data / each.milliseconds * 1000)
    return {host: statistics.median(values) for host, values in found.items()}


def rounded(minutes: Optional[float]) -> Optional[float]:
    """Return minutes with two decimals, None if unknown."""
    return None if minutes is None else round(minutes, 2)
