# SPDX-License-Identifier: Apache-2.0
"""All that a round has seen, from which the findings are made."""

from __future__ import annotations

import dataclasses
from typing import Any

from nova_migcheck.endpoints.catalog import Missing
from nova_migcheck.endpoints.clock import median
from nova_migcheck.endpoints.values import Answer, Endpoint, Target, in_url


@dataclasses.dataclass
class Picture:
    """What is known when the deadline has passed.

    :param endpoints: what hangs on each target; a target without any was asked, but nothing needs it any more
    :param answers: of each target, by address
    :param logins: group -> the catalog, None when the plugin has none, or what went wrong
    :param shared_login: group -> the group that logged in for it
    :param remembered: groups whose catalog is the last known one, and its age in seconds
    :param missing: what a catalog does not have
    :param elsewhere: dead target -> one that answers instead, at an address that nova.conf names
    :param seconds: how long was waited for an answer at most
    :param starved: whether this host was itself so busy that it ran threads late
    """

    endpoints: dict[Target, list[Endpoint]] = dataclasses.field(default_factory=dict)
    answers: dict[Target, dict[str, Answer]] = dataclasses.field(default_factory=dict)
    logins: dict[str, Any] = dataclasses.field(default_factory=dict)
    shared_login: dict[str, str] = dataclasses.field(default_factory=dict)
    remembered: dict[str, float] = dataclasses.field(default_factory=dict)
    missing: list[Missing] = dataclasses.field(default_factory=list)
    elsewhere: dict[Target, Target] = dataclasses.field(default_factory=dict)
    seconds: float = 5.0
    starved: bool = False

    def is_well(self, target: Target) -> bool:
        """Whether a client gets through: at least one address answers well."""
        return any(answer.fault is None for answer in self.answers.get(target, {}).values())

    def skews(self) -> dict[str, float]:
        """Server -> seconds that its clock is ahead of ours: the median of what one server said."""
        said: dict[str, list[float]] = {}
        for target, answers in self.answers.items():
            for answer in answers.values():
                if answer.skew is not None:
                    said.setdefault(f'{in_url(answer.address)}:{target.port}', []).append(answer.skew)
        return {server: median(values) for server, values in said.items()}
