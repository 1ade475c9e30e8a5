# SPDX-License-Identifier: Apache-2.0
"""Describe the result of one live migration: its log line, and what deserves a warning."""

from __future__ import annotations

import dataclasses
from typing import Optional

from nova_migcheck import wording
from nova_migcheck.aftermath import traffic
from nova_migcheck.aftermath.job import Job
from nova_migcheck.aftermath.traffic import Carried
from nova_migcheck.checks.needs import shorten
from nova_migcheck.report import past
from nova_migcheck.report.past import Past

# Multiple of live_migration_downtime, which QEMU aims at and often exceeds by some.
_DOWNTIME = 2
# A migration is slow below this share of the link. Above 10 Gbit/s, the CPU limits a single stream
# of QEMU. With less than 1 GiB of whole pages, or mostly zero pages, the search for them does.
_SLOW, _FAST_ENOUGH = 0.1, 1_250_000_000
_SLOW_BYTES = 1 << 30

# The line for the log: direction, end, and whether the duration is known -> template.
_LINES = {
    (past.IN, past.COMPLETED, True): 'live migration of {uuid} from {peer}: {parts}',
    (past.OUT, past.COMPLETED, True): 'live migration of {uuid} to {peer}: {parts}',
    (past.IN, past.FAILED, True):
        'live migration of {uuid} from {peer} failed after {seconds:.1f} s: {parts}',
    (past.OUT, past.FAILED, True):
        'live migration of {uuid} to {peer} failed after {seconds:.1f} s: {parts}',
    (past.IN, past.FAILED, False): 'live migration of {uuid} from {peer} failed: {parts}',
    (past.OUT, past.FAILED, False): 'live migration of {uuid} to {peer} failed: {parts}',
    (past.IN, past.CANCELLED, True):
        'live migration of {uuid} from {peer} cancelled after {seconds:.1f} s: {parts}',
    (past.OUT, past.CANCELLED, True):
        'live migration of {uuid} to {peer} cancelled after {seconds:.1f} s: {parts}',
    (past.IN, past.CANCELLED, False): 'live migration of {uuid} from {peer} cancelled: {parts}',
    (past.OUT, past.CANCELLED, False): 'live migration of {uuid} to {peer} cancelled: {parts}',
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Hold what a migration is measured against.

    :param downtime: milliseconds, ``[libvirt] live_migration_downtime``
    :param speed: bytes per second of the receiving link, None if unknown
    :param bandwidth: MiB per second, ``[libvirt] live_migration_bandwidth``; 0 for no limit
    """

    downtime: int = 500
    speed: Optional[int] = None
    bandwidth: int = 0


@dataclasses.dataclass(frozen=True)
class Result:
    """Hold how a live migration ended.

    :param instance: UUID
    :param direction: ``in`` or ``out``, seen from this host
    :param peer: the other host
    :param time: of its end, in seconds since the epoch
    :param ended: ``completed``, ``failed`` or ``cancelled``
    :param seconds: its duration as measured here, None if its begin was not noticed
    :param job: libvirt's statistics, None if there are none
    :param carried: the interfaces that received it, None if the counters were not read
    :param error: why it failed
    :param reported: what the checks had reported about the target, None if they had not run
    """

    instance: str
    direction: str
    peer: str
    time: float
    ended: str = past.COMPLETED
    seconds: Optional[float] = None
    job: Optional[Job] = None
    carried: Optional[Carried] = None
    error: str = ''
    reported: Optional[tuple[str, ...]] = None
    limits: Limits = Limits()

    @property
    def strayed(self) -> bool:
        """Return whether a large part of it arrived on an interface that was not intended."""
        return self.carried is not None and self.carried.astray

    @property
    def line(self) -> str:
        """Return the line for the log."""
        known = self.ended == past.COMPLETED or self.seconds is not None
        parts = ([*self._job(), *self._carried()] if self.ended == past.COMPLETED else
                 ['; '.join(filter(None, (self.error, self._checks())))])
        return _LINES[self.direction, self.ended, known].format(
            uuid=self.instance, peer=self.peer, seconds=self.seconds, parts=', '.join(parts))

    @property
    def warnings(self) -> list[str]:
        """Return what an operator should look at, one sentence each."""
        texts = []
        job, carried, limits = self.job, self.carried, self.limits
        if carried is not None and self.strayed:
            texts.append(
                f'at least {_size(carried.strayed)} of {_size(carried.total)} did not arrive on '
                f'{wording.either(carried.intended)}, which is intended: {carried.other} received '
                f'{_size(carried.by_other)} meanwhile; check to which address the name of this '
                f'host resolves on {self.peer}')
        if (job is not None and job.downtime is not None
                and job.downtime > _DOWNTIME * limits.downtime):
            texts.append(f'the guest was stopped for {job.downtime} ms; '
                         f'[libvirt] live_migration_downtime is {limits.downtime} ms')
        if job is not None and limits.speed is not None and self._slow(job, limits.speed):
            texts.append(f'{_size(job.data)} arrived at {_size(job.rate)}/s over a link of '
                         f'{_size(limits.speed)}/s')
        return texts

    def to_past(self) -> Past:
        """Return the part that is kept and published."""
        job = self.job
        seconds = job.seconds if job else self.seconds
        strayed = self.ended == past.COMPLETED and self.strayed
        return Past(
            int(self.time), self.direction, shorten(self.instance), self.peer,
            past.STRAYED if strayed else self.ended,
            round(seconds * 1000) if seconds is not None else None,
            job.downtime if job else None, job.data if job else None,
            self._interface(strayed), self.error)

    def _interface(self, strayed: bool) -> str:
        if self.carried is None or self.carried.unknown:
            return ''
        return self.carried.other if strayed else next(iter(self.carried.intended), '')

    def _slow(self, job: Job, speed: int) -> bool:
        if (not job.rate or job.post_copy or job.pages < _SLOW_BYTES
                or job.zero_pages > 4 * job.pages):
            return False
        return job.rate < _SLOW * min(speed, _FAST_ENOUGH, self.limits.bandwidth << 20 or speed)

    def _checks(self) -> str:
        if self.reported is None or self.ended == past.CANCELLED:
            return ''
        if not self.reported:
            return ('the checks had found nothing wrong: if the host was at fault, the checks do '
                    'not cover that fault')
        return f'the checks had reported: {" | ".join(self.reported)}'

    def _job(self) -> list[str]:
        job = self.job
        if job is None:
            measured = [f'{self.seconds:.1f} s'] if self.seconds is not None else []
            return [*measured, 'libvirt has no statistics for it']
        downtime = f'{job.downtime} ms' if job.downtime is not None else 'unknown'
        parts = [
            f'{job.seconds:.1f} s',
            f"downtime {downtime} (the two hosts' clocks differ)" if job.clocks_differ else
            f'downtime {downtime}',
            f'{_size(job.data)} at {_size(job.rate)}/s' if job.rate else _size(job.data)]
        if job.iterations > 1:
            parts.append(f'{job.iterations} iterations')
        if job.post_copy:
            parts.append(f'post-copy ({job.post_copy} requests)')
        if job.throttle:
            parts.append(f'auto-converge at {job.throttle} %')
        return parts

    def _carried(self) -> list[str]:
        carried = self.carried
        if carried is None:
            return []
        if carried.unknown:
            return [f'receiving interface unknown ({carried.unknown})']
        total, other, by_other = carried.total, carried.other, carried.by_other
        if not carried.intended:
            return ([f'most arrived on {other} (no intended interface is configured)'] if other
                    else [])
        intended = wording.either(carried.intended)
        parts = [f'{_share(carried.by_intended, total)} on {intended} (intended)']
        if self.strayed:
            parts.append(f'{_share(carried.strayed, total)} on {other} (not intended)')
        elif by_other > max(traffic.OTHER, total * traffic.SHARE):
            parts.append(f'{_size(by_other)} on {other} meanwhile, of this or other traffic')
        return parts


def _size(count: float) -> str:
    mebibytes = count / (1 << 20)
    if mebibytes < 0.1:
        return f'{count / 1024:.0f} KiB'
    return f'{mebibytes:.0f} MiB' if mebibytes >= 10 else f'{mebibytes:.1f} MiB'


def _share(part: int, total: int) -> str:
    return f'{100 * part / total:.1f} %' if 0 < part < total else f'{100 * part // total} %'
