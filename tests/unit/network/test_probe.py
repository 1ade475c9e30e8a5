# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import threading
import time
from typing import Callable, Iterator

import pytest

from nova_migcheck.network import probe

LOCALHOST = ipaddress.ip_address('127.0.0.1')


@pytest.mark.parametrize('ports', [(49152, 49215), (50000, 50009), (50000, 50001), (50000, 50000)])
def test_ports_that_are_tried_lie_in_the_range_and_the_first_is_left_alone(ports: tuple) -> None:
    high, low = probe.qemu_ports(ports)
    assert high and set(high + low) <= set(range(ports[0], ports[1] + 1))
    assert not set(high) & set(low)
    if ports[1] - ports[0] >= 8:
        assert min(high + low) > ports[0]
    assert max(high) == ports[1]


_connected = threading.Event()


def _reset(connection: socket.socket) -> None:
    assert _connected.wait(60)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def _silent(connection: socket.socket) -> None:
    connection.recv(100)
    connection.recv(100)


def _says(text: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(text)


@pytest.fixture(autouse=True)
def tell_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the server when the client is connected and begins to read."""
    _connected.clear()
    talk = probe._talk

    async def reads(*args: object) -> bytes:
        _connected.set()
        return await talk(*args)

    monkeypatch.setattr(probe, '_talk', reads)


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server on the loopback, which does one thing with each connection; its port."""
    with socket.create_server(('127.0.0.1', 0)) as server:

        def work() -> None:
            connection, _peer = server.accept()
            # The client may be gone already.
            with connection, contextlib.suppress(OSError):
                request.param(connection)

        threading.Thread(target=work, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    'serve, problem',
    [
        (_says(b'SSH-2.0-OpenSSH_9.2\r\n'), ''),
        (_says(b'HTTP/1.1 400\r\n'), 'not an ssh server'),
        (_reset, 'it closes the connection'),
        (_silent, 'does not answer'),
    ],
    indirect=['serve'],
)
def test_ssh(serve: int, problem: str) -> None:
    seconds = 0.3 if problem == 'does not answer' else 60
    service = asyncio.run(probe.ssh(LOCALHOST, serve, time.monotonic() + seconds))
    assert problem in service.problem and bool(service.problem) is bool(problem)
    assert service.probe.reach is probe.Reach.OPEN and not service.unsure


@pytest.mark.parametrize(
    'serve, problem',
    [
        (_says(struct.pack('!II', 28, 0x20008086)), ''),
        (_says(struct.pack('!II', 28, 1)), 'not libvirtd'),
        (_says(b'SSH'), 'closes the connection'),
        (_reset, 'closes the connection'),
        (_silent, 'does not answer'),
    ],
    indirect=['serve'],
)
def test_libvirt(serve: int, problem: str) -> None:
    seconds = 0.3 if problem == 'does not answer' else 60
    service = asyncio.run(probe.libvirt(LOCALHOST, serve, time.monotonic() + seconds))
    assert problem in service.problem and bool(service.problem) is bool(problem)


@pytest.mark.parametrize('ask', [probe.ssh, probe.libvirt])
def test_nobody_listens(ask: Callable) -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    service = asyncio.run(ask(LOCALHOST, port, time.monotonic() + 60))
    assert service.problem == 'connection refused' and service.probe.path_open
