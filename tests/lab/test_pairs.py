# SPDX-License-Identifier: Apache-2.0
"""The confidence of a median, and the line by which two clouds take turns."""

from __future__ import annotations

import math
import os
import random
import threading

import pytest

from tests.lab.cloud.pairs import Line, median_and_confidence


def test_known_bounds_of_a_median() -> None:
    # Tables of the sign test give, for n = 10, ranks 2 and 9 (97.9 %); for n = 20, ranks 6 and 15 (95.9 %).
    assert median_and_confidence(range(1, 11)) == (5.5, 2, 9)
    assert median_and_confidence(range(1, 21)) == (10.5, 6, 15)
    assert median_and_confidence(range(1, 6)) == (3, -math.inf, math.inf)


def test_the_true_median_is_within_the_bounds_as_often_as_they_say() -> None:
    chance = random.Random(1)
    within = 0
    for _ in range(500):
        _median, low, high = median_and_confidence([chance.lognormvariate(0, 1) for _ in range(50)])
        within += low <= 1 <= high
    assert within / 500 > 0.93


def _line(monkeypatch: pytest.MonkeyPatch, end: dict[str, int]) -> Line:
    for name, number in end.items():
        monkeypatch.setenv(name, str(number))
    line = Line.inherited()
    assert line is not None
    return line


def test_one_waits_until_the_other_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (_line(monkeypatch, end) for end in Line.ends())
    said: list[str] = []

    def second() -> None:
        other.wait()
        said.append('second')
        other.done()

    thread = threading.Thread(target=second)
    thread.start()
    said.append('first')
    one.done()
    one.wait()
    thread.join(5)
    assert said == ['first', 'second']


def test_who_waits_for_a_cloud_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Line.ends()
    one = _line(monkeypatch, ends[0])
    os.close(*ends[1].values())
    with pytest.raises(RuntimeError, match='gone'):
        one.wait()
