# SPDX-License-Identifier: Apache-2.0
"""Filter unsafe live migration targets in nova-scheduler, before their nova-compute is asked."""

from __future__ import annotations

import itertools
import time
from typing import Any, Iterable, Mapping, Optional

import nova.conf
from nova import context as nova_context
from nova import exception, objects
from nova.scheduler import filters
from oslo_log import log as logging
from stevedore import extension

from nova_migcheck import conf as confs
from nova_migcheck import hostranges, wording
from nova_migcheck.deadline import is_exit
from nova_migcheck.finding import Finding
from nova_migcheck.judging import common, targets
from nova_migcheck.novadb import moves
from nova_migcheck.policies import REJECT, Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF

NAMESPACE = 'nova_migcheck.scheduler_filters'

# A log line names at most this many rejected hosts besides those with a reason. Above it, the line
# has only their number.
MAX_NAMED = 40
# If no host is left, the reasons of at most this many are compared.
MAX_COMPARED = 100


def all_filters() -> list[type[filters.BaseHostFilter]]:
    """Return the filters of the entry points.

    It is for ``[filter_scheduler] available_filters = nova_migcheck.scheduler.all_filters``. A
    filter that cannot be loaded is left out with an ERROR line, so that the scheduler starts with
    the others.
    """
    def failed(_manager: Any, entry_point: Any, error: Exception) -> None:
        LOG.error('The filter %s of %s cannot be loaded: %s', entry_point.name, NAMESPACE, error)
    plugins = [e.plugin for e in extension.ExtensionManager(
        NAMESPACE, on_load_failure_callback=failed)]
    return [plugin for plugin in plugins
            if isinstance(plugin, type) and issubclass(plugin, filters.BaseHostFilter)]


class MigrationTargetFilter(filters.BaseHostFilter):
    """Keep only the hosts that are safe targets according to their published reports.

    For anything but a live migration (and what ``[migcheck] also_for`` lists) it costs one
    attribute test and no query.
    """

    RUN_ON_REBUILD = False

    def __init__(self) -> None:
        # Errors are not caught here: a wrong option must stop the scheduler when it starts.
        self._options = confs.register(CONF)
        self._policies = Policies.from_conf(self._options)
        self._memory = targets.Memory()

    def filter_all(self, filter_obj_list: Iterable[Any], spec_obj: Any) -> Iterable[Any]:
        """Return the hosts of ``filter_obj_list`` that are safe targets.

        :raises nova.exception.NoValidHost: when there were hosts and none is safe. It has the
            number of hosts per check but not their names, because a tenant reads it.
        """
        try:
            # A boot, rebuild or unshelve ignores no host. A move ignores at least its source.
            if not spec_obj.ignore_hosts:
                return filter_obj_list
            if self._options.mode == 'off':
                return filter_obj_list
            hosts = list(filter_obj_list)
        except BaseException as e:
            return self._gave_up(e, filter_obj_list, spec_obj)
        try:
            kept, counts = self._judge_all(hosts, spec_obj, self._options.mode == 'enforce')
        except BaseException as e:
            return self._gave_up(e, hosts, spec_obj)
        if kept or not counts:
            return kept
        rejected = wording.counted(
            len(hosts), 'migcheck rejected {} host', 'migcheck rejected {} hosts')
        raise exception.NoValidHost(reason=f'{rejected} ({counts})')

    def _gave_up(self, error: BaseException, hosts: Iterable[Any], spec_obj: Any) -> Iterable[Any]:
        """Log an error of this package, and return the hosts that ``on_error`` leaves."""
        if is_exit(error):
            raise error
        LOG.exception('nova-migcheck failed while judging the targets for instance %s; this is a '
                      'bug', getattr(spec_obj, 'instance_uuid', None))
        reject = self._options.on_error == REJECT and self._options.mode == 'enforce'
        return [] if reject else hosts

    def _judge_all(self, hosts: list[Any], spec_obj: Any,
                   enforce: bool) -> tuple[list[Any], str]:
        """Return the hosts to keep, and if there are none, how many each check rejects."""
        move, source = self._move(spec_obj) if hosts else (None, None)
        if move is None:
            return hosts, ''
        now = time.time()
        guest = targets.guest(spec_obj.instance_uuid, source, move.arrived, now, self._options,
                              targets.needs(spec_obj), move.kind == moves.LIVE)
        judge_one = targets.Judge(self._policies, guest, source, now, self._memory)
        kept, rejected = judge_one.sift(hosts)
        limit = self._options.max_logged_hosts
        if rejected:
            _log_rejected(judge_one, rejected, move, spec_obj.instance_uuid, enforce, limit)
        if LOG.isEnabledFor(logging.DEBUG):
            _log_warnings(judge_one, hosts, move, spec_obj.instance_uuid, limit)
        if not enforce or kept:
            return kept if enforce else hosts, ''
        service = common.shared(
            [judge_one.in_full(host.stats).rejections for host in hosts[:MAX_COMPARED]], source,
            self._policies)
        if service:
            LOG.warning('No target is left for instance %s. %s', spec_obj.instance_uuid, service)
        most = CONF.scheduler.max_placement_results
        # Nova has taken out those to ignore before, the source among them.
        if len(hosts) + len(set(spec_obj.ignore_hosts)) >= most:
            LOG.warning('All %d hosts for instance %s are rejected as targets, and placement names '
                        'no more than that ([scheduler] max_placement_results = %d). If there are '
                        'more hosts, request one by its name', len(hosts), spec_obj.instance_uuid,
                        most)
        if move.kind == moves.LIVE:
            kept = self._last_resort(judge_one, hosts, spec_obj)
        counts = ', '.join(f'{check}: {count}' for check, count in judge_one.counts(hosts).items())
        return kept, '; '.join(filter(None, (counts, service)))

    def _last_resort(self, judge_one: targets.Judge, hosts: list[Any], spec_obj: Any) -> list[Any]:
        """Return the rejected hosts to ask themselves, because no other host is left.

        A report is up to two minutes old, and the fault may have been repaired since. The
        nova-compute of each host checks it again, and refuses if the fault is still there. Nova
        then ignores that host and asks the scheduler for another, so what it ignores besides the
        source counts as asked.
        """
        left = self._options.last_resort_hosts - (len(set(spec_obj.ignore_hosts)) - 1)
        asked = list(itertools.islice(filter(judge_one.may_be_repaired, hosts), max(0, left)))
        if asked:
            LOG.info('No host is left as target for instance %s. In case they were repaired since '
                     'their last reports, these hosts may check themselves again and decide: %s',
                     spec_obj.instance_uuid, hostranges.fold([host.host for host in asked]))
        return asked

    def _move(self, spec_obj: Any) -> tuple[Optional[moves.Move], Optional[Report]]:
        """Return the move that this request is for, and the source's report.

        It takes two queries in the server's own cell.
        """
        destination = spec_obj.requested_destination
        if destination is None or 'cell' not in destination or destination.cell is None:
            return None, None
        admin = nova_context.get_admin_context()
        with nova_context.target_cell(admin, destination.cell) as context:
            move = moves.under_way(context, spec_obj.instance_uuid)
            if move is None or move.source not in spec_obj.ignore_hosts:
                return None, None
            if move.kind != moves.LIVE:
                return move if move.kind in self._options.also_for else None, None
            try:
                node = objects.ComputeNode.get_first_node_by_host_for_old_compat(
                    context, move.source)
                return move, published.read(node.stats if 'stats' in node else None)
            except (published.Unreadable, exception.NotFound) as e:
                LOG.warning('The report of the source %s of instance %s cannot be read: %s',
                            move.source, spec_obj.instance_uuid, e)
                return move, None


