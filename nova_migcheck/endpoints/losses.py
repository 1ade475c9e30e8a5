# SPDX-License-Identifier: Apache-2.0
"""Count the segments of a connection that had to be sent again, from Linux's TCP_INFO."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Optional

# struct tcp_info of linux/tcp.h: tcpi_total_retrans, and after four counters of 64 bits
# tcpi_segs_out and tcpi_segs_in (since Linux 4.2).
_INFO = struct.Struct('=100xI32xII')


class Losses(NamedTuple):
    """Hold how many segments were sent, and how many of them again.

    A connection that was never answered counts for nothing: that is another fault.
    """

    again: int = 0
    sent: int = 0

    def __bool__(self) -> bool:
        return self.again > 0


class Watched:
    """Keep a socket that its owner may close, for as long as it is to be asked."""

    def __init__(self) -> None:
        self._sock: Optional[socket.socket] = None

    def watch(self, sock: socket.socket) -> None:
        """Begin with a connected socket."""
        self._sock = sock.dup()

    def end(self) -> Losses:
        """Return what was lost, and let the socket go."""
        sock, self._sock = self._sock, None
        if sock is None:
            return Losses()
        with sock:
            try:
                again, sent, received = _INFO.unpack(
                    sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
            except (OSError, struct.error):  # an older kernel, or no TCP
                return Losses()
        return Losses(again, sent) if received else Losses()
