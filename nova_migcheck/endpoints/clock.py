# SPDX-License-Identifier: Apache-2.0
"""This host's clock, by the time in answers that were wanted anyway, and by the kernel's own word."""

from __future__ import annotations

import ctypes
from typing import Iterable, Iterator, Mapping, Optional

from nova_migcheck.finding import Finding, Outcome

NAME = 'clock'

_REMEDY = 'let chronyd or ntpd synchronise this host (chronyc tracking, chronyc makestep)'

# linux/timex.h: STA_UNSYNC of status, TIME_ERROR as adjtimex()'s result.
_STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """``struct timex`` up to ``status``, and room for the rest (208 bytes on 64-bit Linux)."""

    _fields_ = [('modes', ctypes.c_uint), ('offset', ctypes.c_long), ('freq', ctypes.c_long),
                ('maxerror', ctypes.c_long), ('esterror', ctypes.c_long), ('status', ctypes.c_int),
                ('rest', ctypes.c_byte * 256)]


def kernel_synchronised() -> Optional[bool]:
    """Whether the kernel's clock is kept by somebody (chronyd, ntpd, systemd-timesyncd); None when it does not say."""
    try:
        timex = _Timex()
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        return None
    return None if result < 0 else not timex.status & _STA_UNSYNC


def median(values: Iterable[float]) -> float:
    """The middle one. The statistics module costs 20 ms of CPU to import, once a minute on each host."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def look(skews: Mapping[str, float], limit: float, synchronised: Optional[bool]) -> Iterator[Finding]:
    """What the servers' clocks say about ours.

    :param skews: server -> seconds that its clock is ahead of ours
    :param limit: seconds that are still fine
    :param synchronised: as :func:`kernel_synchronised` says

    It is this host's clock that is off when more than half of the servers say so, in one direction. One server alone
    may be wrong itself: then it takes the kernel's word too.
    """
    if skews:
        yield _by_servers(skews, limit, synchronised)
    if synchronised is False:
        yield Finding(NAME, Outcome.WARNING, 'kernel clock', 'the kernel says that nothing synchronises its clock',
                      'adjtimex(2)', _REMEDY)
    elif not skews:
        said = '; the kernel says that its clock is synchronised' if synchronised else ''
        yield Finding(NAME, Outcome.UNKNOWN if synchronised is None else Outcome.OK, 'clock',
                      'no server said its time' + said)


def _by_servers(skews: Mapping[str, float], limit: float, synchronised: Optional[bool]) -> Finding:
    middle = median(skews.values())
    ahead = {server: skew for server, skew in skews.items() if skew > limit}
    behind = {server: skew for server, skew in skews.items() if skew < -limit}
    off = max(ahead, behind, key=len)
    against = ', '.join(f'{server} {-skew:+.1f} s' for server, skew in list((off or skews).items())[:5])
    origin = 'Date of their answers'
    if not off:
        return Finding(NAME, Outcome.OK, 'clock', f'{-middle:+.1f} s against {len(skews)} servers', origin)
    which = 'behind' if middle > 0 else 'ahead'
    detail = f'this host is {abs(middle):.1f} s {which}, limit {limit:g} s; against {against}'
    if len(off) * 2 > len(skews) and (len(skews) > 1 or synchronised is False):
        return Finding(NAME, Outcome.FAILURE, 'clock', detail, origin, _REMEDY)
    if len(skews) == 1:
        return Finding(NAME, Outcome.WARNING, 'clock', f'{detail}; no other server says what time it is', origin,
                       _REMEDY)
    return Finding(NAME, Outcome.WARNING, 'clock',
                   f'{len(off)} of {len(skews)} servers disagree with this host: {against}, limit {limit:g} s', origin,
                   'synchronise those servers')
