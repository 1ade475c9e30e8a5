# SPDX-License-Identifier: Apache-2.0
"""What placement answers, by the provider that each candidate takes from."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.nova


def candidate(*providers):
    return {'allocations': {name: {'resources': {'VCPU': 1}} for name in providers}}


def candidates(requests, *providers):
    from nova_migcheck.novadb.placement import Candidates

    summaries = {name: {'resources': {}} for name in providers}
    return Candidates.of({'allocation_requests': requests, 'provider_summaries': summaries})


def test_a_candidate_belongs_to_each_provider_that_it_takes_from():
    one, two, both = candidate('a'), candidate('b'), candidate('a', 'shared')
    found = candidates([one, two, both], 'a', 'b', 'shared')
    assert found.count == 3
    assert found.by_provider == {'a': [one, both], 'b': [two], 'shared': [both]}
    assert candidates([]).by_provider == {}


def test_what_a_second_request_finds_comes_after_the_first():
    """Nova asks for CPUs of its own first, and then for shared ones of the same number."""
    first, again, other = candidate('a'), candidate('a'), candidate('b')
    found = candidates([first], 'a').with_more(candidates([again, other], 'a', 'b'))
    assert found.count == 3
    assert found.by_provider == {'a': [first, again], 'b': [other]}
    assert set(found.summaries) == {'a', 'b'}
