# SPDX-License-Identifier: Apache-2.0
"""What is said and kept of a rehearsal."""

from __future__ import annotations

import dataclasses

import pytest

from nova_migcheck.aftermath import accounts, ledger
from nova_migcheck.cli import rehearsalmetrics
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rehearsal.travel import Arrival
from nova_migcheck.rehearsal.trial import Trial

MIB = 1 << 20
UUID = '2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11'
FAILURE = Finding('transport', Outcome.FAILURE, 'compute2', 'secret', code='transport-login')
WARNING = Finding('transport', Outcome.UNKNOWN, 'compute2', 'secret', code='transport-no-port')
ARRIVED = Arrival('', 0.8123, 7, 64 * MIB, 118.0 * MIB, {'mig0': 65 * MIB, 'mgmt0': 9}, guest=UUID)
STRAYED = dataclasses.replace(ARRIVED, strayed=60 * MIB, sent={'mig0': 70, 'mgmt0': 65 * MIB})
FAILED = Arrival('Permission denied', 0.1, guest=UUID)
NOT_SENT = Arrival('the target cannot be asked to send it back', 0.0)


def trial(arrival: Arrival = ARRIVED, *foreseen: Finding, **values: object) -> Trial:
    return Trial('compute1', 'compute2', frozenset({'mig0'}), foreseen, arrival, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'arrival, foreseen, well, agrees',
    [
        (ARRIVED, (), True, True),
        (ARRIVED, (WARNING,), True, True),
        (ARRIVED, (FAILURE,), True, False),
        (FAILED, (FAILURE,), False, True),
        (FAILED, (WARNING,), False, False),
        (STRAYED, (FAILURE,), False, True),
        (STRAYED, (), False, False),
    ],
)
def test_whether_the_checks_were_right(
    arrival: Arrival, foreseen: tuple[Finding, ...], well: bool, agrees: bool
) -> None:
    one = trial(arrival, *foreseen)
    assert (one.well, one.agrees, one.to_dict()['agrees']) == (well, agrees, agrees)


@pytest.mark.parametrize('returned, well', [(ARRIVED, True), (FAILED, False), (None, False)])
def test_the_way_back_counts_where_it_was_asked_for(returned: Arrival, well: bool) -> None:
    assert trial(back=True, returned=returned).well == well
    assert trial().well


def test_what_the_ledger_keeps() -> None:
    """Codes and libvirt's words, no other text of a finding."""
    [line] = trial(STRAYED, FAILURE, WARNING).lines()
    [move] = accounts.rehearsals([[line]])
    assert (move.source, move.target, move.verdict, move.rejections, move.ended) == (
        'compute1',
        'compute2',
        'rejected',
        ('transport transport-login',),
        'strayed',
    )
    assert move.rate == 118 * MIB and line['interface'] == 'mgmt0' and 'secret' not in str(line)
    assert line['warnings'] == ['transport transport-no-port']
    assert accounts.moves([[line]]) == []


def test_the_way_back_has_a_line_of_its_own() -> None:
    there, back = trial(back=True, returned=dataclasses.replace(FAILED)).lines()
    assert (back['source'], back['target'], back['ended'], back['direction'], back['host']) == (
        'compute2',
        'compute1',
        'failed',
        'in',
        'compute1',
    )
    assert there['verdict'] == 'accepted' and 'verdict' not in back
    # A guest that nobody has sent proves nothing.
    assert len(trial(back=True, returned=NOT_SENT).lines()) == 1


def test_a_line_is_kept_and_found_again(tmp_path: object) -> None:
    book = ledger.Ledger(str(tmp_path), MIB, 90)
    assert all(book.append(line) for line in trial(back=True, returned=FAILED).lines())
    out, back = book.rehearsals('compute1') or []
    assert (out.direction, out.peer, out.milliseconds, out.downtime, out.interface) == (
        'out',
        'compute2',
        812,
        7,
        'mig0',
    )
    assert (back.direction, back.peer, back.text) == ('in', 'compute2', 'Permission denied')


def test_metrics() -> None:
    text = rehearsalmetrics.text([trial(back=True, returned=FAILED)])
    samples = {
        line.rpartition(' ')[0]: float(line.rpartition(' ')[2])
        for line in text.splitlines()
        if not line.startswith('#')
    }
    there, back = '{source="compute1",target="compute2"}', '{source="compute2",target="compute1"}'
    name = 'nova_migcheck_rehearsal_'
    assert samples.pop(f'{name}timestamp_seconds') > 0
    assert samples == {
        f'{name}arrived{there}': 1,
        f'{name}arrived{back}': 0,
        f'{name}foreseen{there}': 1,
        f'{name}seconds{there}': 0.812,
        f'{name}seconds{back}': 0.1,
        f'{name}downtime_seconds{there}': 0.007,
        f'{name}rate_bytes{there}': 118 * MIB,
    }
