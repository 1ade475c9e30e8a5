# SPDX-License-Identifier: Apache-2.0
"""Tell processes apart."""

from __future__ import annotations

from typing import Optional


def start_time(pid: int) -> Optional[str]:
    """Return when a process started, in the kernel's ticks, None when it is gone.

    With it, a process number is not mistaken for that of a later process.
    """
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rpartition(')')[2].split()[19]
    except (OSError, IndexError):
        return None
