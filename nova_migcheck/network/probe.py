# SPDX-License-Identifier: Apache-2.0
"""TCP to the ports that a migration will use, all at once, under one deadline.

A closed port answers "refused" at once and a filtered one not at all: both tell something, the second one after the deadline
instead of after the 135 s that stock Nova hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import socket
import struct
import time
from typing import AsyncIterator, Optional, Sequence

from nova_migcheck.network.interfaces import IPAddress

# linux/in.h, linux/in6.h, linux/errqueue.h: without RECVERR a firewall's ICMP looks just like a closed port
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_ORIGIN_ICMP = (2, 3)

# A call of AUTH_LIST, the first thing that any libvirt client says, before it logs in (src/remote/remote_protocol.x,
# src/rpc/virnetprotocol.x): length, program, version, procedure 66, call, serial, ok.
_REMOTE_PROGRAM = 0x20008086
_AUTH_LIST = struct.pack('!IIIiiIi', 28, _REMOTE_PROGRAM, 1, 66, 0, 1, 0)


class Reach(enum.Enum):
    """What became of one attempt to connect."""

    OPEN = 'open'
    REFUSED = 'refused'
    SILENT = 'silent'
    REJECTED = 'rejected by a firewall'
    UNREACHABLE = 'unreachable'


@dataclasses.dataclass(frozen=True)
class Probe:
    """One attempt. ``detail`` is in words, for a finding."""

    address: IPAddress
    port: int
    reach: Reach
    detail: str

    @property
    def path_open(self) -> bool:
        """Whether packets get through: something accepted, or the host itself said that nothing listens."""
        return self.reach in (Reach.OPEN, Reach.REFUSED)


@dataclasses.dataclass(frozen=True)
class Service:
    """One attempt to talk to the service behind a port.

    :param problem: empty when it answered as it should
    :param unsure: whether libvirt itself may see it otherwise
    """

    probe: Probe
    problem: str = ''
    unsure: bool = False


@contextlib.asynccontextmanager
async def connected(address: IPAddress, port: int, deadline: float) -> AsyncIterator[tuple[Probe, socket.socket]]:
    """Connect until ``deadline`` (of ``time.monotonic``); the socket is of use only when the probe is ``OPEN``."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        if address.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        start = time.monotonic()
        reach, detail = Reach.OPEN, 'connected'
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, (str(address), port)),
                                   max(0.05, deadline - start))
        except asyncio.TimeoutError:
            reach, detail = Reach.SILENT, f'no answer within {time.monotonic() - start:.1f} s'
        except OSError as e:
            icmp = _icmp(sock)
            if icmp is not None and (icmp in _PROHIBITED or isinstance(e, ConnectionRefusedError)):
                reach, detail = Reach.REJECTED, 'rejected by a firewall (ICMP)'
            elif isinstance(e, ConnectionRefusedError):
                reach, detail = Reach.REFUSED, 'connection refused'
            else:
                reach, detail = Reach.UNREACHABLE, e.strerror or str(e)
        yield Probe(address, port, reach, detail), sock


# (origin, type, code): administratively prohibited, in IPv4 and in IPv6
_PROHIBITED = {(2, 3, 9), (2, 3, 10), (2, 3, 13), (3, 1, 1), (3, 1, 5), (3, 1, 6)}


def _icmp(sock: socket.socket) -> Optional[tuple[int, int, int]]:
    """The ICMP message that ended an attempt; None when it was a TCP reset or a verdict of our own kernel."""
    try:
        ancillary = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)[1]
    except OSError:
        return None
    for _level, _kind, data in ancillary:
        if len(data) >= 7:
            origin, kind, code = struct.unpack_from('=BBB', data, 4)
            if origin in _ORIGIN_ICMP:
                return origin, kind, code
    return None


async def path(address: IPAddress, port: int, deadline: float) -> Probe:
    """Whether packets to a port get through. Whatever listens there is left alone at once."""
    async with connected(address, port, deadline) as (probe, _sock):
        return probe


async def libvirt(address: IPAddress, port: int, deadline: float) -> Service:
    """Ask libvirt over plain TCP how it wants to be logged in to.

    A hung daemon accepts the connection and never answers.
    """
    async with connected(address, port, deadline) as (probe, sock):
        if probe.reach is not Reach.OPEN:
            return Service(probe, probe.detail)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(sock, _AUTH_LIST)
            reply = await asyncio.wait_for(_read(sock, 8), max(0.05, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            return Service(probe, 'it accepts connections but does not answer')
        except OSError as e:
            return Service(probe, f'it ends the connection: {e.strerror or e}')
        if len(reply) < 8:
            return Service(probe, 'it ends the connection without an answer')
        if struct.unpack('!II', reply)[1] != _REMOTE_PROGRAM:
            return Service(probe, 'what answers there is not libvirtd or virtproxyd')
        return Service(probe)


async def ssh(address: IPAddress, port: int, deadline: float) -> Service:
    """Read an ssh server's first line (RFC 4253, 4.2)."""
    async with connected(address, port, deadline) as (probe, sock):
        if probe.reach is not Reach.OPEN:
            return Service(probe, probe.detail)
        try:
            greeting = await asyncio.wait_for(_read(sock, 4), max(0.05, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            return Service(probe, 'it accepts connections but says nothing')
        except OSError as e:
            return Service(probe, f'it ends the connection: {e.strerror or e}')
        return Service(probe, '' if greeting == b'SSH-' else 'what answers there is not an ssh server')


async def _read(sock: socket.socket, size: int) -> bytes:
    """``size`` bytes, fewer when the other end closes."""
    data = b''
    while len(data) < size:
        more = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not more:
            break
        data += more
    return data


def qemu_ports(ports: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Which ports of QEMU's range to try: first these, and when none of them gets an answer, those.

    libvirt gives out the lowest free port, and a QEMU that waits for its migration takes whoever connects first for the
    source: a stray connection ends that migration. So the low ports, where others may be waiting right now, are left alone
    unless the rest is filtered.
    """
    first, last = ports
    size = last - first
    high = dict.fromkeys((last, first + size * 3 // 4, first + size // 2, first + size // 4))
    low = dict.fromkeys(port for port in (first + size // 8, first + 4, first + 2) if port <= last and port not in high)
    return list(high), list(low)


async def qemu(address: IPAddress, ports: tuple[int, int], deadline: float) -> list[Probe]:
    """Try a few ports of QEMU's range on one address."""
    high, low = qemu_ports(ports)
    start = time.monotonic()
    found = await _paths(address, high, start + (deadline - start) * 0.6)
    if not any(probe.path_open for probe in found):
        found += await _paths(address, low, deadline)
    return found


async def _paths(address: IPAddress, ports: Sequence[int], deadline: float) -> list[Probe]:
    return list(await asyncio.gather(*(path(address, port, deadline) for port in ports)))
