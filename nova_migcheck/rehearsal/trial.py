# SPDX-License-Identifier: Apache-2.0
"""Put together what the checks had said of a way, and what became of the guest that went it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Optional

from nova_migcheck.aftermath import ledger, traffic
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rehearsal.travel import Arrival
from nova_migcheck.report import past

# Maximum characters of libvirt's words in the ledger, and interfaces.
_WORDS, _MOST = 500, 8


@dataclasses.dataclass(frozen=True)
class Trial:
    """Hold one rehearsal.

    :param source: name of this host in Nova
    :param target: name of the target in Nova
    :param intended: the interfaces of this host that are intended for migrations
    :param foreseen: what the checks of the path had found that is not well
    :param arrival: what became of the guest
    :param back: whether it was to come back
    :param returned: what became of it on the way back; None if it did not get there
    :param time: of its end, in seconds since the epoch
    """

    source: str
    target: str
    intended: frozenset[str]
    foreseen: tuple[Finding, ...]
    arrival: Arrival
    back: bool = False
    returned: Optional[Arrival] = None
    time: int = dataclasses.field(default_factory=lambda: int(time.time()))

    @property
    def well(self) -> bool:
        """Return whether all went as an operator wants it."""
        came_back = self.returned is not None and self.returned.well
        return self.arrival.well and (came_back or not self.back)

    @property
    def agrees(self) -> bool:
        """Return whether the checks had been right about the way to the target."""
        return self.arrival.well != any(
            finding.outcome is Outcome.FAILURE for finding in self.foreseen)

    @property
    def rate(self) -> Optional[float]:
        """Return the measured rate in MiB per second."""
        return traffic.mebibytes(self.arrival.rate)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that the command prints."""
        arrival, returned = self.arrival, self.returned
        fields: dict[str, Any] = {
            'target': self.target, 'arrived': not arrival.error,
            'seconds': round(arrival.seconds, 2), 'downtime_ms': arrival.downtime_ms,
            'bytes': arrival.bytes, 'mib_per_second': self.rate,
            'interfaces': dict(arrival.sent), 'strayed': bool(arrival.strayed),
            'error': arrival.error or None,
            'foreseen': [finding.to_dict() for finding in self.foreseen], 'agrees': self.agrees}
        if self.back:
            fields['back'] = {
                'arrived': returned is not None and not returned.error,
                'seconds': round(returned.seconds, 2) if returned else None,
                'error': (returned.error or None) if returned else None,
                'strayed': bool(returned and returned.strayed),
                'mib_per_second': traffic.mebibytes(returned.rate) if returned else None}
        return fields

    def lines(self) -> list[dict[str, Any]]:
        """Return its lines for the ledger, one for each way that the guest was sent."""
        return [self._line(arrival, direction) for arrival, direction in (
            (self.arrival, past.OUT), (self.returned, past.IN)) if arrival and arrival.guest]

    def _line(self, arrival: Arrival, direction: str) -> dict[str, Any]:
        there = direction == past.OUT
        # Nobody has foreseen anything of the way back: its checks run on the other host.
        bad, less = ([one for one in self.foreseen if there and one.outcome in outcomes]
                     for outcomes in ((Outcome.FAILURE,), (Outcome.WARNING, Outcome.UNKNOWN)))
        return {
            'v': ledger.VERSION, 'kind': ledger.REHEARSAL, 'time': self.time,
            'host': self.source, 'instance': arrival.guest,
            'source': self.source if there else self.target,
            'target': self.target if there else self.source, 'direction': direction,
            **(_verdict(bad, less) if there else {}),
            'ended': (past.FAILED if arrival.error else
                      past.STRAYED if arrival.strayed else past.COMPLETED),
            'milliseconds': round(arrival.seconds * 1000), 'downtime': arrival.downtime_ms,
            'bytes': arrival.bytes, 'rate': round(arrival.rate) if arrival.rate else None,
            'interfaces': dict(sorted(arrival.sent.items(), key=lambda each: -each[1])[:_MOST]),
            'interface': self._interface(arrival), 'error': arrival.error[:_WORDS]}

    def _interface(self, arrival: Arrival) -> str:
        """Return the interface of this host that sent most of it, of those that are to blame."""
        sent = {name: count for name, count in arrival.sent.items()
                if not arrival.strayed or name not in self.intended}
        return max(sent, key=lambda name: sent[name], default='')


def _verdict(bad: list[Finding], less: list[Finding]) -> dict[str, Any]:
    unknown = any(finding.outcome is Outcome.UNKNOWN for finding in less)
    return {'verdict': ledger.REJECTED if bad else ledger.UNKNOWN if unknown else ledger.ACCEPTED,
            'rejections': sorted({f'{one.check} {one.code}' for one in bad}),
            'warnings': sorted({f'{one.check} {one.code}' for one in less})}
