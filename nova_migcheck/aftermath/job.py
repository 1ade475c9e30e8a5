# SPDX-License-Identifier: Apache-2.0
"""libvirt's own statistics of a migration that is over (``virsh domjobinfo --completed``), as a value.

After a peer-to-peer migration the target's libvirtd holds them; the source has no such domain any more. They are read with
``VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED``, so that whoever asks after us still gets them. Nova itself never reads them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

# libvirt-domain.h: virDomainGetJobStatsFlags; numbers, since nova's test double of libvirt and old bindings lack the names.
STATS_COMPLETED, STATS_KEEP_COMPLETED = 1, 2
# virDomainJobType, virDomainJobOperation
_COMPLETED = 3
_MIGRATION_IN = 4

# Seconds by which libvirt's time may be longer than the time that we saw pass: it began before our first look at the counters.
_SLACK = 5.0


@dataclasses.dataclass(frozen=True)
class Job:
    """One completed incoming migration.

    :param seconds: from its begin on the source to its end
    :param downtime: milliseconds for which the guest ran on neither host; None when it is not known
    :param setup: milliseconds
    :param data: bytes that were sent, of memory and disks
    :param rate: bytes a second, as QEMU measured it over the transfer of the memory; 0 when unknown
    :param iterations: passes over the guest's memory
    :param pages: bytes sent as whole pages; what is left of ``data`` says that a page is zero, or is of disks
    :param zero_pages: bytes of memory that were zero
    :param post_copy: pages that the running guest had to wait for, after it was switched to post-copy
    :param throttle: per cent by which auto-converge slowed the guest
    :param clocks_differ: the times make no sense, as when the clocks of the two hosts differ: libvirt subtracts one from the other
    """

    seconds: float
    downtime: Optional[int] = None
    setup: int = 0
    data: int = 0
    rate: int = 0
    iterations: int = 0
    pages: int = 0
    zero_pages: int = 0
    post_copy: int = 0
    throttle: int = 0
    clocks_differ: bool = False


def read(stats: Mapping[str, Any], seen: Optional[float] = None) -> Optional[Job]:
    """What ``virDomain.jobStats`` gave, None when it tells of no completed incoming migration.

    :param seen: seconds that passed here between the preparation of the migration and its end, None when that was not seen
    """
    if stats.get('type') != _COMPLETED or stats.get('operation', _MIGRATION_IN) != _MIGRATION_IN or 'time_elapsed' not in stats:
        return None

    def number(name: str) -> int:
        value = stats.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
    elapsed = number('time_elapsed')
    downtime = number('downtime') if 'downtime' in stats else None
    absurd = (downtime or 0) > elapsed or (seen is not None and elapsed / 1000 > seen + _SLACK)
    return Job(
        elapsed / 1000 if not absurd else seen or 0.0, downtime if not absurd else None, number('setup_time'),
        number('data_processed') or number('memory_processed') + number('disk_processed'), number('memory_bps'),
        number('memory_iteration'), number('memory_normal_bytes'), number('memory_constant') * (number('memory_page_size') or 4096),
        number('memory_postcopy_requests'), number('auto_converge_throttle'), absurd)
