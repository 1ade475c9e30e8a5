# SPDX-License-Identifier: Apache-2.0
"""Begin the protocols other than HTTP, up to the server's first answer.

Nothing logs in. A greeting shows that a broker is alive, and costs it no authentication.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Callable, Mapping, NamedTuple, Optional

# AMQP 0-9-1, 4.2.2: the client's protocol header.
_AMQP_HEADER = b'AMQP\x00\x00\x09\x01'
# 2.3.5: frame type (1 is a method), channel, payload size, and the payload: class and method first.
_AMQP_FRAME = struct.Struct('>BHIHH')
_CONNECTION_START = (10, 10)

# RFC 5905, 7.3: version 4, mode 3 (client). Times count from 1900.
_NTP_EPOCH = 2208988800
_NTP_REQUEST = b'\x23' + 47 * b'\0'


class Greeting(NamedTuple):
    """Hold a server's first answer.

    :param text: for the operator; empty if the answer was unexpected
    :param wrong: what was unexpected, otherwise empty
    :param skew: seconds by which the server's clock is ahead of this host's, if it sent a time
    """

    text: str
    wrong: str = ''
    skew: Optional[float] = None


def _receive(sock: socket.socket, size: int) -> bytes:
    """Receive up to ``size`` bytes, fewer if the server closes the connection.

    :raises TimeoutError: after the socket's timeout
    """
    received = b''
    while len(received) < size:
        part = sock.recv(size - len(received))
        if not part:
            break
        received += part
    return received


def amqp(sock: socket.socket) -> Greeting:
    """Send the protocol header, which a broker answers with Connection.Start."""
    sock.sendall(_AMQP_HEADER)
    received = _receive(sock, _AMQP_FRAME.size)
    if not received:
        raise ConnectionResetError('closed')
    if received.startswith(b'AMQP'):
        return Greeting('', f'the broker requires AMQP {".".join(map(str, received[5:8]))}')
    if len(received) == _AMQP_FRAME.size:
        kind, channel, _size, *method = _AMQP_FRAME.unpack(received)
        if (kind, channel, tuple(method)) == (1, 0, _CONNECTION_START):
            return Greeting('an AMQP broker')
    return Greeting('', 'the server there is not an AMQP broker')


def memcached(sock: socket.socket) -> Greeting:
    """Ask for the version."""
    sock.sendall(b'version\r\n')
    received = sock.recv(256)
    if not received:
        raise ConnectionResetError('closed')
    # A memcached that requires SASL answers the text protocol with an error: it is alive.
    if received.startswith((b'VERSION ', b'ERROR', b'CLIENT_ERROR', b'SERVER_ERROR')):
        return Greeting(received.split(b'\r')[0].decode('ascii', 'replace'))
    return Greeting('', 'the server there is not memcached')


def ntp(sock: socket.socket) -> Greeting:
    """Ask for the time."""
    sent = time.time()
    sock.send(_NTP_REQUEST)
    received = sock.recv(512)
    back = time.time()
    if len(received) < 48 or received[0] & 7 != 4:
        return Greeting('', 'the server there is not an NTP server')
    # A kiss-o'-death, or an unsynchronised server.
    if received[1] == 0 or received[0] >> 6 == 3:
        return Greeting('an NTP server that is not synchronised itself')
    arrived, left = (whole - _NTP_EPOCH + part / 2**32
                     for whole, part in struct.iter_unpack('>II', received[32:48]))
    return Greeting('an NTP server', skew=((arrived - sent) + (left - back)) / 2)


def tcp(sock: socket.socket) -> Greeting:
    """Send nothing: the connection is all that is checked."""
    return Greeting('accepts connections')


GREETINGS: Mapping[str, Callable[[socket.socket], Greeting]] = {
    'amqp': amqp, 'amqps': amqp, 'memcached': memcached, 'ntp': ntp, 'tcp': tcp}
