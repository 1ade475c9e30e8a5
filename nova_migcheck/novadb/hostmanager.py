# SPDX-License-Identifier: Apache-2.0
"""Nova's own hosts, filters and weighers, without what takes longest in them.

What they decide is Nova's. A scheduler asks them for a few servers a minute, a plan for hundreds.
"""

from __future__ import annotations

import functools
from typing import Any, Mapping, Sequence

from nova import objects
from nova.scheduler import filters, host_manager, utils


class HostManager(host_manager.HostManager):
    """Nova's, which reads the servers of a cell in one query and not in a thread of its own."""

    instances: Mapping[str, Sequence[str]] = {}

    def __init__(self) -> None:
        super().__init__()
        for weigher in self.weighers:
            # It depends on the host alone. Nova reads the option anew for each host, which takes
            # longer than the weighing itself.
            weigher.weight_multiplier = functools.lru_cache(maxsize=None)(
                weigher.weight_multiplier)

    def _init_instance_info(self, computes_by_cell: Any = None) -> None:
        pass

    def _get_instance_info(self, context: Any, compute: Any) -> dict[str, Any]:
        return {uuid: objects.Instance(context, uuid=uuid)
                for uuid in self.instances.get(compute.host, ())}


def passing(each: Any, states: Sequence[Any], spec: Any) -> list[Any]:
    """Return the hosts that one of Nova's filters keeps.

    Nova looks for each host whether the request is a rebuild, which takes longer than most filters.
    """
    kind = type(each)
    if (kind.filter_all is filters.BaseHostFilter.filter_all
            and kind._filter_one is filters.BaseHostFilter._filter_one
            and not utils.request_is_rebuild(spec)):
        return [state for state in states if each.host_passes(state, spec)]
    return list(each.filter_all(list(states), spec) or ())
