# SPDX-License-Identifier: Apache-2.0
"""What several ledgers tell together."""

from __future__ import annotations

from typing import Any

from nova_migcheck.aftermath import accounts
from nova_migcheck.report.past import Past

TIME = 1_764_000_000


def decided(
    host: str = 'compute2', rejections: tuple[str, ...] = (), **values: Any
) -> dict[str, Any]:
    return {
        'kind': 'decision',
        'time': TIME,
        'host': host,
        'instance': 'a',
        'source': 'compute1',
        'target': 'compute2',
        'verdict': 'rejected' if rejections else 'accepted',
        'rejections': list(rejections),
        'mode': 'report',
        **values,
    }


def ended(
    host: str = 'compute2', how: str = 'completed', error: str = '', **values: Any
) -> dict[str, Any]:
    return {
        'kind': 'outcome',
        'time': TIME + 5,
        'host': host,
        'instance': 'a',
        'source': 'compute1',
        'target': 'compute2',
        'ended': how,
        'error': error,
        **values,
    }


def rehearsed(target: str = 'compute2', **values: Any) -> dict[str, Any]:
    return {
        **decided('compute1', target=target),
        **ended('compute1', kind='rehearsal', target=target),
        **values,
    }


def counted(*ledgers: list[dict[str, Any]]) -> dict[str, tuple[int, int, int, int]]:
    return {
        check: (one.decided, one.untried, one.worked, one.failed)
        for check, one in accounts.by_check(accounts.moves(ledgers)).items()
    }


def test_a_rejection_is_not_tried_unless_the_mode_is_report() -> None:
    assert counted([decided(rejections=('cpu cpu-vendor',))]) == {'cpu': (1, 1, 0, 0)}
    assert counted([decided(rejections=('cpu cpu-vendor',)), ended()]) == {'cpu': (1, 0, 1, 0)}
    assert counted(
        [decided(rejections=('cpu cpu-vendor', 'address address-mtu')), ended(how='failed')]
    ) == {'address': (1, 0, 0, 1), 'cpu': (1, 0, 0, 1)}


def test_an_accepted_one_that_fails_and_with_which_words() -> None:
    found = accounts.moves(
        [
            [decided(instance=name) for name in 'abc']
            + [
                ended(instance='a', how='failed', error='No route to host'),
                ended(instance='b', how='failed', error='No route to host'),
                ended(instance='c', how='strayed'),
            ]
        ]
    )
    account = accounts.by_check(found)['(accepted)']
    assert (account.decided, account.failed, account.texts()) == (
        3,
        3,
        ['2 x No route to host', '1 x strayed'],
    )


def test_both_hosts_of_one_migration_are_one() -> None:
    """The target rejects, the source accepts: it is the target's rejection that was right."""
    target = [
        decided(rejections=('address address-mtu',)),
        ended(how='failed', error='rolled back'),
    ]
    source = [decided('compute1'), ended('compute1', 'failed', 'No route to host')]
    for both in ((target, source), (source, target)):
        assert counted(*both) == {'address': (1, 0, 0, 1)}
        [one] = accounts.moves(both)
        assert one.hosts == {'compute1', 'compute2'} and one.error == 'No route to host'
    # Not the same one an hour later, nor twice in one ledger.
    later = [{**entry, 'time': entry['time'] + 3600} for entry in source]
    assert counted(target, later) == {'address': (1, 0, 0, 1), '(accepted)': (1, 0, 0, 1)}
    assert counted(target + target) == {'address': (2, 0, 0, 2)}


def test_a_clock_that_was_set_back_between_the_two_lines() -> None:
    assert counted([decided(), ended(time=TIME - 100_000)]) == {'(accepted)': (1, 0, 1, 0)}


def test_an_outcome_without_a_decision_and_one_that_was_cancelled() -> None:
    assert counted([ended()]) == {'(no decision)': (1, 0, 1, 0)}
    assert counted([decided(), ended(how='cancelled')]) == {'(accepted)': (1, 0, 0, 0)}


def test_what_a_host_has_published() -> None:
    one = accounts.of_past(
        'compute2', Past(TIME, 'in', '2f0f1c4e8a4b', 'compute1', 'failed', text='No route to host')
    )
    assert (one.source, one.target, one.ended, one.error) == (
        'compute1',
        'compute2',
        'failed',
        'No route to host',
    )


def test_a_forged_ledger_says_nonsense_at_most() -> None:
    nonsense: list[Any] = [None, 7, [], {}, 'x\x1b[2J', [7, None]]
    entries = [
        {
            'kind': kind,
            'time': 1.0,
            **dict.fromkeys(
                ('host', 'instance', 'source', 'target', 'verdict', 'rejections', 'ended', 'error'),
                value,
            ),
        }
        for kind in ('decision', 'outcome', 'rehearsal')
        for value in nonsense
    ]
    for one in (*accounts.moves([entries]), *accounts.rehearsals([entries])):
        assert '\x1b' not in str(one.to_dict())
    for rate in (None, [], {}, '7', -1, 1.5, True, 1e400, 1 << 80):
        [one] = accounts.rehearsals([[rehearsed(rate=rate)]])
        assert one.rate is None


def test_rehearsals_stand_apart_from_migrations() -> None:
    """Each says what the checks had foreseen, and what came of it, on one line."""
    lines = [
        decided(),
        rehearsed(verdict='rejected', rejections=['transport transport-login'], ended='failed',
                  error='authentication failed'),
        ended(),
        rehearsed('compute3'),
    ]
    assert counted(lines) == {'(accepted)': (1, 0, 1, 0)}
    accounted = accounts.by_check(accounts.rehearsals([lines]))
    assert {check: (one.decided, one.worked, one.failed) for check, one in accounted.items()} == {
        '(accepted)': (1, 1, 0),
        'transport': (1, 0, 1),
    }


def test_the_matrix_has_the_last_rate_of_each_way() -> None:
    mib = 1 << 20
    lines = [
        rehearsed(time=TIME + 9, rate=118 * mib),
        rehearsed(time=TIME, rate=7 * mib),
        rehearsed('compute3', rate=None),
        rehearsed(time=TIME + 10),
        rehearsed('compute1', source='compute2', rate=113 * mib + mib // 2),
    ]
    rates = accounts.rates(accounts.rehearsals([lines]))
    assert accounts.matrix(rates) == (
        ['compute1', 'compute2'],
        [['compute1', '', '118.0'], ['compute2', '113.5', '']],
    )
    assert accounts.matrix({}) == ([], [])
