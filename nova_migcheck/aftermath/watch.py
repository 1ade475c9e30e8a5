# SPDX-License-Identifier: Apache-2.0
"""Watch live migrations in nova-compute, and report their results.

Nothing here affects a migration. While Nova waits, this only reads the kernel's counters and
remembers the migration. A thread of its own queries libvirt and does all the rest. What has ended
is in the ledger, and known after a restart of nova-compute; all other state is in memory.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import queue
import threading
import time
from typing import Any, Callable, Mapping, Optional, Protocol

from oslo_log import log as logging

from nova_migcheck.aftermath import job as jobs
from nova_migcheck.aftermath import ledger as ledgers
from nova_migcheck.aftermath import traffic
from nova_migcheck.aftermath.result import Limits, Result
from nova_migcheck.aftermath.tally import Tally
from nova_migcheck.deadline import Bounded, is_exit
from nova_migcheck.finding import Finding, printable, without_credentials
from nova_migcheck.network.intent import MY_IP
from nova_migcheck.novadb import moves
from nova_migcheck.report import past
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Report

LOG = logging.getLogger(__name__)

# Timeout in seconds for libvirt's statistics.
LIBVIRT = 10.0
# Maximum number of ended migrations in the queue; more are not recorded.
_WAITING = 100
# Maximum number of running migrations, and of findings about them; then the oldest are dropped.
_UNDER_WAY = 200
# Maximum number of past migrations that are kept. Only a few are published.
_KEPT = 100
# Seconds after which to look up an incoming migration whose end Nova has not reported. With shared
# storage, Nova does not notify the target of a failure.
_OVERDUE = 30.0
_MAX_ERROR = 500


class Reporter(Protocol):
    """Declare what the watch needs of this host's reporter."""

    @property
    def report(self) -> Optional[Report]: ...

    def migrated(self, pasts: tuple[Past, ...]) -> None: ...


@dataclasses.dataclass
class _Arrival:
    context: Any
    uuid: str
    peer: str
    begun: float
    received: Optional[dict[str, int]]


