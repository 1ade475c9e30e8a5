# SPDX-License-Identifier: Apache-2.0
"""Each way in which a name of the target can lead elsewhere, and its nearest healthy case."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from nova_migcheck.finding import Outcome
from nova_migcheck.network import targetnames
from nova_migcheck.network.intent import Intent
from nova_migcheck.network.interfaces import Route
from nova_migcheck.network.migration import HostMigration
from tests.unit.network.made_up import LINKS, Kernel, answer, hosts, ip, network

FACT = HostMigration(
    host='compute2',
    addresses=(ip('10.77.0.12'), ip('10.77.0.13')),
    complete=True,
    interface='mig0',
    others={ip('10.66.0.12'): 'mgmt0', ip('10.77.0.14'): 'mig0'},
    intended_by='migration_networks',
)
GUESS = HostMigration(**{**vars(FACT), 'intended_by': 'my_ip'})
MIG = Intent(
    'migration_interface',
    'nova.conf [migcheck] migration_interface',
    (LINKS[3],),
    (ip('10.77.0.11'),),
)
MY_IP = Intent('my_ip', '[DEFAULT] my_ip', (LINKS[3],), (ip('10.77.0.11'),))
LISTED = Intent(
    'migration_networks',
    '[migcheck] migration_networks',
    (LINKS[3],),
    (ip('10.77.0.11'),),
    listed=(ipaddress.ip_network('10.77.0.0/24'),),
)
# Migrations over the management network are intended here, and also there.
MGMT = Intent('my_ip', '[DEFAULT] my_ip', (LINKS[2],))


def names(
    fact: HostMigration = FACT,
    inbound: bool = False,
    intended: Intent = MIG,
    lines: Any = (),
    routes: Any = (),
    **links: Any,
) -> targetnames.TargetNames:
    return targetnames.TargetNames(
        'compute2', fact, inbound, Kernel(dict(routes)), network(**links), hosts(*lines), intended
    )


def found(addresses: Any, literal: bool = False, **values: Any) -> list:
    """Return outcome and code of each finding about compute2."""
    return [
        (f.outcome, f.code)
        for f in names(**values).check(answer('compute2', *addresses, literal=literal), 'resolver')
    ]


WELL = [(Outcome.OK, '')]


def failure(code: str) -> list:
    return [(Outcome.FAILURE, f'transport-{code}')]


def warning(code: str) -> list:
    return [(Outcome.WARNING, f'transport-{code}')]


@pytest.mark.parametrize(
    'addresses, values, expected',
    [
        (['10.77.0.12'], {}, WELL),
        (['10.77.0.12', '10.77.0.13'], {}, WELL),
        (['10.77.0.14'], {}, WELL),  # another address of the same interface there
        (['127.0.1.1'], {}, failure('loopback')),
        (['10.66.0.11'], {}, failure('own-address')),
        (['10.99.0.1'], {'routes': {'10.99.0.0/24': Route('local', 3)}}, failure('own-address')),
        (['10.99.0.1'], {}, failure('no-route')),
        (['10.77.0.12', '10.99.0.1'], {}, failure('no-route')),
        (['10.77.0.99'], {}, failure('wrong-address')),
        (['10.77.0.99'], {'literal': True}, WELL),  # configured on the target, which has checked it
        (['10.77.0.99'], {'fact': HostMigration()}, WELL),
        (['10.66.0.12'], {'intended': MGMT}, failure('wrong-address')),
        (['10.66.0.12'], {'intended': MGMT, 'fact': GUESS}, warning('wrong-address')),
        (['10.66.0.12'], {'literal': True}, failure('wrong-interface')),
        (['10.66.0.12'], {'literal': True, 'intended': MY_IP}, WELL),  # the target's is stated
        (
            ['10.66.0.12'],
            {'literal': True, 'intended': MY_IP, 'fact': GUESS, 'inbound': True},
            WELL,
        ),
        (
            ['10.66.0.12'],
            {'literal': True, 'intended': MY_IP, 'fact': GUESS},
            warning('wrong-interface'),
        ),
        (['10.66.0.12'], {'literal': True, 'fact': GUESS}, failure('wrong-interface')),
        (['10.66.0.12'], {'literal': True, 'intended': Intent('my_ip', '')}, WELL),
        (['10.66.0.12'], {'literal': True, 'intended': MGMT}, WELL),
        (['10.77.0.12'], {'mig0': {'up': False}}, failure('link-down')),
        (['10.77.0.12'], {'mig0': {'carrier': False}}, failure('link-down')),
        (['10.77.0.12'], {'routes': {'10.77.0.0/24': Route('unicast', 99)}}, WELL),
        (['10.77.0.12'], {'intended': LISTED}, WELL),
        (
            ['10.88.0.12'],
            {'intended': LISTED, 'literal': True, 'routes': {'10.88.0.0/24': Route('unicast', 3)}},
            failure('unlisted-network'),
        ),
        (['10.66.0.12'], {'intended': LISTED, 'fact': GUESS}, failure('wrong-interface')),
    ],
)
def test_one_name(addresses: Any, values: Any, expected: list) -> None:
    assert found(addresses, **values) == expected


def test_several_problems_of_one_address_are_one_finding() -> None:
    """The first failure gives the code, and all are in the text."""
    (one,) = names(fact=GUESS, intended=LISTED).check(answer('compute2', '10.66.0.12'), 'resolver')
    assert one.outcome is Outcome.FAILURE and one.code == 'transport-wrong-interface'
    for word in (
        'compute2 resolves to 10.66.0.12',
        'is on mgmt0 of compute2',
        'over mgmt0 from this host',
        'is outside of 10.77.0.0/24',
        'mig0 (10.77.0.12, 10.77.0.13)',
    ):
        assert word in one.detail
    assert one.detail.count('; 10.66.0.12 is ') == 2


def test_the_state_of_a_link_and_where_a_line_is() -> None:
    lines = [('10.66.0.12', 'x'), ('10.77.0.12', 'compute2')]
    (one,) = names(lines=lines, mig0={'up': False, 'carrier': False}).check(
        answer('compute2', '10.77.0.12'), 'resolver'
    )
    assert (
        'over mig0, which is down' in one.detail
        and one.origin == '/etc/hosts:2'
        and 'hosts file' in one.remedy
    )
    (one,) = names(mig0={'carrier': False}).check(
        answer('10.77.0.12', '10.77.0.12', literal=True), 'nova.conf'
    )
    assert 'over mig0, which has no carrier' in one.detail and one.detail.startswith(
        '10.77.0.12 is'
    )
    assert one.origin == 'nova.conf' and 'live_migration_inbound_addr on compute2' in one.remedy


@pytest.mark.parametrize('timed_out, outcome', [(True, Outcome.UNKNOWN), (False, Outcome.FAILURE)])
def test_a_name_that_does_not_resolve(timed_out: bool, outcome: Outcome) -> None:
    (one,) = names().check(
        answer('compute2', error='no such name', timed_out=timed_out), 'resolver'
    )
    assert (one.outcome, one.code, one.origin) == (outcome, 'transport-unresolved', 'resolver')
    assert 'no such name' in one.detail


def test_a_name_that_is_well() -> None:
    (one,) = names().check(answer('compute2', '10.77.0.12', '10.77.0.13'), 'resolver')
    assert one.detail == 'compute2 is 10.77.0.12, 10.77.0.13 over mig0'


TWO_LINES = [('10.77.0.13', 'compute2'), ('10.77.0.12', 'compute2')]


@pytest.mark.parametrize(
    'lines, resolved, expected',
    [
        (TWO_LINES, ['10.77.0.12', '10.77.0.13'], warning('hosts-conflict') + WELL),
        ([('10.77.0.12', 'compute2')], ['10.77.0.12'], WELL),
        (
            [*TWO_LINES, ('10.77.0.14', 'compute2')],
            ['10.77.0.12', '10.77.0.13', '10.77.0.14'],
            failure('hosts-conflict') + WELL,
        ),
        (
            [('10.77.0.12', 'compute2'), ('10.77.0.99', 'compute2')],
            ['10.77.0.12', '10.77.0.99'],
            failure('hosts-conflict') + failure('wrong-address'),
        ),
    ],
)
def test_lines_of_the_hosts_file(lines: Any, resolved: Any, expected: list) -> None:
    assert found(resolved, lines=lines) == expected


def test_the_address_that_is_tried_first() -> None:
    one, _well = names(lines=TWO_LINES).check(
        answer('compute2', '10.77.0.12', '10.77.0.13'), 'resolver'
    )
    assert '10.77.0.12 is tried first' in one.detail and one.origin == '/etc/hosts:1'
    assert 'line 1 says 10.77.0.13, line 2 says 10.77.0.12' in one.detail


@pytest.mark.parametrize(
    'connect, data, intended, apart',
    [
        (['10.77.0.12'], ['10.66.0.12'], MIG, True),
        (['10.77.0.12'], ['10.77.0.13'], MIG, False),
        (['10.77.0.12', '10.66.0.12'], ['10.66.0.12'], MIG, False),
        (['10.77.0.12'], ['127.0.0.1'], MIG, False),  # a finding of its own
        (['10.66.0.11'], ['10.66.0.12'], MIG, False),
        (['10.77.0.12'], ['10.66.0.12'], LISTED, True),
        (['10.77.0.12'], ['10.77.0.13'], LISTED, False),
        (['10.77.0.12'], ['10.99.0.1'], MIG, True),
    ],
)
def test_two_names(connect: Any, data: Any, intended: Intent, apart: bool) -> None:
    results = list(names(intended=intended).compare(answer('a', *connect), answer('b', *data)))
    assert [(f.outcome, f.code) for f in results] == (failure('names-apart') if apart else [])
    if apart:
        assert f'a is {connect[0]} over mig0 but b is {data[0]} over' in results[0].detail


def test_two_names_in_networks_that_are_both_listed() -> None:
    both = Intent(
        'migration_networks', '', (LINKS[2], LINKS[3]), listed=(ipaddress.ip_network('10.0.0.0/8'),)
    )
    assert not list(
        names(intended=both).compare(answer('a', '10.77.0.12'), answer('b', '10.66.0.12'))
    )


def test_only_addresses_of_others_are_named() -> None:
    (one,) = names().compare(answer('a', '10.77.0.12', '127.0.0.1'), answer('b', '10.66.0.12'))
    assert 'a is 10.77.0.12, 127.0.0.1 over mig0 but' in one.detail


def test_a_route_in_the_vrf_of_the_intended_interface() -> None:
    intended = Intent('migration_interface', '', (LINKS[8],))
    fact = HostMigration(addresses=(ip('10.88.0.12'),), complete=True)
    inside = {('10.88.0.0/24', 20): Route('unicast', 8)}
    for outside in ({}, {'10.88.0.0/24': Route('unicast', 2)}):
        assert (
            found(['10.88.0.12'], fact=fact, intended=intended, routes={**inside, **outside})
            == WELL
        )
    elsewhere = {('10.88.0.0/24', 20): Route('unicast', 4), '10.88.0.0/24': Route('unicast', 2)}
    assert found(['10.88.0.12'], fact=fact, intended=intended, routes=elsewhere) == failure(
        'wrong-interface'
    )
    assert found(['10.88.0.12'], fact=fact, intended=intended) == failure('no-route')


def test_the_kernel_is_asked_once_for_each_address() -> None:
    asked = []
    one = names()
    route = one.kernel.route
    one.kernel.route = lambda to, **how: asked.append(to) or route(to, **how)
    list(one.check(answer('compute2', '10.77.0.12'), ''))
    list(one.check(answer('compute2.example', '10.77.0.12'), ''))
    assert asked == [ip('10.77.0.12')]
