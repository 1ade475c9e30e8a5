# SPDX-License-Identifier: Apache-2.0
"""Find out whether full segments get through to a target, not only small ones.

A switch that drops large frames lets every small probe pass. A migration then hangs for ever, and
the guest is paused on both hosts. TCP tells by itself whether a full segment was acknowledged, and
a connection with a smaller segment size is the control. This needs no privilege and no ICMP.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
import time
from typing import Optional

from nova_migcheck.network import probe
from nova_migcheck.network.interfaces import IPAddress

# struct tcp_info of linux/tcp.h: tcpi_retransmits; tcpi_snd_mss, tcpi_unacked and tcpi_pmtu.
_INFO = struct.Struct('=2xB5x8xI4xI32xI')
# Seconds after which a full segment counts as lost: TCP has sent it again three times by then.
_STUCK = 1.5
_POLL = 0.02
# The MTUs of the controls.
_CONTROLS = (4470, 1500, 1400, 1280)
# Bytes of headers before a segment, with TCP's timestamps, and of TCP's options.
_HEADERS = {4: 52, 6: 72}
_OPTIONS = 12
# One call of libvirt's, and its answer: bytes.
_CALL, _REPLY = 28, 36


@dataclasses.dataclass(frozen=True)
class Hole:
    """Hold sizes of packets in bytes, headers included.

    :param lost: a packet that gets no acknowledgement
    :param passed: the largest that does
    :param mtu: of the path, as this host knows it
    """

    lost: int
    passed: int
    mtu: int


async def look(address: IPAddress, port: int, deadline: float) -> Optional[Hole]:
    """Send a full segment of calls to libvirt, and see whether it is acknowledged.

    :param deadline: as by ``time.monotonic()``
    :returns: None if it is, or if nothing can be said
    """
    async with _Connection(address, port, deadline) as full:
        if not await full.answers():
            return None
        await full.fill()
        if not await full.is_stuck(min(deadline, time.monotonic() + _STUCK)):
            return None
        headers = _HEADERS[address.version]
        sizes = [mtu - headers for mtu in _CONTROLS if mtu - headers < full.segment]
        passed = await asyncio.gather(*(_passes(address, port, size, deadline) for size in sizes))
        # By now it would have arrived if it had only been lost by chance.
        if not any(passed) or not full.unacknowledged:
            return None
        return Hole(full.segment + headers, max(passed) + headers, full.mtu)


async def _passes(address: IPAddress, port: int, size: int, deadline: float) -> int:
    """Return the bytes of a segment if one of about this size is acknowledged, else 0."""
    async with _Connection(address, port, deadline, size + _OPTIONS) as small:
        if not await small.answers():
            return 0
        await small.fill()
        stuck = await small.is_stuck(min(deadline, time.monotonic() + _STUCK))
        return 0 if stuck else small.segment


class _Connection:
    """A connection to libvirt's port. It logs in nowhere."""

    def __init__(self, address: IPAddress, port: int, deadline: float, most: int = 0) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if most:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, most)
        self._at = str(address), port
        self._deadline = deadline
        self._connected = False

    async def __aenter__(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_connect(self._sock, self._at), self._left())
            self._connected = True
        except (OSError, asyncio.TimeoutError):
            pass  # another probe says so
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._sock.close()

    def _left(self) -> float:
        return max(0.05, self._deadline - time.monotonic())

    def _info(self) -> tuple[int, int, int, int]:
        """Return retransmits, segment size, unacknowledged segments and MTU."""
        return _INFO.unpack(self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))

    @property
    def segment(self) -> int:
        """The bytes of a full segment."""
        return self._info()[1]

    @property
    def unacknowledged(self) -> int:
        """The number of segments on their way."""
        return self._info()[2]

    @property
    def mtu(self) -> int:
        """The MTU of the path, as this host knows it."""
        return self._info()[3]

    async def answers(self) -> bool:
        """Return whether libvirt answers a small call."""
        if not self._connected:
            return False
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_sendall(self._sock, probe.AUTH_LIST), self._left())
            return bool(await asyncio.wait_for(loop.sock_recv(self._sock, _REPLY), self._left()))
        except (OSError, asyncio.TimeoutError):
            return False

    async def fill(self) -> None:
        """Send one full segment of calls, and what is left of the last call in another."""
        calls = -(-self.segment // _CALL)
        await asyncio.get_running_loop().sock_sendall(self._sock, probe.AUTH_LIST * calls)

    async def is_stuck(self, until: float) -> bool:
        """Return whether segments are still unacknowledged then, and were sent again."""
        while self.unacknowledged and time.monotonic() < until:
            await asyncio.sleep(_POLL)
        again, _segment, unacknowledged, _mtu = self._info()
        return bool(unacknowledged and again)
