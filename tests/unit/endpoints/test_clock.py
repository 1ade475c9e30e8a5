# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Optional

import pytest

from nova_migcheck.endpoints import clock
from nova_migcheck.finding import Outcome

OK, WARNING, FAILURE, UNKNOWN = Outcome.OK, Outcome.WARNING, Outcome.FAILURE, Outcome.UNKNOWN


@pytest.mark.parametrize(
    'skews, synchronised, outcomes',
    [
        ([0.2, -0.4, 4.9], True, [OK]),
        ([0.2, -0.4, 4.9], False, [OK, WARNING]),
        ([6, 7, 0], True, [FAILURE]),  # two of three say so
        ([6, -7, 0], True, [WARNING]),  # they disagree among themselves
        ([60, 0], True, [WARNING]),  # who is right?
        ([60], True, [WARNING]),  # one server may be wrong itself
        ([60], None, [WARNING]),
        ([60], False, [FAILURE, WARNING]),  # unless nothing keeps our own clock
        ([-60, -61], True, [FAILURE]),
        ([], True, [OK]),
        ([], None, [UNKNOWN]),
        ([], False, [WARNING]),
    ],
)
def test_whose_clock_is_off(
    skews: list[float], synchronised: Optional[bool], outcomes: list[Outcome]
) -> None:
    found = list(
        clock.look({f'10.0.0.{n}:80': skew for n, skew in enumerate(skews)}, 5.0, synchronised)
    )
    assert [f.outcome for f in found] == outcomes
    assert all(f.check == 'clock' for f in found)
    assert all(f.remedy for f in found if f.outcome in (FAILURE, WARNING))


def test_a_failure_names_the_skew_and_against_whom() -> None:
    [found] = clock.look({'10.0.0.5:80': 6.0, '10.0.0.6:80': 8.0}, 5.0, True)
    assert '7.0 s behind' in found.detail and 'limit 5 s' in found.detail
    assert '10.0.0.5:80 -6.0 s, 10.0.0.6:80 -8.0 s' in found.detail


def test_the_kernel_says_something() -> None:
    """True or False here; None only where adjtimex(2) is not allowed."""
    assert clock.kernel_synchronised() in (True, False, None)
