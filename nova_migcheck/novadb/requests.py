# SPDX-License-Identifier: Apache-2.0
"""What the dry run of Nova's scheduler is asked for one server, and what it answers."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Sequence

#: What takes a host out besides the filters, which stand under their own names.
PLACEMENT, CONDUCTOR = 'placement', 'conductor'
OURS = 'MigrationTargetFilter'


@dataclasses.dataclass
class Request:
    """What Nova would ask the scheduler for one server.

    :param cell: its CellMapping
    :param refusal: why Nova would not live-migrate it to any host, '' if it would
    :param spec: the RequestSpec, None if it is refused
    :param needs: the scopes of the findings that concern the server
    :param limited: whether placement named as many hosts as it may name
    """

    uuid: str
    source: str
    cell: Any
    refusal: str = ''
    spec: Any = None
    candidates: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    summaries: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    group_hosts: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    limited: bool = False


@dataclasses.dataclass(frozen=True)
class Decision:
    """Which hosts Nova would take for one server, the best first, and what takes out the others.

    :param ranked: names of hosts
    :param out: host -> the name of a filter, :data:`PLACEMENT`, :data:`CONDUCTOR` or :data:`OURS`,
        and a text, which may be empty
    :param claims: host -> the allocation that would be claimed there, and the host's limits
    """

    ranked: tuple[str, ...]
    out: Mapping[str, tuple[str, str]]
    claims: Mapping[str, tuple[Mapping[str, Any], Any]]
