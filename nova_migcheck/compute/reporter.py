# SPDX-License-Identifier: Apache-2.0
"""The background thread of nova-compute that keeps this host's report."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import threading
import time
from typing import Any, Callable, Mapping, Optional

from oslo_log import log as logging

from nova_migcheck.checks.registry import Registry
from nova_migcheck.compute.fence import fenced
from nova_migcheck.deadline import Call, is_exit
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import past, published
from nova_migcheck.report import report as reports
from nova_migcheck.report.carryover import Carryover
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Report
from nova_migcheck.rounds import process, runner
from nova_migcheck.rounds.reader import Reader
from nova_migcheck.storage import mounts

# The name under which operators know it.
LOG = logging.getLogger('nova_migcheck.reporter')

# Seconds that stop() waits for the thread. Its child is killed first, so it ends at once unless the
# kernel holds the child.
STOP = 3.0

# Seconds that a decision waits until a report that has changed is stored, which takes some 10 ms.
STORED = 1.0

# Seconds within which the first round begins.
FIRST = 60.0

# How much the interval between two rounds varies, as a part of it.
_VARIES = 0.1


class Reporter:
    """Runs the checks about this host, and keeps the last report.

    :param conf: the service's configuration, ``[migcheck]`` registered
    :param checks: the checks of ``WHEN = 'host'``
    :param store: called with the texts of a report that must not wait for the next audit
    :param notify: called with each report
    :param servers: the checks of ``WHEN = 'server'``, which only have needs of guests here
    """

    def __init__(self, conf: Any, reader: Reader, checks: Mapping[str, runner.Loaded],
                 store: Callable[[dict[str, str]], None] = lambda texts: None,
                 notify: Callable[[Report], None] = lambda report: None,
                 servers: Optional[Mapping[str, runner.Loaded]] = None) -> None:
        self._conf = conf
        self._store = store
        self._notify = notify
        self._storing: Optional[Call[None]] = None
        self._reader = reader
        self._checks = checks
        # The live migrations from and to this host, oldest first.
        self._pasts: tuple[Past, ...] = ()
        self._runner = runner.Runner(checks)
        declaring = {**checks, **(servers or {})}
        self._registry = Registry(
            [one.check for one in declaring.values() if one.check is not None])
        self._entries = {one: declaring[one].entry for one in self._registry.needing}
        # UUIDs of guests whose disks have changed since they were last read.
        self._changed: set[str] = set()
        self._memory: dict[str, Any] = {}
        self._carryover = Carryover()
        # As the checks made it, and with what the migrations since then add to it.
        self._checked: Optional[Report] = None
        self._report: Optional[Report] = None
        self._publishing = threading.Lock()
        self._texts: dict[str, str] = {}
        # When the last thorough round ended on the monotonic clock, and the mount table at its
        # beginning.
        self._at = -math.inf
        self._mounts = b''
        # Held by whoever runs a round, so that a decision waits for the round under way.
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._ended.set()

    def start(self) -> None:
        """Begin. nova-compute does not fork, so a thread is safe here."""
        self._ended.clear()
        threading.Thread(target=self._loop, name='migcheck', daemon=True).start()

    def stop(self) -> None:
        """End, and kill what runs. Returns within :data:`STOP` seconds."""
        self._stop.set()
        self._runner.stop()
        self._ended.wait(STOP)

    def texts(self) -> dict[str, str]:
        """Return the last report as it is published; until the first round ends, nothing."""
        return dict(self._texts)

    @property
    def report(self) -> Optional[Report]:
        """The last report, however old."""
        return self._report

    def disks_changed(self, instance_uuid: str) -> None:
        """Let the next round read again what a guest needs."""
        self._changed.add(instance_uuid)

    def migrated(self, pasts: tuple[Past, ...]) -> None:
        """Publish what migrations came to with the last report.

        :param pasts: of all that are remembered, oldest first
        """
        self._pasts = pasts
        self._publish(None)

    def fresh(self, max_age: float) -> Optional[Report]:
        """Return a report that was made within ``max_age`` seconds.

        The checks run again first when the last thorough round is older, or when something was
        mounted or unmounted since. Decisions that come together share one round, and wait for
        one at most.

        :returns: None when there is no report at all
        """
        if self._is_fresh(max_age):
            return self._report
        asked = time.monotonic()
        if self._running.acquire(timeout=self._longest_round()):
            try:
                # Another decision, or the thread, may have run the round that we waited for.
                if self._at < asked and not self._is_fresh(max_age):
                    self._round(thorough=True)
            finally:
                self._running.release()
        if self._storing is not None:
            # The source reads it next.
            with contextlib.suppress(TimeoutError):
                self._storing.wait(STORED)
        return self._report

    def _is_fresh(self, max_age: float) -> bool:
        if self._report is None or time.monotonic() - self._at > max_age:
            return False
        return self._mounts == mounts.table()

    def _longest_round(self) -> float:
        return float(self._conf.migcheck.round_deadline + 2 * process.GRACE)

    def _loop(self) -> None:
        try:
            # Hosts that were restarted together must not ask the services at the same time.
            self._stop.wait(random.uniform(0, min(FIRST, self._conf.migcheck.check_interval)))
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    if self._running.acquire(timeout=self._longest_round()):
                        try:
                            self._round(thorough=False)
                        finally:
                            self._running.release()
                except BaseException as e:
                    # A boundary to nova-compute: the next round is the next chance.
                    if is_exit(e):
                        raise
                    LOG.exception('nova-migcheck could not run its checks; this host reports '
                                  'nothing new')
                interval = (self._conf.migcheck.check_interval
                            * random.uniform(1 - _VARIES, 1 + _VARIES))
                self._stop.wait(max(1.0, interval - (time.monotonic() - begun)))
        finally:
            self._ended.set()

    def _round(self, thorough: bool) -> None:
        """Run the checks and publish the report.

        :param thorough: whether a decision waits for it
        """
        table = mounts.table()
        settings = {}
        changed, self._changed = self._changed, set()
        for name, loaded in self._checks.items():
            if loaded.check is not None:
                settings[name] = dataclasses.replace(
                    self._reader.read(loaded.check, self._memory.get(name)), thorough=thorough)
                if loaded.check.READS_GUESTS:
                    settings[name] = dataclasses.replace(
                        settings[name], guests=self._entries, changed=sorted(changed))
            else:
                settings[name] = self._reader.nothing()
        outcome = self._runner.run(settings, self._conf.migcheck.round_deadline)
        if self._stop.is_set():
            return
        if not all(name in outcome.memory for name, loaded in self._checks.items()
                   if loaded.check is not None and loaded.check.READS_GUESTS):
            self._changed |= changed
        self._memory.update(outcome.memory)
        findings, facts, guests_age = self._carryover.complete(
            outcome, time.monotonic(), self._conf.migcheck.stale_after)
        now = time.time()
        counted = None if guests_age is None else now - guests_age
        self._publish(reports.build(now, findings, facts, self._registry, counted))
        if thorough:
            self._at, self._mounts = time.monotonic(), table
        LOG.debug('Checked this host in %.2f s: %s', outcome.seconds,
                  self._report.summary if self._report else '')

    def _publish(self, checked: Optional[Report]) -> None:
        """Put a checked report (None: the last one) and what migrations came to together."""
        with self._publishing:
            self._checked = checked = checked or self._checked
            if checked is None:
                return
            pasts = self._pasts
            report = dataclasses.replace(
                checked, migrations=past.to_publish(pasts),
                rehearsals=past.rehearsals_to_publish(pasts), findings=(
                    *checked.findings, *past.warn(pasts, past.IN, '', time.time())))
            _log_changes(self._report, report)
            before = self._report
            self._texts = published.write(report, self._registry.order)
            self._report = report
            if before is not None and _decisive(before) != _decisive(report):
                self._store_now(dict(self._texts))
            with fenced('telling that this host has changed'):
                self._notify(report)

    def _store_now(self, texts: dict[str, str]) -> None:
        """Tell Nova of a fault that came or went, or of an address or a mount that changed.

        Nobody waits for it. While one takes long, the next one is left to the audit.
        """
        def store() -> None:
            try:
                self._store(texts)
            except BaseException as e:  # of the conductor, or of another Nova: any class
                if is_exit(e):
                    raise
                LOG.warning('The changed report of this host is sent with the next resource '
                            'audit, since it could not be stored now: %s: %s',
                            type(e).__name__, e)
        if self._storing is None or self._storing.ended:
            self._storing = Call(store)


def _log_changes(before: Optional[Report], after: Report) -> None:
    """One line when something begins or ceases to be wrong, not one a minute."""
    old = {_identity(f): f for f in before.findings} if before else {}
    new = {_identity(f): f for f in after.findings}
    for key, finding in new.items():
        if key not in old:
            log = LOG.error if finding.outcome is Outcome.FAILURE else LOG.warning
            log('This host as a migration target: %s: %s', finding.outcome, finding)
    for key, finding in old.items():
        if key not in new:
            LOG.info('This host as a migration target: no longer: %s: %s', finding.outcome, finding)


def _decisive(report: Report) -> Any:
    """Return what decides whether this host is a target, without what its guests change."""
    failures = {_identity(f) for f in report.findings if f.outcome is Outcome.FAILURE}
    return failures, report.cpu, report.facts


def _identity(finding: Finding) -> tuple[str, Outcome, str, str]:
    # Without the detail: an age or a count in it changes each minute.
    return finding.check, finding.outcome, finding.subject, finding.scope
