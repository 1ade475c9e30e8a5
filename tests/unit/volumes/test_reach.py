# SPDX-License-Identifier: Apache-2.0
"""Portals are tried all at once and under one deadline: real sockets."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from typing import Iterator

import pytest

from nova_migcheck.network import resolver
from nova_migcheck.volumes import reach
from nova_migcheck.volumes.attached import Portal


@contextlib.contextmanager
def listening(host: str = '127.0.0.1', backlog: int = 5) -> Iterator[Portal]:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen(backlog)
        yield Portal(host, server.getsockname()[1])


def free() -> Portal:
    with listening() as portal:
        pass
    return portal


def test_one_that_listens_and_one_that_refuses() -> None:
    with listening() as alive:
        dead = free()
        assert reach.tried([alive, dead], 5) == {alive: '', dead: 'connection refused'}


def test_ipv6() -> None:
    with listening('::1') as portal:
        assert reach.tried([portal], 5) == {portal: ''}


def test_a_name_with_two_addresses_of_which_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    both = tuple(map(ipaddress.ip_address, ('127.0.0.1', '::1')))
    monkeypatch.setattr(
        reach.resolver,
        'resolve',
        lambda names, _timeout: {name: resolver.Answer(name, both) for name in names},
    )
    with listening() as portal:
        name = Portal('storage1', portal.port)
        assert reach.tried([name], 5) == {name: ''}
    # Nothing listens there now, and both are named.
    why = reach.tried([name], 5)[name]
    assert '127.0.0.1: connection refused' in why and '::1: connection refused' in why


def test_a_name_that_does_not_resolve() -> None:
    portal = Portal('nothing.invalid', 3260)
    assert 'does not resolve' in reach.tried([portal], 5)[portal]


def test_silent_ones_take_one_timeout_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        portals = [stack.enter_context(listening(backlog=0)) for _ in range(5)]
        for portal in portals:
            # Fills the queue of those who wait to be accepted: the kernel then answers no SYN.
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect(tuple(portal))
        begun = time.monotonic()
        found = reach.tried(portals, 0.4)
        assert all('no answer within' in why for why in found.values()), found
        assert 0.3 < time.monotonic() - begun < 1.5


def test_none() -> None:
    assert reach.tried([], 5) == {}
