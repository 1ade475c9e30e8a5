# SPDX-License-Identifier: Apache-2.0
"""Check this host's clock against the times in the services' answers, and against the kernel."""

from __future__ import annotations

import ctypes
from typing import Iterable, Iterator, Mapping, Optional

from nova_migcheck.finding import Finding, Outcome

NAME = 'clock'

_REMEDY = 'let chronyd or ntpd synchronise this host (chronyc tracking, chronyc makestep)'

# linux/timex.h: a flag of the status.
_STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """Declare ``struct timex`` up to ``status``, and space for the rest.

    The kernel's struct has 208 bytes on 64-bit Linux.
    """

    _fields_ = [('modes', ctypes.c_uint), ('offset', ctypes.c_long), ('freq', ctypes.c_long),
                ('maxerror', ctypes.c_long), ('esterror', ctypes.c_long), ('status', ctypes.c_int),
                ('rest', ctypes.c_byte * 256)]


def kernel_synchronised() -> Optional[bool]:
    """Return whether a service such as chronyd or ntpd synchronises the kernel's clock.

    Return None if the kernel does not report it.
    """
    try:
        timex = _Timex()
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        return None
    return None if result < 0 else not timex.status & _STA_UNSYNC


def median(values: Iterable[float]) -> float:
    """Return the median.

    Importing the statistics module would cost 20 ms of CPU, once a minute on each host.
    """
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def look(skews: Mapping[str, float], limit: float,
         synchronised: Optional[bool]) -> Iterator[Finding]:
    """Compare this host's clock with those of the servers.

    This host's clock is wrong if more than half of the servers disagree in the same direction.
    A single server may be wrong itself: then the kernel's clock must be unsynchronised, too.

    :param skews: server -> seconds by which its clock is ahead of this host's
    :param limit: in seconds
    :param synchronised: the result of :func:`kernel_synchronised`
    """
    if skews:
        yield _compare(skews, limit, synchronised)
    if synchronised is False:
        yield Finding(NAME, Outcome.WARNING, 'kernel clock',
                      'the kernel reports that its clock is not synchronised', 'adjtimex(2)',
                      _REMEDY, code='clock-unsynchronised')
    elif not skews:
        if synchronised is None:
            yield Finding(NAME, Outcome.UNKNOWN, 'clock', 'no server reported its time',
                          code='clock-no-server')
        else:
            yield Finding(NAME, Outcome.OK, 'clock', 'no server reported its time; the kernel '
                          'reports that its clock is synchronised')


def _compare(skews: Mapping[str, float], limit: float, synchronised: Optional[bool]) -> Finding:
    middle = median(skews.values())
    ahead = {server: skew for server, skew in skews.items() if skew > limit}
    behind = {server: skew for server, skew in skews.items() if skew < -limit}
    off = max(ahead, behind, key=len)
    against = ', '.join(f'{server} {-skew:+.1f} s'
                        for server, skew in list((off or skews).items())[:5])
    origin = 'Date of their answers'
    if not off:
        return Finding(NAME, Outcome.OK, 'clock',
                       f'{-middle:+.1f} s against {len(skews)} servers', origin)
    off_by = (f'this host is {middle:.1f} s behind' if middle > 0 else
              f'this host is {-middle:.1f} s ahead')
    detail = f'{off_by}, limit {limit:g} s; against {against}'
    if len(off) * 2 > len(skews) and (len(skews) > 1 or synchronised is False):
        return Finding(NAME, Outcome.FAILURE, 'clock', detail, origin, _REMEDY, code='clock-off')
    if len(skews) == 1:
        return Finding(NAME, Outcome.WARNING, 'clock',
                       f'{detail}; no other server reported its time', origin, _REMEDY,
                       code='clock-off')
    return Finding(NAME, Outcome.WARNING, 'clock',
                   f'{len(off)} of {len(skews)} servers disagree with this host: {against}, '
                   f'limit {limit:g} s', origin, 'synchronise those servers',
                   code='clock-servers-disagree')
