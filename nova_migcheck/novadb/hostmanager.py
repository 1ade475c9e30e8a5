# SPDX-License-Identifier: Apache-2.0
"""Nova's own hosts, filters and weighers, without what takes longest in them.

What they decide is Nova's. A scheduler asks them for a few servers a minute, a plan for hundreds.
"""

from __future__ import annotations

import functools
from typing import Any, Iterable, Mapping, Sequence

from nova import objects, servicegroup
from nova.scheduler import filters, host_manager, utils


class _AsRead:
    """Nova's view of which services are up, as it was when they were read.

    A large plan may take longer than ``service_down_time``, and then all hosts would be down.
    """

    def __init__(self) -> None:
        self._api = servicegroup.API()
        self._up: dict[str, bool] = {}

    def note(self, services: Iterable[Any]) -> None:
        """Note which of these services are up now."""
        self._up.update((service.uuid, self._api.service_is_up(service)) for service in services)

    def service_is_up(self, service: Any) -> bool:
        """Return whether a service was up."""
        return self._up[service['uuid']]


class HostManager(host_manager.HostManager):
    """Nova's, which reads the servers of a cell in one query and not in a thread of its own."""

    instances: Mapping[str, Sequence[str]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._services = _AsRead()
        for each in self.enabled_filters:
            if hasattr(each, 'servicegroup_api'):
                each.servicegroup_api = self._services
        for weigher in self.weighers:
            # It depends on the host alone. Nova reads the option anew for each host, which takes
            # longer than the weighing itself.
            weigher.weight_multiplier = functools.lru_cache(maxsize=None)(
                weigher.weight_multiplier)

    def _init_instance_info(self, computes_by_cell: Any = None) -> None:
        pass

    def _get_host_states(self, context: Any, compute_nodes: Any, services: Any) -> Any:
        self._services.note(services.values())
        return super()._get_host_states(context, compute_nodes, services)

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