class Departure:
    """Track one live migration away from this host.

    :ivar ended: how it ended according to Nova's callbacks, '' if none was called
    :ivar error: what libvirt's call raised
    """

    def __init__(self, instance: Any, peer: str) -> None:
        self.uuid, self.peer, self.begun = instance.uuid, peer, time.monotonic()
        self.ended = ''
        self.error: Optional[BaseException] = None

    def noting(self, completed: Callable[..., Any], failed: Callable[..., Any]
               ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return Nova's two callbacks, each of which notes that it was called."""
        def post(*args: Any, **kwargs: Any) -> Any:
            self.ended = past.COMPLETED
            return completed(*args, **kwargs)

        def recover(*args: Any, **kwargs: Any) -> Any:
            cancelled = kwargs.get('migration_status') == past.CANCELLED
            self.ended = past.CANCELLED if cancelled else past.FAILED
            return failed(*args, **kwargs)

        return post, recover


class Watch:
    """Watch all live migrations from and to this host.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param libvirt_host: Nova's own ``nova.virt.libvirt.host.Host``
    :param reporter: this host's reporter, which publishes the results
    """

    def __init__(self, conf: Any, libvirt_host: Any, reporter: Reporter) -> None:
        self._conf, self._libvirt, self._reporter = conf, libvirt_host, reporter
        self._bounded = Bounded()
        self._arrivals: collections.OrderedDict[str, _Arrival] = collections.OrderedDict()
        self._reported: collections.OrderedDict[tuple[str, str], tuple[str, ...]] = \
            collections.OrderedDict()
        self._pasts: collections.deque[Past] = collections.deque(maxlen=_KEPT)
        self._rehearsals: tuple[Past, ...] = ()
        self._lock = threading.Lock()
        self._queue: queue.Queue[Optional[tuple[Callable[..., object], tuple[Any, ...]]]] = \
            queue.Queue(_WAITING)
        self._thread: Optional[threading.Thread] = None
        self.tally = Tally(time.time())
        self._ledger = ledgers.Ledger(conf.state_path, conf.migcheck.ledger_size << 20,
                                      conf.migcheck.ledger_days)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._work, name='migcheck-aftermath', daemon=True)
        self._thread.start()
        self._later(self._recall)
        self._later(self._write_tally)

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            LOG.debug('The thread that records live migrations is busy; it ends with the process')

    # What the checks report, before and after.

    def remember_findings(self, instance_uuid: str, target: str,
                          findings: tuple[Finding, ...]) -> None:
        """Remember the findings about a target when a migration there is decided."""
        with self._lock:
            _remember(self._reported, (instance_uuid, target),
                      tuple(f'{finding.outcome}: {finding}'[:200] for finding in findings[:5]))

    def decided(self, entry: Mapping[str, Any]) -> None:
        """Write a decision to the ledger, later."""
        self._later(self._ledger.append, entry)

    def pasts(self) -> tuple[Past, ...]:
        """Return the last migrations and rehearsals, oldest first."""
        return tuple(heapq.merge(tuple(self._pasts), self._rehearsals, key=lambda one: one.time))

    # The target.

    def arriving(self, context: Any, instance: Any) -> None:
        """Read the counters after ``pre_live_migration``: from now on, data may arrive."""
        arrival = _Arrival(context, instance.uuid, instance.host or '', time.monotonic(),
                           _received())
        with self._lock:
            _remember(self._arrivals, instance.uuid, arrival)

    def not_prepared(self, instance: Any, error: BaseException) -> None:
        """Record that ``pre_live_migration`` failed."""
        self._end(Result(instance.uuid, past.IN, instance.host or '', time.time(), past.FAILED,
                         error=_text(error)))

    def arrived(self, instance: Any) -> None:
        """Record that the guest runs here."""
        self._later(self._complete, self._pop(instance), _received(), time.time(),
                    time.monotonic())

    def turned_back(self, instance: Any) -> None:
        """Record that the guest stayed on the source."""
        arrival = self._pop(instance)
        self._end(Result(instance.uuid, past.IN, arrival.peer, time.time(), past.FAILED,
                         _since(arrival.begun),
                         error=f'rolled back; see the log of nova-compute on {arrival.peer}'))

    def look_after(self) -> None:
        """Look up overdue arrivals, and new rehearsals. This is called once a minute."""
        self._later(self._recall_rehearsals)
        overdue = [arrival for arrival in list(self._arrivals.values())
                   if _since(arrival.begun) > _OVERDUE]
        if overdue:
            self._later(self._look_up, overdue)

    # The source.

    def departing(self, instance: Any, peer: str) -> Departure:
        """Return what :meth:`left` needs at the end of a migration that begins now."""
        return Departure(instance, peer)

    def left(self, departure: Departure, error: Optional[BaseException]) -> None:
        """Record the end of a migration on the source.

        :param error: what Nova's driver raised
        """
        ended = departure.ended
        cause = error or (departure.error if ended != past.COMPLETED else None)
        text = _text(cause) if cause else ''
        if error is not None and ended == past.COMPLETED:
            ended, text = past.FAILED, f'Nova failed after the guest had moved: {text}'
        self._end(Result(departure.uuid, past.OUT, departure.peer, time.time(),
                         ended or past.FAILED, _since(departure.begun), error=text))

    # The thread.

    def _later(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._queue.put_nowait((function, args))
        except queue.Full:
            LOG.debug('Too many live migrations ended at once; one of them is not recorded')

    def _end(self, result: Result) -> None:
        self._later(self._record, result)

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            if task is None:
                return
            function, args = task
            try:
                function(*args)
            except BaseException as e:
                # The thread must survive: it records later migrations.
                if is_exit(e):
                    raise
                LOG.exception('nova-migcheck failed while recording a live migration; '
                              'this is a bug')

    def _recall(self) -> None:
        """Read what became of migrations before this nova-compute started."""
        known = self._ledger.pasts(self._conf.host)[-_KEPT:]
        if known:
            self._pasts.extendleft(reversed(known))
            self._reporter.migrated(self.pasts())
        self._recall_rehearsals()

    def _recall_rehearsals(self) -> None:
        """Read what became of rehearsals, which another process makes."""
        known = self._ledger.rehearsals(self._conf.host)
        if known is not None and tuple(known[-_KEPT:]) != self._rehearsals:
            self._rehearsals = tuple(known[-_KEPT:])
            self._reporter.migrated(self.pasts())

    def _complete(self, arrival: _Arrival, received: Optional[dict[str, int]], ended: float,
                  now: float) -> None:
        """Record a guest that arrived, with libvirt's statistics and the kernel's counters."""
        seen = now - arrival.begun if arrival.received is not None else None
        job = None
        try:
            job = jobs.read(self._bounded.call(LIBVIRT, self._stats, arrival.uuid), seen)
        except Exception as e:
            # The guest may be gone, or libvirtd may be too old or unreachable.
            LOG.info('libvirt gave no statistics for the live migration of %s: %s', arrival.uuid,
                     _text(e))
        carried, speed = None, None
        if job is not None and arrival.received is not None and received is not None:
            carried = self._carried(job, arrival.received, received)
            main = carried.intended[0] if carried.intended else carried.other
            speed = traffic.speed(main) if main else None
        limits = Limits(self._conf.libvirt.live_migration_downtime, speed,
                        self._conf.libvirt.live_migration_bandwidth)
        self._record(Result(arrival.uuid, past.IN, arrival.peer, ended, past.COMPLETED, seen, job,
                            carried, limits=limits))

    def _carried(self, job: jobs.Job, before: dict[str, int],
                 after: dict[str, int]) -> traffic.Carried:
        interfaces = traffic.Interfaces.read()
        report = self._reporter.report
        fact = report.fact('migration') if report else {}
        if fact.get('intended_by', MY_IP) == MY_IP:
            fact = {}  # my_ip is only a guess
        named = {str(fact['interface'])} if fact.get('interface') else set()
        intended = named | interfaces.holding(map(str, fact.get('addresses') or ()))
        return traffic.carried(
            job.data, traffic.between(before, after, interfaces, named), intended)

    def _stats(self, uuid: str) -> Any:
        domain = self._libvirt.get_connection().lookupByUUIDString(uuid)
        return domain.jobStats(jobs.STATS_COMPLETED | jobs.STATS_KEEP_COMPLETED)

    def _look_up(self, overdue: list[_Arrival]) -> None:
        for arrival in overdue:
            if self._arrivals.get(arrival.uuid) is not arrival:
                continue
            ended = moves.ended_badly(arrival.context, arrival.uuid, self._conf.host)
            if ended and self._arrivals.get(arrival.uuid) is arrival:
                self._pop(arrival)
                self._record(Result(arrival.uuid, past.IN, arrival.peer, time.time(), ended,
                                    error=f'see the log of nova-compute on {arrival.peer}'))

    def _record(self, result: Result) -> None:
        target = result.peer if result.direction == past.OUT else self._conf.host
        with self._lock:
            reported = self._reported.pop((result.instance, target), None)
        result = dataclasses.replace(result, reported=reported)
        self._pasts.append(result.to_past())
        self._ledger.append(ledgers.outcome(result, self._conf.host))
        self.tally.add(result)
        if result.ended == past.COMPLETED:
            # The target logs a completed migration, since it has the statistics.
            if result.direction == past.IN:
                LOG.info('%s', result.line)
        else:
            LOG.warning('%s', result.line)
        for warning in result.warnings:
            LOG.warning('live migration of %s from %s: %s', result.instance, result.peer, warning)
        self._write_tally()
        self._reporter.migrated(self.pasts())

    def _write_tally(self) -> None:
        try:
            self.tally.write(self._conf.state_path)
        except OSError as e:
            LOG.debug('The live migration counters for nova-migcheck check --prometheus cannot be '
                      'written: %s', e)

    def _pop(self, instance: Any) -> _Arrival:
        """Return the arrival, and forget it.

        It has no counters if nova-compute was restarted during the migration.
        """
        with self._lock:
            arrival = self._arrivals.pop(instance.uuid, None)
        return arrival or _Arrival(None, instance.uuid, instance.host or '', time.monotonic(), None)


def _remember(memory: collections.OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory.pop(key, None)
    memory[key] = value
    while len(memory) > _UNDER_WAY:
        memory.popitem(last=False)


def _received() -> Optional[dict[str, int]]:
    try:
        return traffic.received()
    except Exception as e:
        # Without the counters, the result names no interfaces.
        LOG.debug('The counters of the network interfaces cannot be read: %s', e)
        return None


def _since(begun: float) -> float:
    return time.monotonic() - begun


def _text(error: BaseException) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return printable(without_credentials(text))[:_MAX_ERROR]
