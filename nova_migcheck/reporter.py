# SPDX-License-Identifier: Apache-2.0
"""The background thread of nova-compute that keeps this host's report: checks each interval, and holds the latest answer."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any, Callable, Mapping, Optional

from oslo_log import log as logging

from nova_migcheck import process, published, runner
from nova_migcheck import report as reports
from nova_migcheck.aftermath import past
from nova_migcheck.aftermath.past import Past
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.known import Known
from nova_migcheck.report import Report
from nova_migcheck.settings import Reader

LOG = logging.getLogger(__name__)

# Seconds that stop() waits for the thread. Its child is killed first, so it ends at once unless the kernel holds the child.
STOP = 3.0


class Reporter:
    """Runs the checks about this host, and keeps the last report.

    :param conf: the service's configuration, ``[migcheck]`` registered
    :param checks: the checks of ``WHEN = 'host'``
    :param pasts: gives the live migrations from and to this host, oldest first
    """

    def __init__(self, conf: Any, reader: Reader, checks: Mapping[str, runner.Loaded],
                 pasts: Callable[[], tuple[Past, ...]] = tuple) -> None:
        self._conf = conf
        self._reader = reader
        self._checks = checks
        self._pasts = pasts
        self._runner = runner.Runner(checks)
        self._memory: dict[str, Any] = {}
        self._known = Known()
        # As the checks made it, and with what the migrations since then add to it.
        self._checked: Optional[Report] = None
        self._report: Optional[Report] = None
        self._publishing = threading.Lock()
        self._texts: dict[str, str] = {}
        self._at = 0.0
        # Held by whoever runs a round, so that a decision waits for the round under way instead of starting a second one.
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Begin. nova-compute does not fork, so a thread is safe here."""
        self._thread = threading.Thread(target=self._loop, name='migcheck', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and kill what runs. Returns within :data:`STOP` seconds."""
        self._stop.set()
        self._runner.stop()
        if self._thread is not None:
            self._thread.join(STOP)

    def texts(self) -> dict[str, str]:
        """The last report as it is published. Empty before the first round has ended: not yet known is not known to be well."""
        return dict(self._texts)

    @property
    def report(self) -> Optional[Report]:
        """The last report, however old."""
        return self._report

    def migrated(self) -> None:
        """A migration has ended: what it came to is published with the last report."""
        self._publish(None)

    def fresh(self, max_age: float) -> Optional[Report]:
        """The report, checked again when it is older than ``max_age`` seconds.

        Waits for one round at most. None when there is no report at all.
        """
        if self._age() <= max_age:
            return self._report
        asked = time.monotonic()
        if self._running.acquire(timeout=self._longest_round()):
            try:
                # Another decision, or the thread, may have run the round that we waited for.
                if self._at < asked and self._age() > max_age:
                    self._round()
            finally:
                self._running.release()
        return self._report

    def _age(self) -> float:
        return time.monotonic() - self._at if self._report is not None else float('inf')

    def _longest_round(self) -> float:
        return float(self._conf.migcheck.round_deadline + 2 * process.GRACE)

    def _loop(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                if self._running.acquire(timeout=self._longest_round()):
                    try:
                        self._round()
                    finally:
                        self._running.release()
            except Exception:
                # A boundary to nova-compute: this thread must live on, with the next round as its next chance.
                LOG.exception('nova-migcheck could not run its checks; this host reports nothing new')
            self._stop.wait(max(1.0, self._conf.migcheck.check_interval - (time.monotonic() - begun)))

    def _round(self) -> None:
        settings = {}
        for name, loaded in self._checks.items():
            if loaded.check is not None:
                settings[name] = self._reader.read(loaded.check, self._memory.get(name))
            else:
                settings[name] = self._reader.nothing()
        outcome = self._runner.run(settings, self._conf.migcheck.round_deadline)
        if self._stop.is_set():
            return
        self._memory.update(outcome.memory)
        findings, facts, guests_age = self._known.complete(outcome, time.monotonic(), self._conf.migcheck.stale_after)
        now = time.time()
        self._publish(reports.build(now, findings, facts, None if guests_age is None else now - guests_age))
        self._at = time.monotonic()
        LOG.debug('Checked this host in %.2f s: %s', outcome.seconds, self._report.summary if self._report else '')

    def _publish(self, checked: Optional[Report]) -> None:
        """Put a checked report (None: the last one) and what migrations came to together."""
        with self._publishing:
            self._checked = checked = checked or self._checked
            if checked is None:
                return
            pasts = self._pasts()
            report = dataclasses.replace(checked, migrations=past.to_publish(pasts), findings=(
                *checked.findings, *past.warn(pasts, past.IN, '', time.time())))
            _log_changes(self._report, report)
            self._texts = published.write(report)
            self._report = report


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


def _identity(finding: Finding) -> tuple[str, Outcome, str, str]:
    # Without the detail: an age or a count in it changes each minute.
    return finding.check, finding.outcome, finding.subject, finding.scope
