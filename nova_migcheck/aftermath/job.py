# SPDX-License-Identifier: Apache-2.0
"""Read libvirt's statistics of a completed migration (``virsh domjobinfo --completed``).

After a peer-to-peer migration the target's libvirtd holds them; the source has no such domain any
more. They are read with ``VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED``, so that others can read them, too.
Nova itself never reads them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

# virDomainGetJobStatsFlags of libvirt-domain.h. Nova's test double of libvirt and old bindings lack
# the names.
STATS_COMPLETED, STATS_KEEP_COMPLETED = 1, 2
# virDomainJobType, virDomainJobOperation
_COMPLETED = 3
_MIGRATION_IN = 4

# Tolerance in seconds: the migration begins before our first reading of the counters.
_SLACK = 5.0


@dataclasses.dataclass(frozen=True)
class Job:
    """Hold the statistics of one completed incoming migration.

    :param seconds: from its begin on the source to its end
    :param downtime: milliseconds for which the guest ran on neither host; None if unknown
    :param data: bytes sent, of memory and disks
    :param rate: bytes per second, as QEMU measured it during the memory transfer; 0 if unknown
    :param iterations: passes over the guest's memory
    :param pages: bytes sent as whole pages; the rest of ``data`` is zero page markers and disks
    :param zero_pages: bytes of memory that were zero
    :param post_copy: pages that the running guest had to wait for, after the switch to post-copy
    :param throttle: percentage by which auto-converge slowed the guest
    :param clocks_differ: whether the times are impossible. libvirt computes them from the clocks of
        both hosts, which may differ.
    """

    seconds: float
    downtime: Optional[int] = None
    data: int = 0
    rate: int = 0
    iterations: int = 0
    pages: int = 0
    zero_pages: int = 0
    post_copy: int = 0
    throttle: int = 0
    clocks_differ: bool = False


def read(stats: Mapping[str, Any], seen: Optional[float] = None) -> Optional[Job]:
    """Read the result of ``virDomain.jobStats``.

    Return None if it is not about a completed incoming migration.

    :param seen: seconds measured here from the preparation of the migration to its end; None if
        they were not measured
    """
    if (stats.get('type') != _COMPLETED or 'time_elapsed' not in stats
            or stats.get('operation', _MIGRATION_IN) != _MIGRATION_IN):
        return None

    def number(name: str) -> int:
        value = stats.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
    elapsed = number('time_elapsed')
    downtime = number('downtime') if 'downtime' in stats else None
    impossible = ((downtime or 0) > elapsed
                  or (seen is not None and elapsed / 1000 > seen + _SLACK))
    return Job(
        seconds=(seen or 0.0) if impossible else elapsed / 1000,
        downtime=None if impossible else downtime,
        data=(number('data_processed')
              or number('memory_processed') + number('disk_processed')),
        rate=number('memory_bps'),
        iterations=number('memory_iteration'),
        pages=number('memory_normal_bytes'),
        zero_pages=number('memory_constant') * (number('memory_page_size') or 4096),
        post_copy=number('memory_postcopy_requests'),
        throttle=number('auto_converge_throttle'),
        clocks_differ=impossible)
