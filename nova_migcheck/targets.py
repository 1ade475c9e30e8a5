# SPDX-License-Identifier: Apache-2.0
"""The possible targets of one move, judged by what they have published. Used by the filter and by the command line alike."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, Optional, Sequence

from oslo_log import log as logging

from nova_migcheck import published
from nova_migcheck.finding import Finding
from nova_migcheck.report import Report
from nova_migcheck.verdict import Guest, Policies, Verdict, between, concerning, judge, settle

LOG = logging.getLogger(__name__)


def needs(request_spec: Any) -> frozenset[str]:
    """Which findings with a scope concern the server of a RequestSpec."""
    from_volume = 'is_bfv' in request_spec and bool(request_spec.is_bfv)
    # Whether it has a config drive, which is a local disk too, the request does not say: nova-compute will look at it.
    local = not from_volume or bool(request_spec.flavor.ephemeral_gb or request_spec.flavor.swap)
    return frozenset(name for name, needed in (('volumes', from_volume), ('local-disk', local)) if needed)


def guest(instance_uuid: str, source: Optional[Report], arrived: float, now: float, migcheck: Any,
          needs: frozenset[str] = frozenset(), running: bool = True) -> Guest:
    """The server that moves, as far as it is known before any nova-compute is asked.

    :param source: the report of the host that it leaves, None when there is none
    :param arrived: when it came to that host, in seconds since the epoch; 0 when it was started there
    :param now: seconds since the epoch
    :param migcheck: ``CONF.migcheck``
    :param needs: from :func:`needs`
    :param running: False when it is started anew on the target
    """
    known = running and source is not None and source.knows(arrived, now, migcheck)
    cpu = source.guest(instance_uuid) if known and source else None
    return Guest(cpu, needs, running)


class Memory:
    """What earlier requests have found: a host that is emptied sends one guest after another to the same hosts.

    Bounded, and it holds nothing that differs on every host: neither texts of findings nor times.
    """

    #: (guest, site of the source) for which verdicts are kept, the last used ones
    GUESTS = 32
    #: kinds of hosts, for each of them; more are forgotten and judged anew
    KINDS = 1024

    def __init__(self) -> None:
        self._of: collections.OrderedDict[Any, dict[str, Verdict]] = collections.OrderedDict()
        self._kinds: dict[str, published.Common] = {}
        self._lock = threading.Lock()

    def of(self, guest: Guest, source: Optional[Report]) -> dict[str, Verdict]:
        """The verdicts by kind of the target for this guest, to be read and added to."""
        key = guest, published.site(source) if source is not None else None
        with self._lock:
            verdicts = self._of.setdefault(key, {})
            self._of.move_to_end(key)
            while len(self._of) > self.GUESTS:
                self._of.popitem(last=False)
            if len(verdicts) >= self.KINDS:
                verdicts = self._of[key] = {}
        return verdicts

    def common(self, kind: str, text: str) -> published.Common:
        """What all hosts of a kind report alike.

        :param text: what one of them has published
        :raises nova_migcheck.published.Unreadable: see :func:`nova_migcheck.published.read_common`
        """
        found = self._kinds.get(kind)
        if found is None:
            found = published.read_common(text)
            with self._lock:
                if len(self._kinds) >= self.KINDS:
                    self._kinds.clear()
                self._kinds[kind] = found
        return found


class Judge:
    """Judges the hosts of one request. What is alike on many hosts is judged once."""

    def __init__(self, policies: Policies, guest: Guest, source: Optional[Report], now: float, memory: Optional[Memory] = None) -> None:
        self._policies, self._guest, self._source, self._now = policies, guest, source, now
        self._memory = memory or Memory()
        self._verdicts = self._memory.of(guest, source)
        # site of a target -> what it and the source's say together
        self._together: dict[str, list[Finding]] = {}
        # A version and a time of ten digits compare as text, and so does what begins with them.
        self._oldest, self._newest = (published.beginning(now + d) for d in (-policies.stale_after, policies.stale_after + 1))
        self._missing, self._stale = self._judge(None), self._judge(Report(int(now - policies.stale_after) - 1))
        # The frequency of a TSC differs on every host and stands apart from its CPU; few guests need it.
        self._each = guest.cpu is not None and guest.cpu.tsc_hz is not None

    def sift(self, hosts: Sequence[Any]) -> tuple[list[Any], dict[str, list[Any]]]:
        """(hosts that are accepted, check -> hosts whose first rejection is one of this check), by their ``stats``."""
        accepted: list[Any] = []
        rejected: collections.defaultdict[str, list[Any]] = collections.defaultdict(list)
        verdicts, oldest, newest = self._verdicts, self._oldest, self._newest
        main, kind, missing = published.MAIN, published.KIND, self._missing
        verdict: Optional[Verdict]
        for host in hosts:
            # All in this one function: a call for each host would cost as much as the rest.
            try:
                text = host.stats.get(main)
                if text is None:
                    verdict = missing
                elif oldest <= text < newest:
                    verdict = verdicts.get(text[kind])
                else:
                    verdict = None
            except (AttributeError, TypeError):  # no dictionary, or no text in it: this must not keep the others from being judged
                text, verdict = None, missing
            if verdict is None or self._each:
                verdict = self._look_at(text)
            if verdict.rejections:
                rejected[verdict.rejections[0].check].append(host)
            else:
                accepted.append(host)
        return accepted, rejected

    def __call__(self, stats: Any) -> Verdict:
        """The verdict, without the texts of the host's own findings: those are in :meth:`in_full`."""
        return self._look_at(_text(stats))

    def in_full(self, stats: Any) -> Verdict:
        """The verdict with the texts of this host's own findings, for people."""
        text = _text(stats)
        if text is None or self._each:
            return self._look_at(text)
        if not self._is_fresh(text):
            report = _read(text)
            return self._look_at(text) if report is None else self._judge(report)
        try:
            own = settle(concerning(self._guest, published.read_findings(text)), self._policies)
        except published.Unreadable:
            return self._missing
        alike = self._by_kind(text)
        return Verdict(own.rejections + tuple(f for f in alike.rejections if not published.is_bare(f)),
                       own.warnings + tuple(f for f in alike.warnings if not published.is_bare(f)))

    def _look_at(self, text: Optional[str]) -> Verdict:
        if text is None:
            return self._missing
        if not self._is_fresh(text):
            return self._stale if published.is_dated(text) else self._missing
        if self._each:
            return self._judge(_read(text))
        return self._by_kind(text)

    def _is_fresh(self, text: str) -> bool:
        return self._oldest <= text < self._newest

    def _by_kind(self, text: str) -> Verdict:
        kind = text[published.KIND]
        verdict = self._verdicts.get(kind)
        if verdict is None:
            try:
                report, site = self._memory.common(kind, text)
            except published.Unreadable as e:
                LOG.debug('A report cannot be read: %s', e)
                return self._missing
            together = self._together.get(site)
            if together is None and self._source is not None:
                together = self._together[site] = between(self._source, report)
            verdict = self._judge(dataclasses.replace(report, time=int(self._now)), together)
            if len(self._verdicts) < Memory.KINDS:
                self._verdicts[kind] = verdict
        return verdict

    def _judge(self, target: Optional[Report], together: Optional[list[Finding]] = None) -> Verdict:
        return judge(self._guest, self._source, target, self._now, self._policies, together=together)


def _text(stats: Any) -> Optional[str]:
    """What a host has published; None when that is no text."""
    text = stats.get(published.MAIN) if isinstance(stats, Mapping) else None
    return text if isinstance(text, str) else None


def _read(text: str) -> Optional[Report]:
    try:
        return published.read({published.MAIN: text})
    except published.Unreadable as e:
        LOG.debug('A report cannot be read: %s', e)
        return None
