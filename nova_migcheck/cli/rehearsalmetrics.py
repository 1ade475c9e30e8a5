# SPDX-License-Identifier: Apache-2.0
"""Write rehearsals as metrics in Prometheus' text format."""

from __future__ import annotations

import time
from typing import Callable, Iterator, Optional, Sequence

from nova_migcheck.cli.prometheus import Samples, exposed, gauge
from nova_migcheck.rehearsal.travel import Arrival
from nova_migcheck.rehearsal.trial import Trial


def text(trials: Sequence[Trial]) -> str:
    """Return the metrics of the rehearsals of one call."""
    ways = [way for trial in trials for way in _ways(trial)]

    def each(value: Callable[[Arrival], Optional[float]]) -> Samples:
        for source, target, arrival in ways:
            number = value(arrival)
            if number is not None:
                yield {'source': source, 'target': target}, number
    return exposed([
        gauge('rehearsal_arrived', 'Whether the guest arrived over the intended interface (1) or '
              'not (0).', each(lambda arrival: arrival.well)),
        gauge('rehearsal_foreseen', 'Whether the checks of the path had been right (1) or not (0).',
              [({'source': trial.source, 'target': trial.target}, trial.agrees)
               for trial in trials]),
        gauge('rehearsal_seconds', 'Duration of the migration.',
              each(lambda arrival: round(arrival.seconds, 3))),
        gauge('rehearsal_downtime_seconds', 'Downtime of the guest, according to libvirt.',
              each(lambda arrival: None if arrival.downtime_ms is None
                   else arrival.downtime_ms / 1000)),
        gauge('rehearsal_rate_bytes', 'Measured rate of the link in bytes per second.',
              each(lambda arrival: arrival.rate)),
        gauge('rehearsal_timestamp_seconds', 'When these metrics were made.',
              [({}, round(time.time()))]),
    ])


def _ways(trial: Trial) -> Iterator[tuple[str, str, Arrival]]:
    """Yield source, target and what became of the guest, for each way that it was to go."""
    yield trial.source, trial.target, trial.arrival
    if trial.returned is not None:
        yield trial.target, trial.source, trial.returned