# Whether hosts with a reason stand before, and whether the others are named.
_OTHERS = {
    (True, True): '{count} more for {check}: {hosts}',
    (False, True): '{count} for {check}: {hosts}',
    (True, False):
        '{count} more for {check} (list them with: nova-migcheck explain SERVER)',
    (False, False): '{count} for {check} (list them with: nova-migcheck explain SERVER)',
}
# Whether they are really rejected, and which hosts.
_REJECTED = {
    (True, 'named'): 'Host %(host)s is rejected as target of the %(kind)s of instance %(instance)s '
                     'from %(source)s: %(reasons)s',
    (True, 'one'): '1 host is rejected as target of the %(kind)s of instance %(instance)s from '
                   '%(source)s: %(reasons)s',
    (True, 'several'): '%(count)d hosts are rejected as target of the %(kind)s of instance '
                       '%(instance)s from %(source)s: %(reasons)s',
    (False, 'named'): 'Host %(host)s would be rejected ([migcheck] mode = report) as target of the '
                      '%(kind)s of instance %(instance)s from %(source)s: %(reasons)s',
    (False, 'one'): '1 host would be rejected ([migcheck] mode = report) as target of the %(kind)s '
                    'of instance %(instance)s from %(source)s: %(reasons)s',
    (False, 'several'): '%(count)d hosts would be rejected ([migcheck] mode = report) as target of '
                        'the %(kind)s of instance %(instance)s from %(source)s: %(reasons)s',
}


def _log_rejected(judge_one: targets.Judge, rejected: Mapping[str, list[Any]], move: moves.Move,
                  instance: str, enforce: bool, limit: int) -> None:
    """Log one line per check, because a line costs as much as judging a hundred hosts.

    Each line has the reasons of at least one host, and of ``limit`` hosts in all lines together.
    Hosts with the same reason are listed together. The other hosts are named without a reason.
    """
    if not LOG.isEnabledFor(logging.INFO):
        return
    left = limit
    for check, hosts in rejected.items():
        count = min(len(hosts), max(1, left)) if limit else 0
        left -= count
        by_reason: dict[str, list[str]] = {}
        for host in hosts[:count]:
            reason = _texts(judge_one.in_full(host.stats).rejections)
            by_reason.setdefault(reason, []).append(host.host)
        named = len(hosts) == count == 1
        parts = list(by_reason) if named else [
            f'{hostranges.fold(names)}: {reason}' for reason, names in by_reason.items()]
        others = [host.host for host in hosts[count:]]
        if others:
            parts.append(_OTHERS[count > 0, len(others) <= MAX_NAMED].format(
                count=len(others), check=check, hosts=hostranges.fold(others)))
        LOG.info(_REJECTED[enforce, 'named' if named else 'one' if len(hosts) == 1 else 'several'],
                 {'host': hosts[0].host, 'count': len(hosts), 'kind': move.kind,
                  'instance': instance, 'source': move.source, 'reasons': ' | '.join(parts)})


def _log_warnings(judge_one: targets.Judge, hosts: list[Any], move: moves.Move, instance: str,
                  limit: int) -> None:
    """Log one line per host with warnings, up to ``limit`` hosts."""
    warned = [host for host in hosts if judge_one.verdict(host.stats).warnings]
    for host in warned[:limit]:
        LOG.debug('Host %s as target of the %s of instance %s: %s', host.host, move.kind, instance,
                  _texts(judge_one.in_full(host.stats).warnings))


def _texts(findings: tuple[Finding, ...]) -> str:
    return '; '.join([str(finding) for finding in findings])
