# SPDX-License-Identifier: Apache-2.0
"""Decide as Nova's scheduler would, as a dry run: no claim, no RPC, nothing written.

The candidates are placement's, the hosts, filters and weighers are Nova's own, as nova.conf enables
them. What a decided move takes is taken from copies, so that the next decision sees it.
"""

from __future__ import annotations

import collections
import copy
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, TypeVar

import nova.conf
from keystoneauth1 import exceptions
from nova import context as nova_context
from nova import exception, objects
from nova.network import neutron
from nova.scheduler import request_filter, utils

from nova_migcheck.deadline import Call
from nova_migcheck.judging import targets
from nova_migcheck.novadb import fleet, releases
from nova_migcheck.novadb.fleet import Unavailable
from nova_migcheck.novadb.hostmanager import HostManager, passing
from nova_migcheck.novadb.placement import Candidates, Placement, in_one_line
from nova_migcheck.novadb.requests import CONDUCTOR, OURS, PLACEMENT, Decision, Request

CONF = nova.conf.CONF
T = TypeVar('T')


class Scheduling:
    """Nova's scheduler in this process.

    :param timeout: seconds for each query of a database and each request to placement
    :raises Unavailable: when nova.conf has no credentials for placement, or enables a filter that
        is not installed here
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._placement = Placement(timeout)
        self._network = _guarded(neutron.API)
        self._without_neutron = ''
        self._manager = _guarded(Call(HostManager).wait, timeout)
        self._states: dict[str, dict[str, Any]] = {}
        # UUID of each server of the cells that were read -> its host, with the moves so far.
        self._where: dict[str, str] = {}
        self._moved: set[str] = set()
        # (provider, resource class) -> what the moves so far take.
        self._taken: collections.Counter[tuple[str, str]] = collections.Counter()

    def request(self, uuid: str) -> Request:
        """Return the request for a server.

        :raises Unavailable: when something that Nova would ask cannot be asked
        """
        return _guarded(self._request, uuid)

    def decide(self, request: Request, barred: Mapping[str, str],
               refused: Callable[[Any], bool]) -> Decision:
        """Return the decision about a server after the moves so far.

        :param barred: hosts that are no targets -> why
        :param refused: says of a HostState whether our own filter rejects it
        :raises Unavailable: when one of Nova's filters fails
        """
        return _guarded(self._decide, request, barred, refused)

    def take(self, request: Request, decision: Decision, host: str) -> Callable[[], None]:
        """Take what a server needs from a host, and return what undoes it."""
        states = self._states[request.cell.uuid]
        before = states[host], self._taken.copy(), self._where.get(request.uuid)
        claim, limits = decision.claims[host]
        state = copy.copy(states[host])
        state.limits = limits
        state.pci_stats = copy.deepcopy(state.pci_stats)
        state.instances = {**state.instances, request.uuid: objects.Instance(uuid=request.uuid)}
        numa = request.spec.numa_topology
        for group in request.spec.requested_resources or ():
            group.provider_uuids = claim['mappings'][group.requester_id]
        state.consume_from_request(request.spec)
        request.spec.numa_topology = numa
        # A migration is an operation only while it runs.
        state.num_io_ops = states[host].num_io_ops
        states[host] = state
        self._claim(request, claim)
        self._where[request.uuid] = host
        self._moved.add(request.uuid)

        def undo() -> None:
            states[host], self._taken = before[0], before[1]
            self._moved.discard(request.uuid)
            if before[2] is not None:
                self._where[request.uuid] = before[2]
        return undo

    def remarks(self, requests: Sequence[Request]) -> Iterator[str]:
        """Yield what makes Nova's own choice uncertain."""
        if any(request.limited for request in requests):
            yield (f'placement names no more than {CONF.scheduler.max_placement_results} hosts '
                   "([scheduler] max_placement_results), and Nova's scheduler sees no others.")
        options = CONF.filter_scheduler
        if options.host_subset_size > 1 or options.shuffle_best_same_weighed_hosts:
            yield ('Nova itself chooses at random among the best hosts ([filter_scheduler] '
                   'host_subset_size or shuffle_best_same_weighed_hosts).')
        if OURS not in {type(each).__name__ for each in self._manager.enabled_filters}:
            yield (f'{OURS} is not in [filter_scheduler] enabled_filters of this nova.conf. A host '
                   'that it would reject counts as rejected, because nova-compute refuses it too.')

    # -- reading

    def _request(self, uuid: str) -> Request:
        admin = nova_context.get_admin_context()
        mapping = Call(objects.InstanceMapping.get_by_instance_uuid, admin, uuid)
        cell = mapping.wait(self._timeout).cell_mapping
        if cell.uuid not in self._states:
            self._states[cell.uuid] = fleet.in_cell(cell, self._timeout, self._read_states, cell)
        return fleet.in_cell(cell, self._timeout, self._read, uuid, cell)

    def _read_states(self, context: Any, cell: Any) -> dict[str, Any]:
        services = {service.host: service for service in objects.ServiceList.get_by_binary(
            context, 'nova-compute', include_disabled=True)}
        nodes = [node for node in objects.ComputeNodeList.get_all(context)
                 if node.hypervisor_type != 'ironic']
        self._manager.instances = objects.InstanceList.get_uuids_by_hosts(
            context, [node.host for node in nodes])
        for host, uuids in self._manager.instances.items():
            self._where.update(dict.fromkeys(uuids, host))
        states = self._manager._get_host_states(context, {cell.uuid: nodes}, services)
        return {state.host: state for state in states}

    def _read(self, context: Any, uuid: str, cell: Any) -> Request:
        instance = objects.Instance.get_by_uuid(context, uuid,
                                                expected_attrs=list(releases.INSTANCE))
        spec = objects.RequestSpec.get_by_instance_uuid(context, uuid)
        task = releases.Task(context, instance, spec, self._network)
        if task.has_ports and self._without_neutron:
            # Nobody waits again for each of a hundred servers.
            raise Unavailable(self._without_neutron)
        try:
            return self._asked(context, instance, spec, task, cell)
        except (exceptions.ClientException, neutron.neutron_client_exc.ConnectionFailed) as e:
            self._without_neutron = f'neutron cannot be asked: {in_one_line(e)}'
            raise Unavailable(self._without_neutron) from e

    def _asked(self, context: Any, instance: Any, spec: Any, task: releases.Task,
               cell: Any) -> Request:
        uuid = instance.uuid
        request = Request(uuid, instance.host, cell, task.refusal(), needs=targets.needs(spec))
        if request.refusal:
            return request
        try:
            spec = task.spec()
            request_filter.process_reqspec(context, spec)
            found, limited = self._candidates(context, spec)
        except (exception.RequestFilterFailed, exception.UnsupportedPolicyException) as e:
            request.refusal = str(e.format_message())
            return request
        request.spec = spec
        request.candidates, request.summaries = found.by_provider, found.summaries
        group = spec.instance_group
        if group is not None and 'hosts' in group:
            request.group_hosts = frozenset(group.hosts)
        request.limited = limited
        return request

    def _candidates(self, context: Any, spec: Any) -> tuple[Candidates, bool]:
        """Ask placement as ``SchedulerManager.select_destinations`` does.

        :returns: also whether there may be more candidates than placement was asked for
        """
        wanted = utils.resources_from_request_spec(context, spec, self._manager,
                                                   enable_pinning_translate=True)
        query = wanted.to_querystring()
        found = self._placement.candidates(query)
        # Nova asks for all of them for a server in a group.
        limited = (found.count >= CONF.scheduler.max_placement_results
                   and 'limit=' in query)
        if wanted.cpu_pinning_requested and not CONF.workarounds.disable_fallback_pcpu_query:
            wanted = utils.resources_from_request_spec(context, spec, self._manager,
                                                       enable_pinning_translate=False)
            found = found.with_more(self._placement.candidates(wanted.to_querystring()))
        return found, limited

    # -- deciding

    def _decide(self, request: Request, barred: Mapping[str, str],
                refused: Callable[[Any], bool]) -> Decision:
        states = self._states[request.cell.uuid]
        out: dict[str, tuple[str, str]] = {}
        left = []
        self._set_group(request)
        changes = self._changes(request)
        for name, state in states.items():
            if name == request.source:
                continue
            if name in barred:
                out[name] = 'plan', barred[name]
            else:
                text = self._name_candidates(request, state, changes)
                if text:
                    out[name] = PLACEMENT, text
                else:
                    left.append(state)
        for name, kept in self._filtered(left, request, refused):
            names = {state.host for state in kept}
            out.update((state.host, (name, '')) for state in left if state.host not in names)
            left = kept
        out.update((state.host, (PLACEMENT, 'no allocation candidate is left after the filters'))
                   for state in left if not state.allocation_candidates)
        left = [state for state in left if state.allocation_candidates]
        ranked = self._weighed(left, request, states.get(request.source), out)
        return Decision(tuple(state.host for state in ranked), out,
                        {state.host: (state.allocation_candidates[0], dict(state.limits))
                         for state in ranked})

    def _name_candidates(self, request: Request, state: Any, changes: bool) -> str:
        """Set the allocation candidates of a host; return why it has none, '' if it has.

        :param changes: whether Nova's filters of NUMA and PCI will change them
        """
        named = request.candidates.get(state.uuid, ())
        fits = [each for each in named if self._fits(request, each)]
        state.allocation_candidates = copy.deepcopy(fits) if changes else fits
        state.limits = {}
        if fits:
            return ''
        return ('its resources are taken by the moves before' if named else
                'it is not among the allocation candidates (resources, traits, aggregates)')

    @staticmethod
    def _changes(request: Request) -> bool:
        devices = request.spec.pci_requests
        return bool(request.spec.numa_topology or (devices and devices.requests))

    def _fits(self, request: Request, claim: Mapping[str, Any]) -> bool:
        """Return whether a claim fits beside the moves so far."""
        if not self._taken:
            return True
        for provider, each in claim['allocations'].items():
            for name, amount in each['resources'].items():
                taken = self._taken[provider, name]
                room = request.summaries[provider]['resources'][name]
                if taken and room['used'] + taken + amount > room['capacity']:
                    return False
        return True

    def _filtered(self, states: Sequence[Any], request: Request,
                  refused: Callable[[Any], bool]) -> Iterator[tuple[str, list[Any]]]:
        """Yield the name of each filter and what it keeps, as ``get_filtered_objects`` runs them.

        Our own filter does not know of a migration that has not begun, and is asked beside.
        """
        left = list(states)
        names = []
        for each in self._manager.enabled_filters:
            name = type(each).__name__
            names.append(name)
            if name == OURS:
                left = [state for state in left if not refused(state)]
            else:
                left = passing(each, left, request.spec)
            yield name, left
        if OURS not in names:
            yield OURS, [state for state in left if not refused(state)]

    def _weighed(self, states: Sequence[Any], request: Request, source: Optional[Any],
                 out: dict[str, tuple[str, str]]) -> list[Any]:
        """Return the hosts in Nova's order.

        The conductor skips a host that it refuses and asks again, so weights are normalised anew.
        """
        left = list(states)
        while left:
            ranked = [each.obj for each in self._manager.get_weighed_hosts(left, request.spec)]
            text = releases.Task.refuses(source, ranked[0]) if source is not None else ''
            if not text:
                break
            out[ranked[0].host] = CONDUCTOR, text
            left.remove(ranked[0])
        if not left:
            return []
        kept = []
        for state in ranked:
            text = releases.Task.refuses(source, state) if source is not None else ''
            if text:
                out[state.host] = CONDUCTOR, text
            else:
                kept.append(state)
        return kept

    # -- moving

    def _set_group(self, request: Request) -> None:
        """Tell the filters of server groups where the members are after the moves so far."""
        group = request.spec.instance_group
        if group is None or 'hosts' not in group:
            return
        hosts = set(request.group_hosts)
        members = set(group.members)
        if members & self._moved:
            known = set(self._states[request.cell.uuid])
            hosts = {host for host in hosts if host not in known}
            hosts |= {self._where[member] for member in members if member in self._where}
        group.hosts = sorted(hosts)

    def _claim(self, request: Request, claim: Mapping[str, Any]) -> None:
        """Take a claim from placement's copy.

        What the server holds of a provider that source and target share is free again afterwards.
        """
        for provider, each in claim['allocations'].items():
            for name, amount in each['resources'].items():
                self._taken[provider, name] += amount
        roots = {request.summaries[provider].get('root_provider_uuid')
                 for provider in claim['allocations']}
        if len(roots) > 1:
            held = self._placement.allocations(request.uuid)
            for provider in claim['allocations'].keys() & held.keys():
                for name, amount in held[provider].items():
                    self._taken[provider, name] -= amount


def _guarded(function: Callable[..., T], *args: Any) -> T:
    """Call what is Nova's, and turn each of its errors into a sentence.

    :raises Unavailable: with it
    """
    try:
        return function(*args)
    except Unavailable:
        raise
    except exception.NovaException as e:
        raise Unavailable(f"Nova's own decision cannot be repeated: {e.format_message()}") from e
    except TimeoutError as e:
        raise Unavailable(f"the databases that Nova's own decision needs give {e}") from e
    except Exception as e:
        from nova import version
        raise Unavailable(f"Nova's own decision cannot be repeated with Nova "
                          f'{version.version_string()}: {type(e).__name__}: {e}') from e
