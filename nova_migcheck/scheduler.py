# SPDX-License-Identifier: Apache-2.0
"""The scheduler's side: a filter that keeps a live migration from a target known to be unsafe, before its nova-compute is even asked."""

from __future__ import annotations

import time
from typing import Any, Iterable, Mapping, Optional

import nova.conf
from nova import context as nova_context
from nova import exception, objects
from nova.scheduler import filters
from oslo_log import log as logging
from stevedore import extension

from nova_migcheck import conf as confs
from nova_migcheck import hostranges
from nova_migcheck.deadline import is_exit
from nova_migcheck.finding import Finding
from nova_migcheck.judging import targets
from nova_migcheck.novadb import moves
from nova_migcheck.policies import REJECT, Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF

NAMESPACE = 'nova_migcheck.scheduler_filters'

# Of so many rejected hosts beside those whose reason it holds, one line of the log still tells the names.
NAMED = 40


def all_filters() -> list[type[filters.BaseHostFilter]]:
    """For ``[filter_scheduler] available_filters = nova_migcheck.scheduler.all_filters``: what the entry points offer.

    One that cannot be loaded is left out with an ERROR line, so that it does not keep the scheduler from starting with the others.
    """
    def failed(_manager: Any, entry_point: Any, error: Exception) -> None:
        LOG.error('The filter %s of %s cannot be loaded: %s', entry_point.name, NAMESPACE, error)
    found = extension.ExtensionManager(NAMESPACE, on_load_failure_callback=failed)
    return [e.plugin for e in found if isinstance(e.plugin, type) and issubclass(e.plugin, filters.BaseHostFilter)]


class MigrationTargetFilter(filters.BaseHostFilter):
    """Keeps only hosts to which the server may go, by what they have published about themselves.

    For anything but a live migration (and what ``[migcheck] also_for`` lists) it costs one attribute test and no query.
    """

    RUN_ON_REBUILD = False

    def __init__(self) -> None:
        # Not fenced: a wrong option must stop the scheduler at its start.
        self._options = confs.register(CONF)
        self._policies = Policies.from_conf(self._options)
        self._memory = targets.Memory()

    def filter_all(self, filter_obj_list: Iterable[Any], spec_obj: Any) -> Iterable[Any]:
        """The hosts of ``filter_obj_list`` that are safe targets.

        :raises nova.exception.NoValidHost: when there were hosts and none is safe; with counts per check and no host's name, since a
            tenant reads it
        """
        try:
            # A boot has none, nor has a rebuild or an unshelve; whatever leaves a host has at least that one.
            if not spec_obj.ignore_hosts:
                return filter_obj_list
            if self._options.mode == 'off':
                return filter_obj_list
            hosts = list(filter_obj_list)
        except BaseException as e:
            return self._gave_up(e, filter_obj_list, spec_obj)
        try:
            kept, rejected = self._judge_all(hosts, spec_obj, self._options.mode == 'enforce')
        except BaseException as e:
            return self._gave_up(e, hosts, spec_obj)
        if kept or not rejected:
            return kept
        raise exception.NoValidHost(reason=f'migcheck rejected {len(hosts)} host{"s" if len(hosts) > 1 else ""} ('
                                           + ', '.join(f'{check}: {len(those)}' for check, those in sorted(rejected.items())) + ')')

    def _gave_up(self, error: BaseException, hosts: Iterable[Any], spec_obj: Any) -> Iterable[Any]:
        """Log an error of ours, and return the hosts that ``on_error`` leaves."""
        if is_exit(error):
            raise error
        LOG.exception('nova-migcheck failed while judging the targets for instance %s; this is a '
                      'bug', getattr(spec_obj, 'instance_uuid', None))
        return [] if self._options.on_error == REJECT and self._options.mode == 'enforce' else hosts

    def _judge_all(self, hosts: list[Any], spec_obj: Any, enforce: bool) -> tuple[list[Any], dict[str, list[Any]]]:
        """(hosts kept, check -> hosts that are rejected for it)"""
        move, source = self._leaving(spec_obj) if hosts else (None, None)
        if move is None:
            return hosts, {}
        now = time.time()
        guest = targets.guest(spec_obj.instance_uuid, source, move.arrived, now, self._options,
                              targets.needs(spec_obj), move.kind == moves.LIVE)
        judge_one = targets.Judge(self._policies, guest, source, now, self._memory)
        kept, rejected = judge_one.sift(hosts)
        if rejected:
            _log_rejected(judge_one, rejected, move, spec_obj.instance_uuid, enforce, self._options.max_logged_hosts)
        if LOG.isEnabledFor(logging.DEBUG):
            _log_warnings(judge_one, hosts, move, spec_obj.instance_uuid, self._options.max_logged_hosts)
        return (kept, rejected) if enforce else (hosts, {})

    def _leaving(self, spec_obj: Any) -> tuple[Optional[moves.Move], Optional[Report]]:
        """What move this request is for, and the source's report: two queries in the server's own cell."""
        destination = spec_obj.requested_destination
        if destination is None or 'cell' not in destination or destination.cell is None:
            return None, None
        with nova_context.target_cell(nova_context.get_admin_context(), destination.cell) as context:
            move = moves.under_way(context, spec_obj.instance_uuid)
            if move is None or move.source not in spec_obj.ignore_hosts:
                return None, None
            if move.kind != moves.LIVE:
                return move if move.kind in self._options.also_for else None, None
            try:
                node = objects.ComputeNode.get_first_node_by_host_for_old_compat(context, move.source)
                return move, published.read(node.stats if 'stats' in node else None)
            except (published.Unreadable, exception.NotFound) as e:
                LOG.warning('The report of the source %s of instance %s cannot be read: %s', move.source, spec_obj.instance_uuid, e)
                return move, None


