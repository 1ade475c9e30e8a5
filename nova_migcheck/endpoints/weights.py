# SPDX-License-Identifier: Apache-2.0
"""Rank how severe it is that a service is dead."""

from __future__ import annotations

from typing import Iterable, Mapping, NamedTuple

from nova_migcheck.finding import Outcome


class Weight(NamedTuple):
    """Rank the severity of a fault: a larger weight is worse."""

    failure: bool = False
    everywhere: bool = False
    scope: str = ''

    @property
    def outcome(self) -> Outcome:
        """Return the outcome of the finding."""
        return Outcome.FAILURE if self.failure else Outcome.WARNING


def required(services: Iterable[str]) -> dict[str, str]:
    """Read ``[migcheck] required_services``.

    Return service type -> scope, which is empty if every migration needs the service.
    """
    split = (service.strip().partition(':') for service in services)
    return {service: scope for service, _colon, scope in split}


def weigh(service: str, needed: Mapping[str, str]) -> Weight:
    """Return the severity of a dead service of this type."""
    scope = needed.get(service)
    return Weight() if scope is None else Weight(True, not scope, scope)
