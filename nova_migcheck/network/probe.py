# SPDX-License-Identifier: Apache-2.0
"""Connect to the ports that a migration will use, at the same time and under one deadline.

A closed port refuses the connection immediately. A filtered one does not answer, which shows at
the deadline; stock Nova hangs for 135 s.
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

from nova_migcheck.finding import printable
from nova_migcheck.network.interfaces import IPAddress

# linux/in.h, linux/in6.h, linux/errqueue.h. Without RECVERR, the ICMP message of a firewall looks
# like a closed port.
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_ORIGIN_ICMP = (2, 3)

#: A call of AUTH_LIST, the first message of every libvirt client, before it logs in
# (src/remote/remote_protocol.x, src/rpc/virnetprotocol.x): length, program, version, procedure 66,
# call, serial, ok.
_REMOTE_PROGRAM = 0x20008086
AUTH_LIST = struct.pack('!IIIiiIi', 28, _REMOTE_PROGRAM, 1, 66, 0, 1, 0)
# Procedure 67, AUTH_SASL_INIT: asks for the mechanisms, and logs in nowhere.
_SASL_INIT = struct.pack('!IIIiiIi', 28, _REMOTE_PROGRAM, 1, 67, 0, 2, 0)
# Of a reply: its length, program, version, procedure, type, serial and status.
_REPLY = struct.Struct('!IIIiiIi')
_SASL = 1
# libvirt's replies to these calls have some 40 bytes.
_MOST = 4096


class Reach(enum.Enum):
    """List the possible results of an attempt to connect."""

    OPEN = enum.auto()
    REFUSED = enum.auto()
    SILENT = enum.auto()
    REJECTED = enum.auto()
    UNREACHABLE = enum.auto()


@dataclasses.dataclass(frozen=True)
class Probe:
    """Hold the result of one attempt to connect.

    :param detail: the result in words, for a finding
    """

    address: IPAddress
    port: int
    reach: Reach
    detail: str

    @property
    def path_open(self) -> bool:
        """Return whether packets get through.

        They do if the connection was accepted, or refused by the host itself.
        """
        return self.reach in (Reach.OPEN, Reach.REFUSED)


# libvirt does not accept another client until one goes; the kernel has connected it already.
FULL = ('it hangs, or has as many clients as it may: compare ss -tn there with max_clients and '
        'max_anonymous_clients in its libvirtd.conf, then restart it, or allow more')


@dataclasses.dataclass(frozen=True)
class Service:
    """Hold the result of one attempt to use the service on a port.

    :param problem: what is wrong; empty if it answered as expected
    :param login: whether it answers, and nobody can log in
    :param unsure: whether libvirt itself may get another result
    :param remedy: what to do about the problem, if more is known than that it does not work
    """

    probe: Probe
    problem: str = ''
    unsure: bool = False
    login: bool = False
    remedy: str = ''


@contextlib.asynccontextmanager
async def connected(address: IPAddress, port: int,
                    deadline: float) -> AsyncIterator[tuple[Probe, socket.socket]]:
    """Try to connect; the socket is connected only if the probe is ``OPEN``.

    :param deadline: as by ``time.monotonic()``
    """
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
            connecting = asyncio.get_running_loop().sock_connect(sock, (str(address), port))
            await asyncio.wait_for(connecting, max(0.05, deadline - start))
        except asyncio.TimeoutError:
            reach, detail = Reach.SILENT, f'no answer within {time.monotonic() - start:.1f} s'
        except OSError as e:
            icmp, refused = _icmp(sock), isinstance(e, ConnectionRefusedError)
            if icmp is not None and (icmp in _PROHIBITED or refused):
                reach, detail = Reach.REJECTED, 'rejected by a firewall (ICMP)'
            elif refused:
                reach, detail = Reach.REFUSED, 'connection refused'
            else:
                reach, detail = Reach.UNREACHABLE, e.strerror or str(e)
        yield Probe(address, port, reach, detail), sock


# (origin, type, code) for "administratively prohibited", in IPv4 and in IPv6.
_PROHIBITED = {(2, 3, 9), (2, 3, 10), (2, 3, 13), (3, 1, 1), (3, 1, 5), (3, 1, 6)}


def _icmp(sock: socket.socket) -> Optional[tuple[int, int, int]]:
    """Return origin, type and code of the ICMP message that ended an attempt.

    Return None if a TCP reset or this host's own kernel ended it.
    """
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
    """Probe whether packets to a port get through, and disconnect immediately."""
    async with connected(address, port, deadline) as (probe, _sock):
        return probe


async def libvirt(address: IPAddress, port: int, deadline: float) -> Service:
    """Ask libvirt over plain TCP for its ways to log in, and whether SASL can work.

    A hung daemon accepts the connection and never answers. A libvirtd whose SASL has no mechanism
    that works refuses every login, whatever the credentials are.
    """
    async with connected(address, port, deadline) as (probe, sock):
        if probe.reach is not Reach.OPEN:
            return Service(probe, probe.detail)
        try:
            timeout = max(0.05, deadline - time.monotonic())
            problem, login = await asyncio.wait_for(_ways_to_log_in(sock), timeout)
            return Service(probe, problem, login=login)
        except asyncio.TimeoutError:
            return Service(probe, 'it accepts connections but does not answer', remedy=FULL)
        except OSError as e:
            return Service(probe, f'it closes the connection: {e.strerror or e}')


async def _ways_to_log_in(sock: socket.socket) -> tuple[str, bool]:
    """Return what is wrong, '' if nothing, and whether it is only the login."""
    reply = await _talk(sock, AUTH_LIST, 8)
    if len(reply) < 8:
        return 'it closes the connection without an answer', False
    if struct.unpack_from('!I', reply, 4)[0] != _REMOTE_PROGRAM:
        return 'the service there is not libvirtd or virtproxyd', False
    # What follows is more than an answer, and no fault if it is missing.
    with contextlib.suppress(OSError):
        kinds = (await _rest(sock, reply))[_REPLY.size + 4:]
        if kinds == struct.pack('!i', _SASL):
            reply = await _rest(sock, await _talk(sock, _SASL_INIT, 8))
            if len(reply) >= _REPLY.size and _REPLY.unpack_from(reply)[-1] != 0:
                return (f'it wants a SASL login and cannot do one itself: {_error(reply)}', True)
    return '', False


async def _rest(sock: socket.socket, begun: bytes) -> bytes:
    """Return the whole reply that begins with these bytes; as much as there is if it ends early."""
    size = min(_MOST, struct.unpack_from('!I', begun)[0]) if len(begun) >= 4 else 0
    return begun + await _talk(sock, b'', max(0, size - len(begun)))


def _error(reply: bytes) -> str:
    """Return the message in a reply with an error: code, domain, whether there is one, length."""
    try:
        _code, _domain, there, length = struct.unpack_from('!iiiI', reply, _REPLY.size)
    except struct.error:
        return 'an error'
    text = reply[_REPLY.size + 16:][:min(length, 200)].decode(errors='replace')
    return printable(text) if there and text else 'an error'


async def ssh(address: IPAddress, port: int, deadline: float) -> Service:
    """Read an ssh server's first line (RFC 4253, 4.2)."""
    service, greeting = await _ask(address, port, deadline, b'', 4)
    if service.problem or greeting == b'SSH-':
        return service
    return Service(service.probe, 'the service there is not an ssh server')


