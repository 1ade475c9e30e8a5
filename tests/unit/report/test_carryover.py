# SPDX-License-Identifier: Apache-2.0
"""What still holds after a round that could not tell, and for how long."""

import pytest

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report.carryover import Carryover
from nova_migcheck.rounds.runner import CheckOutput, Round

FRESH = 300
DEAD = Finding('endpoint', Outcome.FAILURE, 'http://a', 'refused')
OTHER = Finding('endpoint', Outcome.FAILURE, 'http://b', 'refused')
WELL = Finding('endpoint', Outcome.OK, 'http://a', 'answers')
KILLED = Finding(
    'endpoint', Outcome.UNKNOWN, 'endpoint', 'the check was killed: it had not finished after 15 s'
)


def one(check, findings=(), ended=True, **facts):
    """A round of one check, as the runner gives it."""
    said = (
        []
        if ended
        else [
            Finding(
                check,
                Outcome.UNKNOWN,
                check,
                'the check was killed: it had not finished after 15 s',
            )
        ]
    )
    return Round(
        0.0,
        findings=[*findings, *said],
        facts=dict(facts),
        outputs={check: CheckOutput(list(findings), dict(facts), ended)},
    )


@pytest.fixture
def after():
    """after((seconds, round)...) -> what holds after the last of them"""

    def after(*rounds):
        known = Carryover()
        for now, outcome in rounds:
            said = known.complete(outcome, now, FRESH)
        return said

    return after


def failing(said):
    return [f.subject for f in said[0] if f.outcome is Outcome.FAILURE]


def test_a_round_that_ended_is_believed(after):
    assert failing(after((0, one('endpoint', [DEAD])), (60, one('endpoint', [WELL])))) == []
    assert after((0, one('endpoint', [DEAD])), (60, one('endpoint', [DEAD])))[0] == [DEAD]


def test_a_failure_outlives_a_round_that_was_killed_and_says_its_age(after):
    findings, _facts, _age = after((0, one('endpoint', [DEAD])), (60, one('endpoint', ended=False)))
    assert [(f.outcome, f.detail) for f in findings] == [
        (Outcome.UNKNOWN, KILLED.detail),
        (Outcome.FAILURE, 'refused; found 60 s ago, and the check has not finished since'),
    ]


def test_it_grows_older_with_each_such_round_until_it_is_no_longer_believed(after):
    killed = one('endpoint', ended=False)
    rounds = [(0, one('endpoint', [DEAD])), *((60 * n, killed) for n in range(1, 6))]
    assert 'found 300 s ago' in after(*rounds)[0][-1].detail
    assert failing(after(*rounds, (301, killed))) == []
    # Nor does it come back.
    assert failing(after(*rounds, (301, killed), (310, killed))) == []


def test_what_a_killed_round_had_found_before_its_end_replaces_what_was_known_of_that(after):
    assert failing(
        after((0, one('endpoint', [DEAD, OTHER])), (60, one('endpoint', [WELL], ended=False)))
    ) == ['http://b']
    worse = Finding('endpoint', Outcome.FAILURE, 'http://a', 'no route')
    findings = after((0, one('endpoint', [DEAD])), (60, one('endpoint', [worse], ended=False)))[0]
    assert [f.detail for f in findings if f.outcome is Outcome.FAILURE] == ['no route']


def test_after_a_round_that_was_killed_one_that_tells_ends_it(after):
    assert (
        failing(
            after(
                (0, one('endpoint', [DEAD])),
                (60, one('endpoint', ended=False)),
                (120, one('endpoint', [WELL])),
            )
        )
        == []
    )


def test_warnings_and_unknowns_are_not_kept(after):
    lesser = [
        Finding('endpoint', outcome, str(outcome)) for outcome in (Outcome.WARNING, Outcome.UNKNOWN)
    ]
    assert [
        f.subject
        for f in after((0, one('endpoint', lesser)), (60, one('endpoint', ended=False)))[0]
    ] == ['endpoint']


def test_a_fact_outlives_a_round_that_was_killed(after):
    findings, facts, age = after((0, one('cpu', cpu=1, guests=2)), (60, one('cpu', ended=False)))
    assert facts == {'cpu': 1, 'guests': 2} and age == 60
    assert findings[0].detail.endswith(
        'had not finished after 15 s; results of 60 s ago still count: cpu, guests'
    )
    # It had said one of them before it was killed.
    findings, facts, age = after(
        (0, one('cpu', cpu=1, guests=2)), (60, one('cpu', ended=False, cpu=3))
    )
    assert (
        facts == {'cpu': 3, 'guests': 2}
        and age == 60
        and 'still count: guests' in findings[0].detail
    )


def test_a_fact_outlives_an_unknown_in_its_place_but_not_a_round_that_was_sure(after):
    silent = Finding('cpu', Outcome.UNKNOWN, 'qemu:///system', 'libvirtd does not answer')
    findings, facts, age = after((0, one('cpu', cpu=1)), (60, one('cpu', [silent])))
    assert facts == {'cpu': 1} and age is None
    assert findings[0].detail == 'libvirtd does not answer; results of 60 s ago still count: cpu'
    gone = Finding(
        'storage', Outcome.FAILURE, '/var/lib/nova/instances', 'did not answer within 4 s'
    )
    assert after((0, one('storage', storage=1)), (60, one('storage', [gone])))[1] == {}


def test_a_fact_is_forgotten_with_its_age(after):
    rounds = [(0, one('cpu', cpu=1)), *((60 * n, one('cpu', ended=False)) for n in range(1, 6))]
    assert after(*rounds)[1] == {'cpu': 1}
    assert after(*rounds, (301, one('cpu', ended=False)))[1] == {}


def test_what_still_counts_is_said_by_its_own_check(after):
    """And not in an unknown finding of another check, nor in one of its own that is not unknown."""
    other = Finding('cpu', Outcome.UNKNOWN, 'cpu', 'libvirt does not answer')
    warning = Finding('storage', Outcome.WARNING, '/x', 'is full')
    killed = one('storage', [other, warning], ended=False)
    findings = after((0, one('storage', storage={'images': 'rbd'})), (60, killed))[0]
    assert [
        f.check for f in findings if '60 s ago' in f.detail and f.detail.endswith('storage')
    ] == ['storage']
    assert other in findings and warning in findings


def test_one_check_says_nothing_about_another(after):
    both = Round(
        0.0,
        [DEAD, KILLED],
        outputs={'storage': CheckOutput([], {}, True), 'endpoint': CheckOutput([], {}, False)},
    )
    before = Round(
        0.0,
        [DEAD],
        outputs={
            'storage': CheckOutput([Finding('storage', Outcome.FAILURE, '/x')], {}, True),
            'endpoint': CheckOutput([DEAD], {}, True),
        },
    )
    findings = after((0, before), (60, both))[0]
    assert [f.check for f in findings if f.outcome is Outcome.FAILURE and 's ago' in f.detail] == [
        'endpoint'
    ]