def _log_rejected(judge_one: targets.Judge, rejected: Mapping[str, list[Any]], move: moves.Move, instance: str, enforce: bool,
                  limit: int) -> None:
    """One line per check, since a line costs as much as judging a hundred hosts: the reasons of up to a limit of hosts but at least of
    one, where hosts with the same reason stand together, and the names of the others."""
    if not LOG.isEnabledFor(logging.INFO):
        return
    left = limit
    for check, hosts in rejected.items():
        count = min(len(hosts), max(1, left)) if limit else 0
        left -= count
        of_reason: dict[str, list[str]] = {}
        for host in hosts[:count]:
            of_reason.setdefault(_texts(judge_one.in_full(host.stats).rejections), []).append(host.host)
        if len(hosts) == count == 1:
            whom, is_, parts = f'Host {hosts[0].host}', 'is', list(of_reason)
        else:
            whom, is_ = (f'{len(hosts)} hosts', 'are') if len(hosts) > 1 else ('1 host', 'is')
            parts = [f'{hostranges.fold(names)}: {reason}' for reason, names in of_reason.items()]
        if len(hosts) > count:
            names = [host.host for host in hosts[count:]] if len(hosts) <= count + NAMED else []
            parts.append(f'{len(hosts) - count} {"more " if count else ""}for {check}'
                         + (f': {hostranges.fold(names)}' if names else ', which nova-migcheck explain names'))
        LOG.info('%s %s as target of the %s of instance %s from %s: %s', whom,
                 f'{is_} rejected' if enforce else 'would be rejected ([migcheck] mode = report)', move.kind, instance, move.source,
                 ' | '.join(parts))


def _log_warnings(judge_one: targets.Judge, hosts: list[Any], move: moves.Move, instance: str, limit: int) -> None:
    """One line per host of which something is to be said, up to the same limit."""
    warned = [host for host in hosts if judge_one(host.stats).warnings]
    for host in warned[:limit]:
        LOG.debug('Host %s as target of the %s of instance %s: %s', host.host, move.kind, instance,
                  _texts(judge_one.in_full(host.stats).warnings))


def _texts(findings: tuple[Finding, ...]) -> str:
    return '; '.join([str(finding) for finding in findings])
