# SPDX-License-Identifier: Apache-2.0
"""The possible targets of one move, judged by what they have published. Used by the filter and by the command line alike."""

from __future__ import annotations

import collections
import dataclasses
import threading
from typing import Any, Optional

from oslo_log import log as logging

from nova_migcheck import published
from nova_migcheck.report import Report
from nova_migcheck.verdict import Guest, Policies, Verdict, judge

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
    """Verdicts of earlier requests: a host that is emptied sends one guest after another to the same hosts.

    Bounded, and it holds nothing that differs on every host: neither texts of findings nor times.
    """

    #: (guest, site of the source) for which verdicts are kept, the last used ones
    GUESTS = 32
    #: kinds of hosts for each of them; more are forgotten and judged anew
    KINDS = 1024

    def __init__(self) -> None:
        self._of: collections.OrderedDict[Any, dict[str, Verdict]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def of(self, guest: Guest, source: Optional[Report]) -> dict[str, Verdict]:
        """The verdicts by word of the target for this guest, to be read and added to."""
        key = guest, published.site(source) if source is not None else None
        with self._lock:
            verdicts = self._of.setdefault(key, {})
            self._of.move_to_end(key)
            while len(self._of) > self.GUESTS:
                self._of.popitem(last=False)
            if len(verdicts) >= self.KINDS:
                verdicts = self._of[key] = {}
        return verdicts


class Judge:
    """Judges the hosts of one request. What is alike on many hosts is judged once."""

    def __init__(self, policies: Policies, guest: Guest, source: Optional[Report], now: float, memory: Optional[Memory] = None) -> None:
        self._policies, self._guest, self._source, self._now = policies, guest, source, now
        self._verdicts = (memory or Memory()).of(guest, source)
        # A version and a time of ten digits compare as text, and so does what begins with them.
        self._oldest, self._newest = (published.beginning(now + d) for d in (-policies.stale_after, policies.stale_after + 1))
        self._missing, self._stale = self._judge(None), self._judge(Report(int(now - policies.stale_after) - 1))
        # The frequency of a TSC differs on every host and stands apart from its CPU; few guests need it.
        self._each = guest.cpu is not None and guest.cpu.tsc_hz is not None

    def __call__(self, stats: Any) -> Verdict:
        """The verdict, without the texts of the host's own findings: those are in :meth:`in_full`."""
        try:
            text = stats.get(published.MAIN) if stats else None
        except AttributeError:  # a host without a dictionary there must not keep the others from being judged
            text = None
        if text.__class__ is not str or not self._oldest <= text < self._newest or self._each:
            return self._other(stats)
        word = text[published.REST:text.find(' ', published.REST)]
        return self._verdicts.get(word) or self._by_word(word, stats)

    def _other(self, stats: Any) -> Verdict:
        """Of a host whose report is missing or not believed, or that has to be looked at by itself."""
        face = published.face(stats) if stats else None
        if face is None:
            return self._missing
        return self._judge(_read(stats)) if self._is_fresh(face) else self._stale

    def in_full(self, stats: Any) -> Verdict:
        """The verdict with the texts of this host's own findings, for people."""
        face = published.face(stats) if stats else None
        if face is None or self._each or not self._is_fresh(face):
            return self._judge(_read(stats))
        try:
            own = Report(int(self._now), published.read_findings(stats))
        except published.Unreadable:
            return self._missing
        without_cpu = Guest(None, self._guest.needs, self._guest.running)
        return judge(without_cpu, None, own, self._now, self._policies) + self._by_word(published.without_findings(face[1]), stats)

    def _is_fresh(self, face: tuple[str, str]) -> bool:
        return self._oldest <= f'{published.VERSION} {face[0]}' < self._newest

    def _by_word(self, word: str, stats: Any) -> Verdict:
        verdict = self._verdicts.get(word)
        if verdict is None:
            try:
                verdict = self._judge(dataclasses.replace(published.read_common(word, stats), time=int(self._now)))
            except published.Unreadable as e:
                LOG.debug('A report cannot be read: %s', e)
                return self._missing
            if len(self._verdicts) < Memory.KINDS:
                self._verdicts[word] = verdict
        return verdict

    def _judge(self, target: Optional[Report]) -> Verdict:
        return judge(self._guest, self._source, target, self._now, self._policies)


def _read(stats: Any) -> Optional[Report]:
    try:
        return published.read(stats)
    except published.Unreadable as e:
        LOG.debug('A report cannot be read: %s', e)
        return None
