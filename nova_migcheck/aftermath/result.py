# SPDX-License-Identifier: Apache-2.0
"""What one live migration came to: its line for the log, and what in it is worth a warning. Pure."""

from __future__ import annotations

import dataclasses
from typing import Optional

from nova_migcheck.aftermath.job import Job
from nova_migcheck.aftermath.traffic import Carried
from nova_migcheck.checks.needs import shorten
from nova_migcheck.report import past
from nova_migcheck.report.past import Past

# A large part: this share of the bytes, and more than libvirtd and the kernel say besides.
_STRAY_SHARE, _STRAY_BYTES = 0.1, 128 * 1024
# Times Nova's live_migration_downtime, which QEMU aims at and often misses by some.
_DOWNTIME = 2
# Far under the link: this share of it. Above 10 Gbit/s one stream of QEMU is limited by the processor, not by the link; and with less
# than a gigabyte of whole pages, or a guest that is mostly zeros, by looking for them.
_SLOW, _FAST_ENOUGH = 0.1, 1_250_000_000
_SLOW_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a migration is measured by.

    :param downtime: milliseconds, ``[libvirt] live_migration_downtime``
    :param speed: bytes a second of the link by which it came, None when unknown
    :param bandwidth: MiB a second, ``[libvirt] live_migration_bandwidth``; 0 for no limit
    """

    downtime: int = 500
    speed: Optional[int] = None
    bandwidth: int = 0


@dataclasses.dataclass(frozen=True)
class Result:
    """How a live migration ended.

    :param instance: UUID
    :param direction: ``in`` or ``out``, seen from this host
    :param peer: the other host
    :param time: of its end, in seconds since the epoch
    :param ended: ``completed``, ``failed`` or ``cancelled``
    :param seconds: how long it took as seen here, None when its begin was not seen
    :param job: libvirt's statistics; None when it gave none
    :param carried: over which interfaces it came; None when that was not looked at
    :param error: why it failed
    :param said: what the checks had said about the target; None when they were not asked
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
    said: Optional[tuple[str, ...]] = None
    limits: Limits = Limits()

    @property
    def strayed(self) -> bool:
        """Whether a large part of it came by an interface that was not intended."""
        by = self.carried
        return by is not None and by.strayed > max(_STRAY_BYTES, by.total * _STRAY_SHARE)

    @property
    def line(self) -> str:
        """For the log, in one line."""
        way = f'{"from" if self.direction == past.IN else "to"} {self.peer}'
        if self.ended != past.COMPLETED:
            after = f' after {self.seconds:.1f} s' if self.seconds is not None else ''
            text = f'live migration of {self.instance} {way} {self.ended}{after}'
            return f'{text}: {"; ".join(part for part in (self.error, self._said()) if part)}'
        parts = [*self._job(), *self._carried()]
        return f'live migration of {self.instance} {way}: {", ".join(parts)}'

    @property
    def warnings(self) -> list[str]:
        """What an operator should look at, a sentence each."""
        found = []
        job, by = self.job, self.carried
        if by is not None and self.strayed:
            found.append(f'{_size(by.strayed)} or more of {_size(by.total)} did not come in by {_names(by.intended)}, which was intended: '
                         f'{by.other} took in {_size(by.by_other)} meanwhile; see to which address the name of this host leads on '
                         f'{self.peer}')
        if job is not None and job.downtime is not None and job.downtime > _DOWNTIME * self.limits.downtime:
            found.append(f'the guest did not run for {job.downtime} ms; [libvirt] live_migration_downtime is {self.limits.downtime} ms')
        if job is not None and self._slow(job):
            assert self.limits.speed is not None
            found.append(f'{_size(job.data)} came at {_size(job.rate)}/s over a link of {_size(self.limits.speed)}/s')
        return found

    def to_past(self) -> Past:
        """What of it is kept and published."""
        by, job = self.carried, self.job
        seconds = job.seconds if job else self.seconds
        ended = past.STRAYED if self.ended == past.COMPLETED and self.strayed else self.ended
        interface = '' if by is None or by.unknown else by.other if ended == past.STRAYED else by.intended[0] if by.intended else ''
        return Past(int(self.time), self.direction, shorten(self.instance), self.peer, ended,
                    round(seconds * 1000) if seconds is not None else None, job.downtime if job else None, job.data if job else None,
                    interface, self.error)

    def _slow(self, job: Job) -> bool:
        speed = self.limits.speed
        if speed is None or not job.rate or job.post_copy or job.pages < _SLOW_BYTES or job.zero_pages > 4 * job.pages:
            return False
        possible = min(speed, _FAST_ENOUGH, self.limits.bandwidth << 20 if self.limits.bandwidth else speed)
        return job.rate < _SLOW * possible

    def _said(self) -> str:
        if self.said is None or self.ended == past.CANCELLED:
            return ''
        if not self.said:
            return 'the checks had found nothing wrong: if the host was at fault, they miss that fault'
        return 'the checks had said: ' + ' | '.join(self.said)

    def _job(self) -> list[str]:
        job = self.job
        if job is None:
            return ([f'{self.seconds:.1f} s'] if self.seconds is not None else []) + ['libvirt has no statistics of it']
        parts = [f'{job.seconds:.1f} s', f'downtime {job.downtime} ms' if job.downtime is not None else
                 "downtime unknown (the two hosts' clocks differ)" if job.clocks_differ else 'downtime unknown']
        parts.append(_size(job.data) + (f' at {_size(job.rate)}/s' if job.rate else ''))
        if job.iterations > 1:
            parts.append(f'{job.iterations} iterations')
        if job.post_copy:
            parts.append(f'post-copy ({job.post_copy} requests)')
        if job.throttle:
            parts.append(f'auto-converge at {job.throttle} %')
        return parts

    def _carried(self) -> list[str]:
        by = self.carried
        if by is None:
            return []
        if by.unknown:
            return [f'by which interface cannot be told ({by.unknown})']
        if not by.intended:
            return [f'most came in by {by.other} (none is stated to be intended)'] if by.other else []
        parts = [f'{_share(by.by_intended, by.total)} in by {_names(by.intended)} (intended)']
        if self.strayed:
            parts.append(f'{_share(by.strayed, by.total)} by {by.other} (not intended)')
        elif by.by_other > by.total * _STRAY_SHARE and by.by_other > _STRAY_BYTES:
            parts.append(f'{_size(by.by_other)} by {by.other} meanwhile, of this or of anything else')
        return parts


def _size(count: float) -> str:
    mebibytes = count / (1 << 20)
    return f'{mebibytes:.0f} MiB' if mebibytes >= 10 else f'{mebibytes:.1f} MiB' if mebibytes >= 0.1 else f'{count / 1024:.0f} KiB'


def _share(part: int, total: int) -> str:
    return f'{100 * part / total:.1f} %' if 0 < part < total else f'{100 * part // total} %'


def _names(names: tuple[str, ...]) -> str:
    return ' or '.join(names)