async def _ask(address: IPAddress, port: int, deadline: float, request: bytes,
               size: int) -> tuple[Service, bytes]:
    """Connect, send ``request``, and return the first ``size`` bytes of the answer.

    These are fewer if the other end closes the connection.
    """
    async with connected(address, port, deadline) as (probe, sock):
        if probe.reach is not Reach.OPEN:
            return Service(probe, probe.detail), b''
        try:
            timeout = max(0.05, deadline - time.monotonic())
            return Service(probe), await asyncio.wait_for(_talk(sock, request, size), timeout)
        except asyncio.TimeoutError:
            return Service(probe, 'it accepts connections but does not answer'), b''
        except OSError as e:
            return Service(probe, f'it closes the connection: {e.strerror or e}'), b''


async def _talk(sock: socket.socket, request: bytes, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request)
    data = b''
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            break
        data += more
    return data


def qemu_ports(ports: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Return the ports of QEMU's range to try first, and those to try if these do not answer.

    libvirt assigns the lowest free port. A QEMU that waits for its migration takes the first
    connection for the source, so a stray connection ends that migration. So the low ports, where
    another QEMU may be waiting, are tried only if the others are filtered.
    """
    first, last = ports
    size = last - first
    high = dict.fromkeys((last, first + size * 3 // 4, first + size // 2, first + size // 4))
    low = dict.fromkeys((first + size // 8, first + 4, first + 2))
    return list(high), [port for port in low if port <= last and port not in high]


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
