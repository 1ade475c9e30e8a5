# SPDX-License-Identifier: Apache-2.0
"""The first words of the protocols that are not HTTP, up to where the server must have answered.

Nothing logs in: that a broker greets shows that it is a broker and alive, and costs it no authentication.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Callable, Mapping, NamedTuple, Optional

# AMQP 0-9-1, 4.2.2: the client's protocol header.
_AMQP_HEADER = b'AMQP\x00\x00\x09\x01'
# 2.3.5: frame type (1 is a method), channel, size of the payload; the payload begins with class and method.
_AMQP_FRAME = struct.Struct('>BHIHH')
_CONNECTION_START = (10, 10)

# RFC 5905, 7.3: seconds between 1900 and 1970; version 4, mode 3 (client); transmit timestamp at 40.
_NTP_EPOCH = 2208988800
_NTP_REQUEST = b'\x23' + 47 * b'\0'


class Greeted(NamedTuple):
    """:param wrong: what was unexpected; empty when all is well
    :param skew: seconds that the server's clock is ahead of ours, where it said so
    """

    said: str
    wrong: str = ''
    skew: Optional[float] = None


def _receive(sock: socket.socket, size: int) -> bytes:
    """Up to ``size`` bytes; fewer when the peer closed.

    :raises TimeoutError: when the socket's timeout passed
    """
    received = b''
    while len(received) < size:
        part = sock.recv(size - len(received))
        if not part:
            break
        received += part
    return received


def amqp(sock: socket.socket) -> Greeted:
    """A broker answers the protocol header with Connection.Start."""
    sock.sendall(_AMQP_HEADER)
    received = _receive(sock, _AMQP_FRAME.size)
    if not received:
        raise ConnectionResetError('closed')
    if received.startswith(b'AMQP'):
        return Greeted('', f'the broker wants AMQP {".".join(str(b) for b in received[5:8])}')
    if len(received) == _AMQP_FRAME.size:
        kind, channel, _size, *method = _AMQP_FRAME.unpack(received)
        if (kind, channel, tuple(method)) == (1, 0, _CONNECTION_START):
            return Greeted('an AMQP broker')
    return Greeted('', 'what answers there is no AMQP broker')


def memcached(sock: socket.socket) -> Greeted:
    sock.sendall(b'version\r\n')
    received = sock.recv(256)
    if not received:
        raise ConnectionResetError('closed')
    # One that wants SASL answers the text protocol with an error: it is alive.
    if received.startswith((b'VERSION ', b'ERROR', b'CLIENT_ERROR', b'SERVER_ERROR')):
        return Greeted(received.split(b'\r')[0].decode('ascii', 'replace'))
    return Greeted('', 'what answers there is no memcached')


def ntp(sock: socket.socket) -> Greeted:
    sent = time.time()
    sock.send(_NTP_REQUEST)
    received = sock.recv(512)
    back = time.time()
    if len(received) < 48 or received[0] & 7 != 4:
        return Greeted('', 'what answers there is no NTP server')
    if received[1] == 0 or received[0] >> 6 == 3:  # kiss-o'-death, or the server itself is not synchronised
        return Greeted('an NTP server that is not synchronised itself')
    arrived, left = (whole - _NTP_EPOCH + part / 2**32 for whole, part in struct.iter_unpack('>II', received[32:48]))
    return Greeted('an NTP server', skew=((arrived - sent) + (left - back)) / 2)


def tcp(sock: socket.socket) -> Greeted:
    return Greeted('accepts connections')


GREETINGS: Mapping[str, Callable[[socket.socket], Greeted]] = {
    'amqp': amqp, 'amqps': amqp, 'memcached': memcached, 'ntp': ntp, 'tcp': tcp}
