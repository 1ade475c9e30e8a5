# SPDX-License-Identifier: Apache-2.0
"""A process that looks at a file system: what it tells; nobody waits for one that hangs."""

import os
import signal

import pytest

from nova_migcheck.storage import looking


def test_what_it_finds() -> None:
    assert looking.Look(lambda: {'pid': os.getpid()}).wait(60)['pid'] != os.getpid()


def test_one_that_breaks_tells_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert looking.Look(lambda: {'here': 1 // 0}).wait(60) is None
    capfd.readouterr()


@pytest.mark.parametrize(
    'memory',
    [
        None,
        7,
        {},
        {'pid': os.getpid()},
        {'pid': os.getpid(), 'since': ''},
        {'pid': 2**30, 'since': '1'},
        {'since': '1'},
    ],
)
def test_what_is_not_stuck(memory: object) -> None:
    assert looking.stuck(memory) is None


@pytest.mark.parametrize('gone', [True, False])
def test_a_look_that_hangs(monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    hanging = looking.Look(lambda: signal.pause() or {})
    if not gone:
        end = hanging._end
        monkeypatch.setattr(hanging, '_end', lambda: end() and False)
    answer = hanging.wait(0.05)
    if gone:
        assert answer is None
    else:
        assert answer is not None and answer['stuck']['pid'] == hanging._pid
