# SPDX-License-Identifier: Apache-2.0
"""The part of nova-compute that watches live migrations: looks when one begins and ends, and tells what it came to.

Nothing here has a say in a migration. Where Nova waits, only a counter file of the kernel is read and a note made; libvirt is asked, and
everything else done, by a thread of its own. What it knows is in memory, and gone when nova-compute restarts.
"""

from __future__ import annotations

import collections
import dataclasses
import queue
import threading
import time
from typing import Any, Callable, Optional, Protocol

from oslo_log import log as logging

from nova_migcheck.aftermath import job as jobs
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

# Seconds that libvirtd may take for the statistics.
LIBVIRT = 10.0
# Ends that wait to be looked at; more are not.
_WAITING = 100
# Migrations under way, and what the checks said, that are remembered; more and the oldest is forgotten.
_UNDER_WAY = 200
# Results that are kept, of which a few are published.
_KEPT = 100
# Seconds after which an arrival that Nova did not tell the end of is looked up: with shared storage a target is not told of a failure.
_OVERDUE = 30.0
_MAX_ERROR = 500


class Reporter(Protocol):
    """What is needed of the reporter of this host."""

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
    """One live migration on its way from here.

    :ivar ended: how it ended as Nova told its own callbacks, '' when it has told nothing
    :ivar error: what libvirt's call raised
    """

    def __init__(self, instance: Any, peer: str) -> None:
        self.uuid, self.peer, self.begun, self.ended = instance.uuid, peer, time.monotonic(), ''
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
    """All live migrations from and to this host.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param libvirt_host: Nova's own ``nova.virt.libvirt.host.Host``
    :param reporter: of this host; it is told of each migration
    """

    def __init__(self, conf: Any, libvirt_host: Any, reporter: Reporter) -> None:
        self._conf, self._libvirt, self._reporter = conf, libvirt_host, reporter
        self._bounded = Bounded()
        self._arrivals: collections.OrderedDict[str, _Arrival] = collections.OrderedDict()
        self._said: collections.OrderedDict[tuple[str, str], tuple[str, ...]] = collections.OrderedDict()
        self._pasts: collections.deque[Past] = collections.deque(maxlen=_KEPT)
        self._lock = threading.Lock()
        self._queue: queue.Queue[Optional[tuple[Callable[..., None], tuple[Any, ...]]]] = queue.Queue(_WAITING)
        self._thread: Optional[threading.Thread] = None
        self.tally = Tally(time.time())

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name='migcheck-aftermath', daemon=True)
        self._thread.start()
        self._later(self._leave_tally)

    def stop(self) -> None:
        """Ask the thread to end; does not wait for it."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            LOG.debug('The thread that looks at live migrations is busy; it ends with the process')

    # What the checks say, before and after.

    def said(self, instance_uuid: str, target: str, findings: tuple[Finding, ...]) -> None:
        """Remember what the checks had against a target, when a migration there is decided."""
        with self._lock:
            _remember(self._said, (instance_uuid, target), tuple(f'{f.outcome}: {f}'[:200] for f in findings[:5]))

    def pasts(self) -> tuple[Past, ...]:
        """The last migrations, oldest first."""
        return tuple(self._pasts)

    # The target.

    def arriving(self, context: Any, instance: Any) -> None:
        """``pre_live_migration`` is done: what comes from now on may be the guest."""
        arrival = _Arrival(context, instance.uuid, instance.host or '', time.monotonic(), _received())
        with self._lock:
            _remember(self._arrivals, instance.uuid, arrival)

    def not_prepared(self, instance: Any, error: BaseException) -> None:
        """``pre_live_migration`` failed."""
        self._end(Result(instance.uuid, past.IN, instance.host or '', time.time(), past.FAILED, error=_words(error)))

    def arrived(self, instance: Any) -> None:
        """The guest runs here."""
        self._later(self._look, self._taken(instance), _received(), time.time(), time.monotonic())

    def turned_back(self, instance: Any) -> None:
        """It stayed where it was."""
        arrival = self._taken(instance)
        self._end(Result(instance.uuid, past.IN, arrival.peer, time.time(), past.FAILED, _since(arrival.begun),
                         error=f'rolled back; nova-compute on {arrival.peer} says why'))

    def look_after(self) -> None:
        """Once a minute: arrivals that are overdue."""
        overdue = [arrival for arrival in list(self._arrivals.values()) if time.monotonic() - arrival.begun > _OVERDUE]
        if overdue:
            self._later(self._look_up, overdue)

    # The source.

    def departing(self, instance: Any, peer: str) -> Departure:
        """Return what :meth:`left` wants at the end of a migration that begins."""
        return Departure(instance, peer)

    def left(self, departure: Departure, error: Optional[BaseException]) -> None:
        """It is over on the source.

        :param error: what Nova's driver raised
        """
        ended = departure.ended
        told = error or (departure.error if ended != past.COMPLETED else None)
        words = _words(told) if told else ''
        if error is not None and ended == past.COMPLETED:
            ended, words = past.FAILED, f'Nova failed after the guest had moved: {words}'
        self._end(Result(departure.uuid, past.OUT, departure.peer, time.time(), ended or past.FAILED, _since(departure.begun), error=words))

    # The thread.

    def _later(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._queue.put_nowait((function, args))
        except queue.Full:
            LOG.debug('Too many live migrations ended at once; the end of one is not looked at')

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
                # A boundary to nova-compute: this thread must live on.
                if is_exit(e):
                    raise
                LOG.exception('nova-migcheck failed while looking at a live migration that is over; this is a bug')

    def _look(self, arrival: _Arrival, received: Optional[dict[str, int]], ended: float, now: float) -> None:
        """Ask libvirt about a guest that came, and put its answer beside the counters."""
        seen = now - arrival.begun if arrival.received is not None else None
        job = None
        try:
            job = jobs.read(self._bounded.call(LIBVIRT, self._stats, arrival.uuid), seen)
        except Exception as e:
            # The guest may be gone already, the libvirtd old, or away. All of it is ours to bear.
            LOG.info('libvirt gave no statistics of the live migration of %s: %s', arrival.uuid, _words(e))
        by, speed = None, None
        report = self._reporter.report
        if job is not None and arrival.received is not None and received is not None:
            interfaces = traffic.Interfaces.read()
            fact = report.fact('migration') if report else {}
            stated = fact.get('intended_by', MY_IP) != MY_IP
            named = {str(fact['interface'])} if stated and fact.get('interface') else set()
            intended = named | interfaces.holding(map(str, fact.get('addresses') or ())) if stated else set()
            by = traffic.carried(job.data, traffic.between(arrival.received, received, interfaces, named), intended)
            main = by.intended[0] if by.intended else by.other
            speed = traffic.speed(main) if main else None
        limits = Limits(self._conf.libvirt.live_migration_downtime, speed, self._conf.libvirt.live_migration_bandwidth)
        self._record(Result(arrival.uuid, past.IN, arrival.peer, ended, past.COMPLETED, seen, job, by, limits=limits))

    def _stats(self, uuid: str) -> Any:
        domain = self._libvirt.get_connection().lookupByUUIDString(uuid)
        return domain.jobStats(jobs.STATS_COMPLETED | jobs.STATS_KEEP_COMPLETED)

    def _look_up(self, overdue: list[_Arrival]) -> None:
        for arrival in overdue:
            if self._arrivals.get(arrival.uuid) is not arrival:
                continue
            ended = moves.ended_badly(arrival.context, arrival.uuid, self._conf.host)
            if ended and self._arrivals.get(arrival.uuid) is arrival:
                self._taken(arrival)
                error = f'nova-compute on {arrival.peer} says why'
                self._record(Result(arrival.uuid, past.IN, arrival.peer, time.time(), ended, error=error))

    def _record(self, result: Result) -> None:
        target = result.peer if result.direction == past.OUT else self._conf.host
        with self._lock:
            said = self._said.pop((result.instance, target), None)
        result = dataclasses.replace(result, said=said)
        self._pasts.append(result.to_past())
        self.tally.add(result)
        if result.ended == past.COMPLETED:
            # The target tells all about it.
            if result.direction == past.IN:
                LOG.info('%s', result.line)
        else:
            LOG.warning('%s', result.line)
        for warning in result.warnings:
            LOG.warning('live migration of %s from %s: %s', result.instance, result.peer, warning)
        self._leave_tally()
        self._reporter.migrated(self.pasts())

    def _leave_tally(self) -> None:
        try:
            self.tally.write(self._conf.state_path)
        except OSError as e:
            LOG.debug('The numbers of live migrations cannot be left for nova-migcheck check --prometheus: %s', e)

    def _taken(self, instance: Any) -> _Arrival:
        """The arrival, no longer under way. One whose begin was not seen (nova-compute restarted meanwhile) has no counters."""
        with self._lock:
            found = self._arrivals.pop(instance.uuid, None)
        return found or _Arrival(None, instance.uuid, instance.host or '', time.monotonic(), None)


def _remember(memory: collections.OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory.pop(key, None)
    memory[key] = value
    while len(memory) > _UNDER_WAY:
        memory.popitem(last=False)


def _received() -> Optional[dict[str, int]]:
    try:
        return traffic.received()
    except Exception as e:
        # A kernel whose file psutil cannot read; then nothing is said about interfaces.
        LOG.debug('The counters of the interfaces cannot be read: %s', e)
        return None


def _since(begun: float) -> float:
    return time.monotonic() - begun


def _words(error: BaseException) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return printable(without_credentials(text))[:_MAX_ERROR]
