# SPDX-License-Identifier: Apache-2.0
"""The possible targets of one move, judged by what they have published. Used by the filter and by the command line alike."""

from __future__ import annotations

import collections
import dataclasses
import functools
import operator
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Sequence

from oslo_log import log as logging

from nova_migcheck import cpu as cpus
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu.bits import Interner, Masked
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

_KIND_OF = operator.itemgetter(published.KIND)


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
    :param migcheck: ``CONF.migcheck``, or what ``conf.register`` has read of it
    :param needs: from :func:`needs`
    :param running: False when it is started anew on the target
    """
    known = running and source is not None and source.knows(arrived, now, migcheck)
    if not known or source is None:
        return Guest(None, needs, running)
    return Guest(source.guest(instance_uuid), needs, running, source.needs.of(instance_uuid))


class Kind(NamedTuple):
    """What all hosts of a kind report alike.

    :ivar report: without texts, at no time
    :ivar site: what of the networks and the storage takes part in a comparison with another host, as text
    :ivar masked: the CPU in brief, None when it cannot be told so
    :ivar scales: whether its hosts give a guest whatever TSC frequency it needs, as far as is known
    """

    report: Report
    site: str
    masked: Optional[Masked]
    scales: bool


class Known(NamedTuple):
    """What is known of one guest, or of those that are alike to a target.

    :ivar guest: what the verdicts are about: a guest that needs no TSC frequency
    :ivar masked: its CPU in brief, None when it cannot be told so
    :ivar of_any: what is known of those whose CPU plays no part, None when this one's does not
    :ivar verdicts: kind of the target -> verdict
    :ivar checks: kind -> check of the verdict's first rejection, '' when it accepts; only where that holds for each host of the kind
    """

    guest: Guest
    masked: Optional[Masked]
    of_any: Optional[Known]
    verdicts: dict[str, Verdict]
    checks: dict[str, str]

    def add(self, kind: str, verdict: Verdict) -> Verdict:
        """Remember a verdict, as long as there is room."""
        if len(self.verdicts) < Memory.KINDS:
            self.verdicts[kind] = verdict
        return verdict


class Memory:
    """What earlier requests have found: a host that is emptied sends one guest after another to the same hosts.

    Bounded, and it holds nothing that differs on every host: neither texts of findings nor times.
    """

    #: (guest, site of the source) for which verdicts are kept, the last used ones
    GUESTS = 32
    #: kinds of hosts, for each of them; more are forgotten and judged anew
    KINDS = 1024

    def __init__(self) -> None:
        self._of: collections.OrderedDict[Any, Known] = collections.OrderedDict()
        self._kinds: dict[str, Kind] = {}
        self._lock = threading.Lock()
        self._masked = Interner()

    def of(self, guest: Guest, site: Optional[str]) -> Known:
        """What is known of such guests.

        :param site: of the source's report, None when it has none
        """
        key = guest, site
        with self._lock:
            known = self._of.get(key)
            if known is not None and len(known.verdicts) < self.KINDS:
                self._of.move_to_end(key)
                return known
        of_any = self.of(dataclasses.replace(guest, cpu=None), site) if guest.cpu else None
        # The frequency of a TSC differs on every host and stands apart from its CPU; few guests need it.
        no_hz = dataclasses.replace(guest, cpu=dataclasses.replace(guest.cpu, tsc_hz=None)) if guest.cpu and guest.cpu.tsc_hz else guest
        known = Known(no_hz, self._masked(guest.cpu), of_any, {}, {})
        with self._lock:
            self._of[key] = known
            while len(self._of) > self.GUESTS:
                self._of.popitem(last=False)
        return known

    def kind(self, name: str, text: str) -> Kind:
        """What is known of a kind.

        :param name: the kind, as it stands in ``text``
        :param text: what a host of it has published
        :raises nova_migcheck.report.published.Unreadable: see :func:`nova_migcheck.report.published.read_common`
        """
        found = self._kinds.get(name)
        if found is None:
            report, site = published.read_common(text)
            cpu = report.cpu
            knows = cpunames.known_by(cpu.libvirt, cpu.cpu_map) if cpu else frozenset[str]()
            found = Kind(report, site, self._masked(cpu, knows), cpu is None or bool(cpu.tsc_scaling))
            with self._lock:
                if len(self._kinds) >= self.KINDS:
                    self._kinds.clear()
                self._kinds[name] = found
        return found


class Judge:
    """Judges the hosts of one request. What is alike on many hosts is judged once."""

    def __init__(self, policies: Policies, guest: Guest, source: Optional[Report], now: float, memory: Optional[Memory] = None) -> None:
        self._policies, self._guest, self._source, self._now = policies, guest, source, now
        self._memory = memory or Memory()
        self._known = self._memory.of(guest, published.site(source) if source is not None else None)
        self._hz = guest.cpu.tsc_hz if guest.cpu else None
        # site of a target -> what it and the source's say together
        self._together: dict[str, list[Finding]] = {}
        # A version and a time of ten digits compare as text, and so does what begins with them.
        self._oldest, self._newest = (published.beginning(now + d) for d in (-policies.stale_after, policies.stale_after + 1))

    @functools.cached_property
    def _missing(self) -> Verdict:
        return self._judge(None)

    @functools.cached_property
    def _stale(self) -> Verdict:
        return self._judge(Report(int(self._now - self._policies.stale_after) - 1))

    def sift(self, hosts: Sequence[Any]) -> tuple[list[Any], dict[str, list[Any]]]:
        """(hosts that are accepted, check -> hosts whose first rejection is one of this check), by their ``stats``."""
        if not hosts:
            return [], {}
        kind, oldest, newest, known = published.KIND, self._oldest, self._newest, self._known.checks.get
        # Step by step for all hosts, and the first and the last text stand for all between them: statements for each host cost most.
        try:
            texts = _texts(hosts)
            first, last = min(texts), max(texts)
            all_fresh = oldest <= first and last < newest
        except (AttributeError, TypeError):  # no dictionary, or no text in it: this must not keep the others from being judged
            texts = [_text(getattr(host, 'stats', None)) or '' for host in hosts]
            first, last = min(texts), max(texts)
            all_fresh = False
        if all_fresh:
            found = list(map(known, map(_KIND_OF, texts)))
        elif f'{published.VERSION} ' <= first and last < oldest and {text[published.SPACE] for text in texts} == {' '}:
            # Between two texts that begin with the version are only such as do: all have a time (published.is_dated).
            found = [_first(self._stale)] * len(texts)
        else:
            stale, missing, is_dated = _first(self._stale), _first(self._missing), published.is_dated
            found = [missing if not text else known(text[kind]) if oldest <= text < newest else stale if is_dated(text) else missing
                     for text in texts]
        alike = found[0]
        if alike is not None and found.count(alike) == len(found):
            return (list(hosts), {}) if not alike else ([], {alike: list(hosts)})
        found = [self._find_out(text) if check is None else check for text, check in zip(texts, found)]
        return ([host for host, check in zip(hosts, found) if not check],
                {each: [host for host, check in zip(hosts, found) if check == each] for each in dict.fromkeys(found) if each})

    def _find_out(self, text: str) -> str:
        """The check of the first rejection of a fresh host, '' when there is none."""
        name, checks = text[published.KIND], self._known.checks
        check = checks.get(name)
        if check is None:
            # One object for each name: that two are the same one is seen without reading them.
            check = sys.intern(_first(self._look_at(text)))
            if self._holds_for_its_kind(text):
                checks[name] = check
        return check

    def __call__(self, stats: Any) -> Verdict:
        """The verdict, without the texts of the host's own findings: those are in :meth:`in_full`."""
        return self._look_at(_text(stats))

    def in_full(self, stats: Any) -> Verdict:
        """The verdict with the texts of this host's own findings, for people."""
        text = _text(stats)
        if text is None:
            return self._missing
        if self._hz or not self._is_fresh(text):
            report = _read(text)
            return self._look_at(text) if report is None else self._judge(report)
        try:
            own = settle(concerning(self._guest, published.read_findings(text)), self._policies)
        except published.Unreadable:
            return self._missing
        alike = self._by_kind(text)
        return Verdict((*own.rejections, *[f for f in alike.rejections if not published.is_bare(f)]),
                       (*own.warnings, *[f for f in alike.warnings if not published.is_bare(f)]))

    def _look_at(self, text: Optional[str]) -> Verdict:
        if text is None:
            return self._missing
        if not self._is_fresh(text):
            return self._stale if published.is_dated(text) else self._missing
        verdict = self._by_kind(text)
        return self._with_frequency(self._hz, text, verdict) if self._hz else verdict

    def _is_fresh(self, text: str) -> bool:
        return self._oldest <= text < self._newest

    def _holds_for_its_kind(self, text: str) -> bool:
        """Whether what was decided about this fresh host is decided about all of its kind."""
        # What is not of the kind that it names has left no verdict: that is its own.
        if text[published.KIND] not in self._known.verdicts:
            return False
        return not self._hz or self._memory.kind(text[published.KIND], text).scales

    def _by_kind(self, text: str) -> Verdict:
        name, known = text[published.KIND], self._known
        verdict = known.verdicts.get(name)
        if verdict is None:
            try:
                kind = self._memory.kind(name, text)
            except published.Unreadable as e:
                LOG.debug('A report cannot be read: %s', e)
                return self._missing
            if known.of_any and known.masked and kind.masked and known.masked.runs_on(kind.masked):
                # Then it is judged as one whose CPU plays no part, and others of which that is true have asked before.
                verdict = known.add(name, known.of_any.verdicts.get(name) or self._judge_kind(known.of_any, name, kind))
            else:
                verdict = self._judge_kind(known, name, kind)
        return verdict

    def _judge_kind(self, known: Known, name: str, kind: Kind) -> Verdict:
        together = self._together.get(kind.site)
        if together is None and self._source is not None:
            together = self._together[kind.site] = between(self._source, kind.report, self._policies)
        return known.add(name, judge_fresh(known.guest, self._source, kind.report, self._policies, together=together))

    def _with_frequency(self, hz: int, text: str, verdict: Verdict) -> Verdict:
        """The verdict on one host for a guest that needs a TSC frequency.

        :param verdict: on its kind, for a guest that needs none
        """
        try:
            if (self._memory.kind(text[published.KIND], text).scales
                    or cpus.compare_tsc(hz, published.tsc_hz(text), scaling=False).compatible):
                return verdict
            report = published.read({published.MAIN: text})
        except published.Unreadable as e:
            LOG.debug('A report cannot be read: %s', e)
            return self._missing
        return self._judge(report)

    def _judge(self, target: Optional[Report]) -> Verdict:
        return judge(self._guest, self._source, target, self._now, self._policies)


def _first(verdict: Verdict) -> str:
    """The check of its first rejection, '' when it accepts."""
    return verdict.rejections[0].check if verdict.rejections else ''


def _texts(hosts: Sequence[Any]) -> list[str]:
    """What each host has published, '' for nothing.

    :raises AttributeError, TypeError: when the ``stats`` of one are no dictionary
    """
    main = published.MAIN
    try:
        return [host.stats[main] for host in hosts]
    except KeyError:  # which costs more where some have published and others have not
        return [host.stats.get(main, '') for host in hosts]


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
