# SPDX-License-Identifier: Apache-2.0
"""The first words of protocols, said by the other end of a socket."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Iterator, Optional

import pytest

from nova_migcheck.endpoints import greeting

START = struct.pack('>BHIHH', 1, 0, 4, 10, 10)
TUNE = struct.pack('>BHIHH', 1, 0, 4, 10, 30)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        yield ours, theirs


@pytest.mark.parametrize(
    'said, wrong',
    [
        (START, None),
        (START + b'more', None),
        (b'AMQP\x00\x01\x00\x00', 'the broker requires AMQP 1.0.0'),
        (b'HTTP/1.1 400 Bad Request', 'the server there is not an AMQP broker'),
        (TUNE, 'the server there is not an AMQP broker'),
        (START[:5], 'the server there is not an AMQP broker'),
    ],
)
def test_amqp(ends, said: bytes, wrong: Optional[str]) -> None:
    ours, theirs = ends
    theirs.sendall(said)
    theirs.shutdown(socket.SHUT_WR)
    answer = greeting.GREETINGS['amqps'](ours)
    assert (answer.wrong, answer.text) == (('', 'an AMQP broker') if wrong is None else (wrong, ''))
    assert theirs.recv(64) == b'AMQP\x00\x00\x09\x01', 'it did not speak first'


@pytest.mark.parametrize(
    'said, expected',
    [
        (b'VERSION 1.6.18\r\n', greeting.Greeting('VERSION 1.6.18')),
        (b'ERROR\r\n', greeting.Greeting('ERROR')),
        (b'SERVER_ERROR out of memory\r\n', greeting.Greeting('SERVER_ERROR out of memory')),
        (b'-ERR unknown command\r\n', greeting.Greeting('', 'the server there is not memcached')),
    ],
)
def test_memcached(ends, said: bytes, expected: greeting.Greeting) -> None:
    ours, theirs = ends
    theirs.sendall(said)
    assert greeting.memcached(ours) == expected
    assert theirs.recv(64) == b'version\r\n'


@pytest.mark.parametrize('greet', [greeting.amqp, greeting.memcached])
def test_one_that_closes_at_once(ends, greet) -> None:
    ours, theirs = ends
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        greet(ours)


def test_tcp(ends) -> None:
    assert greeting.tcp(ends[0]) == greeting.Greeting('accepts connections')


def _ntp(first: int, stratum: int, ahead: float = 0.0) -> bytes:
    now = time.time() + ahead + 2208988800
    stamp = struct.pack('>II', int(now), int(now % 1 * 2**32))
    return bytes([first, stratum]) + bytes(30) + stamp + stamp


@pytest.mark.parametrize(
    'said, wrong, skew',
    [
        (_ntp(0x24, 2), '', 0.0),
        (_ntp(0x24, 1, 90.0), '', 90.0),
        (_ntp(0x24, 3, -7.5), '', -7.5),
        (_ntp(0x24, 0), '', None),
        (_ntp(0xE4, 2), '', None),  # a kiss of death; one that is not synchronised
        (b'hello', 'the server there is not an NTP server', None),
        (_ntp(0x23, 2), 'the server there is not an NTP server', None),
    ],
    ids=['right', 'fast', 'slow', 'kiss of death', 'not synchronised', 'no NTP', 'no answer'],
)  # not with the time in them
def test_ntp(said: bytes, wrong: str, skew: Optional[float]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(5)
        # It answers what it has heard at once: the stamps are of when this test was collected.
        offset = time.time()
        if skew is not None:
            said = _ntp(said[0], said[1], skew)
        theirs.send(said)
        answer = greeting.ntp(ours)
        assert answer.wrong == wrong
        assert theirs.recv(64)[0] == 0x23
    if skew is None:
        assert answer.skew is None
    else:
        assert answer.skew is not None and abs(answer.skew - skew) <= 1 + time.time() - offset


def test_each_scheme_has_its_protocol() -> None:
    expected = {
        'amqp': greeting.amqp,
        'amqps': greeting.amqp,
        'memcached': greeting.memcached,
        'ntp': greeting.ntp,
        'tcp': greeting.tcp,
    }
    assert expected == greeting.GREETINGS


@pytest.mark.parametrize(
    'said, right',
    [
        (_ntp(0x24, 2), True),
        (_ntp(0x24, 2)[:47], False),
        (_ntp(0x24, 2) + b'more', True),
        (_ntp(0x25, 2), False),
    ],
    ids=['server', 'short', 'long', 'broadcast'],
)
def test_what_an_ntp_server_answers(said: bytes, right: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(5)
        theirs.send(said)
        assert (greeting.ntp(ours).wrong == '') is right
        request = theirs.recv(512)
    assert len(request) == 48 and request[0] >> 3 & 7 == 4 and request[0] & 7 == 3


@pytest.mark.parametrize(
    'leap, stratum, synchronised',
    [(0, 1, True), (1, 15, True), (2, 2, True), (3, 2, False), (0, 0, False)],
)
def test_an_ntp_server_that_is_not_synchronised_gives_no_time(
    leap: int, stratum: int, synchronised: bool
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(5)
        theirs.send(_ntp(leap << 6 | 0x24, stratum))
        assert (greeting.ntp(ours).skew is not None) is synchronised


def test_the_time_is_taken_half_way(monkeypatch) -> None:
    """RFC 5905: sent at 1000, arrived at 1010.5 and left at 1012.5 by the other clock, back at 1004."""
    times = iter([1000.0, 1004.0])
    monkeypatch.setattr(greeting.time, 'time', lambda: next(times))
    stamps = [struct.pack('>II', 2208988800 + second, 2**31) for second in (1010, 1012)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(5)
        theirs.send(bytes([0x24, 2]) + bytes(30) + b''.join(stamps))
        assert greeting.ntp(ours).skew == pytest.approx(9.5)


@pytest.mark.parametrize('channel, kind', [(1, 1), (0, 2)])
def test_another_frame_is_no_start_of_a_connection(ends, channel: int, kind: int) -> None:
    ours, theirs = ends
    theirs.sendall(struct.pack('>BHIHH', kind, channel, 4, 10, 10))
    assert greeting.amqp(ours).wrong


def test_an_answer_that_comes_in_pieces(ends) -> None:
    ours, theirs = ends
    answers = []
    reader = threading.Thread(target=lambda: answers.append(greeting.amqp(ours)))
    reader.start()
    theirs.recv(64)
    for place in range(len(START)):
        theirs.sendall(START[place : place + 1])
    reader.join(60)
    assert [one.wrong for one in answers] == ['']
