# SPDX-License-Identifier: Apache-2.0
"""Hold what a round has observed, from which the findings are made."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_migcheck.endpoints.catalog import Missing
from nova_migcheck.endpoints.clock import median
from nova_migcheck.endpoints.values import Answer, Endpoint, Target, in_url


@dataclasses.dataclass
class Picture:
    """Hold the state of a round at its deadline.

    :param endpoints: target -> the endpoints that depend on it; a target without any was probed,
        but is no longer needed
    :param answers: target -> address -> answer
    :param logins: group -> its catalog, None if its auth plugin has none, or the error
    :param shared_login: group -> the group that logged in on its behalf
    :param cached: group -> age in seconds of its catalog, where that of an earlier round is used
    :param missing: the services that a catalog lacks
    :param elsewhere: dead target -> one that answers instead, at another address from nova.conf
    :param seconds: the longest wait for an answer
    :param starved: whether this host was so busy that its threads ran late
    """

    endpoints: dict[Target, list[Endpoint]] = dataclasses.field(default_factory=dict)
    answers: dict[Target, dict[str, Answer]] = dataclasses.field(default_factory=dict)
    logins: dict[str, Any] = dataclasses.field(default_factory=dict)
    shared_login: dict[str, str] = dataclasses.field(default_factory=dict)
    cached: dict[str, float] = dataclasses.field(default_factory=dict)
    missing: list[Missing] = dataclasses.field(default_factory=list)
    elsewhere: dict[Target, Target] = dataclasses.field(default_factory=dict)
    seconds: float = 5.0
    starved: bool = False

    def is_well(self, target: Target) -> bool:
        """Return whether a client gets through: one address answers without fault."""
        return any(answer.fault is None for answer in self.answers.get(target, {}).values())

    def skews(self) -> dict[str, float]:
        """Return server -> the median of the skews in its answers, in seconds."""
        reported: dict[str, list[float]] = {}
        for target, answers in self.answers.items():
            for answer in answers.values():
                if answer.skew is not None:
                    reported.setdefault(f'{in_url(answer.address)}:{target.port}', []).append(
                        answer.skew)
        return {server: median(values) for server, values in reported.items()}
