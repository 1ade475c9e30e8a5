# SPDX-License-Identifier: Apache-2.0
"""The possible targets of one move, judged by what they have published. Used by the filter and by the command line alike."""

from __future__ import annotations

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


class Judge:
    """Judges the hosts of one request. What is alike on many hosts is judged once."""

    def __init__(self, policies: Policies, guest: Guest, source: Optional[Report], now: float) -> None:
        self._policies, self._guest, self._source, self._now = policies, guest, source, now
        self._verdicts: dict[Any, Verdict] = {}
        # A time of ten digits compares as text.
        self._oldest, self._newest = (f'{int(now + d):010d}' for d in (-policies.stale_after, policies.stale_after))
        # The frequency of a TSC differs on every host and stands apart from its CPU; few guests need it.
        self._each = guest.cpu is not None and guest.cpu.tsc_hz is not None

    def __call__(self, stats: Any) -> Verdict:
        """The verdict; its texts may be those of another host in the same state."""
        face = published.face(stats) if stats else None
        if face is None or self._each or not self._oldest <= face[0] <= self._newest:
            return self.in_full(stats)
        verdict = self._verdicts.get(face[1])
        if verdict is None:
            target = _read(stats)
            verdict = self._judge(target)
            if target is not None:
                # One that has the face of others and cannot be read says nothing about them.
                self._verdicts[face[1]] = verdict
        return verdict

    def in_full(self, stats: Any) -> Verdict:
        """With this host's own findings, not those of another one in the same state."""
        return self._judge(_read(stats))

    def _judge(self, target: Optional[Report]) -> Verdict:
        return judge(self._guest, self._source, target, self._now, self._policies)


def _read(stats: Any) -> Optional[Report]:
    try:
        return published.read(stats)
    except published.Unreadable as e:
        LOG.debug('A report cannot be read: %s', e)
        return None
