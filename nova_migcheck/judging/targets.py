# SPDX-License-Identifier: Apache-2.0
"""The possible targets of one move, judged by what they have published.

The filter and the command line use it alike. Hosts of a kind differ in nothing that a decision
rests on (``report.published``), so a verdict is made once for each kind and guest. A property test
holds it against :func:`nova_migcheck.judging.verdict.judge`, host by host.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
from typing import Any, NamedTuple, Optional, Sequence

from oslo_log import log as logging

from nova_migcheck import cpu as cpus
from nova_migcheck.checks import loading
from nova_migcheck.finding import Finding
from nova_migcheck.judging.verdict import (
    Guest,
    Verdict,
    between,
    concerning,
    judge,
    judge_fresh,
    settle,
)
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

LOG = logging.getLogger(__name__)


def needs(request_spec: Any) -> frozenset[str]:
    """Return which findings with a scope concern the server of a RequestSpec."""
    from_volume = 'is_bfv' in request_spec and bool(request_spec.is_bfv)
    # The request does not say whether it has a config drive, which is a local disk too:
    # nova-compute will look at it.
    flavor = request_spec.flavor
    local = not from_volume or bool(flavor.ephemeral_gb or flavor.swap)
    scopes = (('volumes', from_volume), ('local-disk', local))
    return frozenset(name for name, concerned in scopes if concerned)


def guest(instance_uuid: str, source: Optional[Report], arrived: float, now: float, migcheck: Any,
          needs: frozenset[str] = frozenset(), running: bool = True) -> Guest:
    """Return the server that moves, as known before any nova-compute is asked.

    :param source: the report of the host that it leaves, None when there is none
    :param arrived: when it came to that host, in seconds since the epoch; 0 when it started there
    :param now: seconds since the epoch
    :param migcheck: ``CONF.migcheck``, or what ``conf.register`` has read of it
    :param needs: from :func:`needs`
    :param running: False when it is started again on the target
    """
    if not running or source is None or not source.knows(arrived, now, migcheck):
        return Guest(None, needs, running)
    return Guest(source.guest(instance_uuid), needs, running, source.needs.of(instance_uuid))


class Kind(NamedTuple):
    """What all hosts of a kind report alike.

    :ivar report: without texts, at no time
    :ivar site: the facts that are compared with another host, as text
    :ivar scales: whether its hosts, as far as known, give a guest any TSC frequency that it needs
    """

    report: Report
    site: str
    scales: bool


@dataclasses.dataclass(frozen=True)
class GuestCache:
    """The verdicts on one guest.

    :ivar guest: as judged: without the TSC frequency, which is compared host by host
    :ivar verdicts: kind of the target -> verdict
    """

    guest: Guest
    verdicts: dict[str, Verdict] = dataclasses.field(default_factory=dict)

    def add(self, kind: str, verdict: Verdict) -> Verdict:
        """Remember a verdict, if there is room."""
        if len(self.verdicts) < Memory.KINDS:
            self.verdicts[kind] = verdict
        return verdict


class Memory:
    """What earlier requests found: a host that is emptied sends many guests to the same hosts.

    It is bounded, and holds nothing that differs on every host: no texts of findings, no times.
    """

    #: Pairs of a guest and the site of its source for which verdicts are kept, the last used ones.
    GUESTS = 32
    #: Kinds of hosts for each of them; more are forgotten and judged again.
    KINDS = 1024

    def __init__(self) -> None:
        self._of: collections.OrderedDict[Any, GuestCache] = collections.OrderedDict()
        self._kinds: dict[str, Kind] = {}
        self._lock = threading.Lock()

    def of(self, guest: Guest, site: Optional[str]) -> GuestCache:
        """Return the verdicts on such guests.

        :param site: of the source's report, None when it has none
        """
        key = guest, site
        with self._lock:
            cache = self._of.get(key)
            if cache is not None and len(cache.verdicts) < self.KINDS:
                self._of.move_to_end(key)
                return cache
            # The TSC frequency differs on every host and stands apart from its CPU.
            cpu = dataclasses.replace(guest.cpu, tsc_hz=None) if guest.cpu else None
            cache = self._of[key] = GuestCache(dataclasses.replace(guest, cpu=cpu))
            while len(self._of) > self.GUESTS:
                self._of.popitem(last=False)
            return cache

    def kind(self, name: str, text: str) -> Kind:
        """Return a kind.

        :param name: the kind, as it stands in ``text``
        :param text: what a host of it has published
        :raises nova_migcheck.report.published.Unreadable: see ``published.read_common``
        """
        kind = self._kinds.get(name)
        if kind is None:
            report, site = published.read_common(text)
            kind = Kind(report, site, report.cpu is None or bool(report.cpu.tsc_scaling))
            with self._lock:
                if len(self._kinds) >= self.KINDS:
                    self._kinds.clear()
                self._kinds[name] = kind
        return kind


class Judge:
    """Judges the hosts of one request."""

    def __init__(self, policies: Policies, guest: Guest, source: Optional[Report], now: float,
                 memory: Optional[Memory] = None) -> None:
        self._policies = policies
        self._guest = guest
        self._source = source
        self._now = now
        self._memory = memory or Memory()
        site = published.site(source) if source is not None else None
        self._cache = self._memory.of(guest, site)
        self._hz = guest.cpu.tsc_hz if guest.cpu else None
        own = source.own if source is not None and guest.running else {}
        # What stands in the report of a host that must not have it, as the source has it.
        self._distinct = loading.of(policies.checks).distinct(own)
        # site of a target -> what comparing it with the source's finds
        self._together: dict[str, list[Finding]] = {}
        # Reports sort by age as strings: each begins with the version and a ten-digit time.
        self._oldest = published.beginning(now - policies.stale_after)
        self._newest = published.beginning(now + policies.stale_after + 1)

    @functools.cached_property
    def _missing(self) -> Verdict:
        return self._judge(None)

    @functools.cached_property
    def _stale(self) -> Verdict:
        return self._judge(Report(int(self._now - self._policies.stale_after) - 1))

    def sift(self, hosts: Sequence[Any]) -> tuple[list[Any], dict[str, list[Any]]]:
        """Return the hosts that are accepted, and the others by the check that rejects them.

        :param hosts: with the ``stats`` of their ComputeNodes
        :returns: accepted hosts, check of the first rejection -> rejected hosts
        """
        kept: list[Any] = []
        rejected: dict[str, list[Any]] = {}
        for host in hosts:
            rejections = self.verdict(getattr(host, 'stats', None)).rejections
            if rejections:
                rejected.setdefault(rejections[0].check, []).append(host)
            else:
                kept.append(host)
        return kept, rejected

    def counts(self, hosts: Sequence[Any]) -> dict[str, int]:
        """Return how many of these hosts each check rejects; a host may count for several."""
        verdicts = [self.verdict(host.stats) for host in hosts]
        # Hosts of a kind share one verdict.
        alike = collections.Counter(map(id, verdicts))
        checks: collections.Counter[str] = collections.Counter()
        for key, verdict in {id(verdict): verdict for verdict in verdicts}.items():
            for check in {finding.check for finding in verdict.rejections}:
                checks[check] += alike[key]
        return dict(sorted(checks.items()))

    def may_be_repaired(self, host: Any) -> bool:
        """Return whether all that rejects a host may have been repaired since it reported."""
        transient = loading.of(self._policies.checks).transient
        return all(finding.check in transient or finding.code == 'report-stale'
                   for finding in self.verdict(host.stats).rejections)

    def verdict(self, stats: Any) -> Verdict:
        """Return the verdict on a host, without the texts of its own findings."""
        text = _text(stats)
        if text is None:
            return self._missing
        if not self._oldest <= text < self._newest:
            return self._stale if published.is_dated(text) else self._missing
        verdict = self._cache.verdicts.get(text[published.KIND])
        if verdict is None:
            verdict = self._judge_kind(text)
        for value in self._distinct:
            if value in text:
                report = _read(text)
                return self._missing if report is None else self._judge(report)
        return self._with_frequency(self._hz, text, verdict) if self._hz else verdict

    def _is_twin(self, text: str) -> bool:
        """Return whether a host has published something that only the source may have."""
        return any(value in text for value in self._distinct)

    def in_full(self, stats: Any) -> Verdict:
        """Return the verdict on a host with the texts of its own findings, for people."""
        text = _text(stats)
        if text is None:
            return self._missing
        if self._hz or self._is_twin(text) or not self._oldest <= text < self._newest:
            report = _read(text)
            return self.verdict(stats) if report is None else self._judge(report)
        try:
            findings = published.read_findings(text)
        except published.Unreadable:
            return self._missing
        own = settle(concerning(self._guest, findings), self._policies)
        alike = self.verdict(stats)
        return Verdict(
            (*own.rejections, *[f for f in alike.rejections if not published.is_bare(f)]),
            (*own.warnings, *[f for f in alike.warnings if not published.is_bare(f)]))

    def _judge_kind(self, text: str) -> Verdict:
        """Judge the kind of a host; one whose text is not of the kind that it names has none."""
        name = text[published.KIND]
        try:
            kind = self._memory.kind(name, text)
        except published.Unreadable as e:
            LOG.debug('A report cannot be read: %s', e)
            return self._missing
        together = self._together.get(kind.site)
        if together is None and self._source is not None:
            together = between(self._source, kind.report, self._policies)
            self._together[kind.site] = together
        return self._cache.add(name, judge_fresh(
            self._cache.guest, self._source, kind.report, self._policies, together=together))

    def _with_frequency(self, hz: int, text: str, verdict: Verdict) -> Verdict:
        """Return the verdict on one host for a guest that needs a TSC frequency.

        :param verdict: on its kind, for a guest that needs none
        """
        try:
            if (self._memory.kind(text[published.KIND], text).scales
                    or cpus.compare_tsc(hz, published.tsc_hz(text), scaling=False).compatible):
                return verdict
        except published.Unreadable as e:
            LOG.debug('A report cannot be read: %s', e)
            return self._missing
        report = _read(text)
        return self._missing if report is None else self._judge(report)

    def _judge(self, target: Optional[Report]) -> Verdict:
        return judge(self._guest, self._source, target, self._now, self._policies)


def _text(stats: Any) -> Optional[str]:
    """Return what a host has published, None when that is no text."""
    text = stats.get(published.MAIN) if isinstance(stats, dict) else None
    return text if isinstance(text, str) else None


def _read(text: str) -> Optional[Report]:
    try:
        return published.read({published.MAIN: text})
    except published.Unreadable as e:
        LOG.debug('A report cannot be read: %s', e)
        return None
