# SPDX-License-Identifier: Apache-2.0
"""What becomes of a question to nova-conductor. A real one answers in ``./run lab --rehearsals``."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from nova import rpc
from nova.conductor import rpcapi
from nova.objects import base

from nova_migcheck.novadb import fleet, neighbours


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No bus; whether what was begun was ended."""
    said: list[str] = []
    monkeypatch.setattr(rpc, 'init', lambda conf: said.append('begun'))
    monkeypatch.setattr(rpc, 'cleanup', lambda: said.append('ended'))
    monkeypatch.setattr(rpcapi, 'ConductorAPI', lambda: 'the conductor')
    return said


def test_it_is_the_conductor_that_reads(
    monkeypatch: pytest.MonkeyPatch, ended: list[str]
) -> None:
    def of_cell(context: Any) -> list[Any]:
        assert base.NovaObject.indirection_api == 'the conductor' and context.is_admin
        return [('compute10', 'up', {}), ('compute2', 'down', {})]

    monkeypatch.setattr(fleet, 'of_cell', of_cell)
    hosts = neighbours.read(None)
    assert [(host.name, host.service) for host in hosts] == [
        ('compute2', 'down'),
        ('compute10', 'up'),
    ]
    assert base.NovaObject.indirection_api is None and ended == ['begun', 'ended']


def test_a_conductor_that_raises(monkeypatch: pytest.MonkeyPatch, ended: list[str]) -> None:
    def of_cell(context: Any) -> list[Any]:
        raise RuntimeError('no route')

    monkeypatch.setattr(fleet, 'of_cell', of_cell)
    with pytest.raises(fleet.Unavailable, match='nova-conductor cannot be asked'):
        neighbours.read(None)
    assert base.NovaObject.indirection_api is None and ended == ['begun', 'ended']


def test_a_conductor_that_is_silent(monkeypatch: pytest.MonkeyPatch, ended: list[str]) -> None:
    released = threading.Event()
    monkeypatch.setattr(neighbours, '_ANSWER', 0.1)
    monkeypatch.setattr(fleet, 'of_cell', lambda context: released.wait(30) and [])
    try:
        with pytest.raises(fleet.Unavailable, match='has not answered within'):
            neighbours.read(None)
    finally:
        released.set()
