# SPDX-License-Identifier: Apache-2.0
"""Each way in which this host's own addresses can be wrong, and its nearest healthy case."""

from __future__ import annotations

import ipaddress
from typing import Any, Optional

import pytest

from nova_migcheck.checksettings import Settings
from nova_migcheck.finding import Outcome
from nova_migcheck.network import ownaddresses
from nova_migcheck.network.intent import Intent
from nova_migcheck.network.interfaces import Address, Route
from nova_migcheck.network.resolver import Answer, resolve
from tests.unit.network.made_up import LINKS, Kernel, address, answer, hosts, ip, network

NET = ipaddress.ip_network('10.77.0.0/24')
MIG = Intent('migration_interface', 'by interface', (LINKS[3],), (ip('10.77.0.11'),), (NET,))
MY_IP = Intent('my_ip', 'by my_ip', (LINKS[3],), (ip('10.77.0.11'),), (NET,))
INBOUND = Intent(
    'live_migration_inbound_addr', 'by inbound', (LINKS[3],), (ip('10.77.0.11'),), (NET,)
)
LISTED = Intent(
    'migration_networks', 'by networks', (LINKS[3],), (ip('10.77.0.11'),), (NET,), listed=(NET,)
)
BOTH = Intent(
    'live_migration_inbound_addr', '', (LINKS[2], LINKS[3]), (ip('10.66.0.11'), ip('10.77.0.11'))
)


def own(
    intended: Intent = MIG,
    more: Any = (),
    lines: Any = (),
    routes: Any = (),
    answers: Any = (),
    **links: Any,
) -> ownaddresses.OwnAddresses:
    return ownaddresses.OwnAddresses(
        Settings(host='compute1'),
        Kernel(dict(routes)),
        network(*more, **links),
        hosts(*lines),
        {one.name: one for one in answers},
        intended,
    )


def codes(findings: Any) -> list:
    return [(f.outcome.value, f.code.partition('-')[2]) for f in findings]


WELL = [('ok', '')]
TEMPORARY = address('fd77::99/64', 3, temporary=True)


@pytest.mark.parametrize(
    'addresses, values, expected',
    [
        (['10.77.0.11'], {}, WELL),
        (['10.77.0.11'], {'literal': False}, WELL),
        (['127.0.0.1'], {}, [('failure', 'loopback')]),
        (
            ['127.0.1.1'],
            {'literal': False},
            [('warning', 'loopback')],
        ),  # other hosts may resolve it in another way
        (['fe80::1'], {}, [('failure', 'link-local')]),
        (['10.99.0.1'], {}, [('failure', 'not-here')]),
        (
            ['10.99.0.1'],
            {'routes': {'10.99.0.0/24': Route('unicast', 3)}},
            [('failure', 'not-here')],
        ),
        (['10.99.0.1'], {'routes': {'10.99.0.0/24': Route('local', 1)}}, WELL),
        (
            ['10.99.0.1'],
            {'routes': {'10.99.0.0/24': Route('local', 1)}, 'intended': LISTED},
            [('failure', 'wrong-interface')],
        ),
        (
            ['10.77.0.12'],
            {'more': [address('10.77.0.12/24', 3, duplicate=True)]},
            [('failure', 'duplicate')],
        ),
        (['10.66.0.11'], {}, [('failure', 'wrong-interface')]),
        (['10.66.0.11'], {'intended': Intent('migration_interface', '')}, WELL),
        (['10.66.0.11'], {'intended': BOTH}, WELL),
        (
            ['10.88.0.1'],
            {'more': [address('10.88.0.1/24', 3)], 'intended': LISTED},
            [('failure', 'wrong-interface')],
        ),
        (['10.88.0.1'], {'more': [address('10.88.0.1/24', 3)]}, WELL),
        (
            ['10.88.0.1'],
            {'more': [address('10.88.0.1/32', 5)]},
            WELL,
        ),  # on dummy0: routed to the host
        (['10.88.0.1'], {'more': [address('10.88.0.1/32', 1)]}, WELL),
        (
            ['10.88.0.1'],
            {'more': [address('10.88.0.1/32', 5), address('10.88.0.1/32', 4)]},
            [('failure', 'wrong-interface')],
        ),
        (['10.88.0.1'], {'more': [address('10.88.0.1/32', 99)]}, [('failure', 'wrong-interface')]),
        (['10.88.0.1'], {'more': [address('10.88.0.1/24', 3), address('10.88.0.1/24', 4)]}, WELL),
        (['fd77::99'], {'more': [TEMPORARY]}, [('warning', 'temporary')]),
        (['fd77::99'], {'more': [TEMPORARY, address('fd77::99/64', 4)]}, WELL),
        (['10.77.0.11', '10.99.0.1'], {'literal': False}, [('failure', 'not-here')]),
    ],
)
def test_the_inbound_address(addresses: Any, values: Any, expected: list) -> None:
    values = dict(values)
    literal = values.pop('literal', True)
    assert codes(own(**values).inbound(answer('mig', *addresses, literal=literal))) == expected


@pytest.mark.parametrize(
    'written, expected',
    [
        ('2001:DB8:0::5', WELL),
        ('2001:db8:0:0:0:0:0:5', WELL),
        ('2001:DB8:0::6', [('failure', 'not-here')]),
    ],
)
def test_w6_an_ipv6_address_in_another_form(written: str, expected: list) -> None:
    """Row W6: as the operator has written it, and as the kernel says it."""
    (found,) = resolve([written], 1.0).values()
    intended = Intent('migration_interface', '', (LINKS[3],))
    here = own(more=[address('2001:db8::5/64', 3)], intended=intended)
    assert codes(here.inbound(found)) == expected


@pytest.mark.parametrize('timed_out, outcome', [(True, 'unknown'), (False, 'warning')])
def test_names_that_do_not_resolve(timed_out: bool, outcome: str) -> None:
    gone = answer('compute1', error='no such name', timed_out=timed_out)
    for found in (own().inbound(gone), own().own_names([gone])):
        (one,) = found
        assert (one.outcome.value, one.code) == (
            outcome,
            'address-unresolved',
        ) and 'no such name' in one.detail


def test_the_texts_of_an_inbound_address() -> None:
    (one,) = own(lines=[('10.66.0.11', 'mig')]).inbound(answer('mig', '10.66.0.11'))
    for words in (
        'live_migration_inbound_addr mig resolves to 10.66.0.11 (/etc/hosts:1)',
        ': 10.66.0.11 is on mgmt0',
        'mig0 (by by interface)',
    ):
        assert words in one.detail
    assert 'use an address of mig0: 10.77.0.11' in one.remedy and one.subject == '10.66.0.11'
    assert one.origin == 'default of [libvirt] live_migration_inbound_addr'
    (one,) = own().inbound(answer('10.66.0.11', '10.66.0.11', literal=True))
    assert one.detail.startswith('live_migration_inbound_addr: 10.66.0.11 is on mgmt0')
    (one,) = own(intended=LISTED, routes={'10.99.0.0/24': Route('local', 1)}).inbound(
        answer('x', '10.99.0.1', literal=True)
    )
    assert 'no interface, only routed' in one.detail
    (one,) = own().inbound(answer('mig', '10.77.0.11'))
    assert (
        one.detail == 'mig is 10.77.0.11 on mig0 (by by interface)'
        and one.subject == 'live_migration_inbound_addr'
    )


@pytest.mark.parametrize(
    'intended, links, inbound, expected',
    [
        (MIG, {}, [], []),
        (MIG, {'mig0': {'up': False}}, [], [('failure', 'link-down')]),
        (MIG, {'mig0': {'carrier': False}}, [], [('failure', 'link-down')]),
        (MY_IP, {'mig0': {'up': False}}, [], [('warning', 'link-down')]),
        (BOTH, {'mig0': {'up': False}}, [], [('warning', 'link-down')]),
        (BOTH, {'mig0': {'up': False}}, ['10.66.0.11'], [('warning', 'link-down')]),
        (BOTH, {'mig0': {'up': False}}, ['10.77.0.11'], [('failure', 'link-down')]),
        (
            BOTH,
            {'mig0': {'up': False}, 'mgmt0': {'carrier': False}},
            [],
            [('failure', 'link-down')] * 2,
        ),
        (
            Intent('migration_interface', '', problem='gone'),
            {},
            [],
            [('failure', 'interface-missing')],
        ),
        (Intent('my_ip', '', problem='gone'), {}, [], [('warning', 'interface-missing')]),
        (
            Intent('migration_interface', '', problem='gone', certain=False),
            {},
            [],
            [('unknown', 'interface-missing')],
        ),
        (Intent('live_migration_inbound_addr', '', problem='gone'), {}, [], []),
    ],
)
def test_the_interfaces(intended: Intent, links: Any, inbound: list, expected: list) -> None:
    changed = network(**links)
    intended = Intent(
        **{
            **vars(intended),
            'interfaces': tuple(changed.interface(link.index) for link in intended.interfaces),
        }
    )
    assert (
        codes(own(intended=intended, **links).interfaces([ip(text) for text in inbound]))
        == expected
    )


def test_the_texts_of_a_dead_link() -> None:
    for values, words, remedy in (
        ({'up': False, 'carrier': False}, 'is down', 'bring mig0 up'),
        ({'carrier': False}, 'has no carrier', 'cable'),
    ):
        dead = network(mig0=values).interface('mig0')
        (one,) = own(intended=Intent('migration_interface', 'o', (dead,))).interfaces([])
        assert (
            words in one.detail
            and remedy in one.remedy
            and (one.subject, one.origin) == ('mig0', 'o')
        )


TWICE = [('10.66.0.11', 'compute1'), ('10.77.0.11', 'compute1')]
LOOP = [('127.0.1.1', 'compute1'), ('10.77.0.11', 'compute1')]


@pytest.mark.parametrize(
    'addresses, values, expected',
    [
        (['10.77.0.11'], {}, WELL),
        (['10.66.0.11'], {}, [('warning', 'wrong-interface')]),
        (['10.66.0.11'], {'intended': MY_IP}, WELL),  # a guess
        (['10.99.0.1'], {'intended': MY_IP}, [('warning', 'not-here')]),
        (['127.0.1.1'], {}, [('warning', 'loopback')]),
        (
            ['10.66.0.11', '10.77.0.11'],
            {'intended': INBOUND},
            [('failure', 'ambiguous'), ('warning', 'wrong-interface')],
        ),
        (['10.66.0.11', '10.77.0.11'], {'intended': MIG}, [('warning', 'wrong-interface')]),
        (['127.0.0.1', '10.77.0.11'], {'intended': INBOUND}, [('warning', 'loopback')]),
        (
            ['10.66.0.11', '10.77.0.11'],
            {'lines': TWICE},
            [('failure', 'hosts-conflict'), ('warning', 'wrong-interface')],
        ),
        (
            ['10.66.0.11', '10.77.0.11'],
            {'lines': TWICE, 'intended': BOTH},
            [('failure', 'hosts-conflict')],
        ),
        (
            ['10.77.0.11', '10.77.0.12'],
            {
                'lines': [('10.77.0.11', 'compute1'), ('10.77.0.12', 'compute1')],
                'more': [address('10.77.0.12/24', 3)],
            },
            [('warning', 'hosts-conflict')],
        ),
        (
            ['10.77.0.11', '10.77.0.12'],
            {
                'lines': [('10.77.0.11', 'compute1'), ('10.77.0.12', 'compute1')],
                'intended': INBOUND,
                'more': [address('10.77.0.12/24', 3)],
            },
            [('warning', 'hosts-conflict')],
        ),
        (['127.0.1.1', '10.77.0.11'], {'lines': LOOP}, [('warning', 'hosts-conflict')]),
    ],
)
def test_an_own_name(addresses: Any, values: Any, expected: list) -> None:
    assert codes(own(**values).own_names([answer('compute1', *addresses)])) == expected


def test_the_texts_of_an_own_name() -> None:
    (one,) = own(lines=LOOP).own_names([answer('compute1', '127.0.1.1', '10.77.0.11')])
    assert (
        'line 1 says 127.0.1.1, line 2 says 10.77.0.11; 127.0.1.1 is tried first' in one.detail
        and one.origin == '/etc/hosts:1'
    )
    (one,) = own(lines=LOOP).own_names([answer('compute1', '10.77.0.11', '127.0.1.1')])
    assert '10.77.0.11 is tried first' in one.detail
    (one,) = own().own_names([answer('compute1', '10.77.0.11')])
    assert (one.origin, one.detail) == ('[DEFAULT] host', 'compute1 is 10.77.0.11')
    assert next(own().own_names([answer('node1', '10.77.0.11')])).origin == 'host name'
    (one,) = own().own_names([answer('compute1', '10.66.0.11')])
    assert 'compute1 resolves to 10.66.0.11 (resolver): 10.66.0.11 is on mgmt0' in one.detail
    first, _other = own(intended=INBOUND).own_names(
        [answer('compute1', '10.66.0.11', '10.77.0.11')]
    )
    assert 'on mgmt0 and mig0: 10.66.0.11, 10.77.0.11' in first.detail


@pytest.mark.parametrize(
    'one, other, apart',
    [
        (['10.77.0.11'], ['10.66.0.11'], True),
        (['10.77.0.11'], ['10.77.0.11'], False),
        (['10.77.0.11', '10.66.0.11'], ['10.66.0.11'], False),
        (['10.77.0.11'], ['127.0.0.1'], False),
        (['10.77.0.11'], ['10.99.0.1'], False),
    ],
)
def test_the_two_names(one: Any, other: Any, apart: bool) -> None:
    both = [answer('compute1', *one), answer('node1', *other)]
    found = [
        f
        for f in own(intended=MY_IP, answers=both).own_names(both)
        if f.code == 'address-names-apart'
    ]
    assert [f.outcome for f in found] == ([Outcome.WARNING] if apart else [])
    if apart:
        assert 'compute1 is 10.77.0.11 on mig0 but node1 is 10.66.0.11 on mgmt0' in found[0].detail


TWIN = address('10.77.0.99/24', 4)
BY_SOURCE = {
    ('10.77.0.0/24', '10.77.0.11'): Route('unicast', 3),
    ('10.77.0.0/24', '10.77.0.99'): Route('unicast', 4),
}


@pytest.mark.parametrize(
    'twin, values, arp, expected',
    [
        (TWIN, {}, True, [('failure', 'shared-subnet')]),
        (TWIN, {}, None, [('unknown', 'shared-subnet')]),
        (TWIN, {}, False, []),
        (TWIN, {'intended': MY_IP}, True, [('warning', 'shared-subnet')]),
        (TWIN, {'routes': BY_SOURCE}, True, []),
        (
            TWIN,
            {'routes': {**BY_SOURCE, ('10.77.0.0/24', '10.77.0.99'): Route('unicast', 3)}},
            True,
            [('failure', 'shared-subnet')],
        ),
        (TWIN, {'other0': {'up': False}}, True, []),
        (TWIN, {'other0': {'carrier': False}}, True, []),
        (TWIN, {'other0': {'master': 20, 'port_of': 'vrf'}}, True, []),
        (TWIN, {'other0': {'parent': 3}}, True, []),
        (TWIN, {'other0': {'master': 3}}, True, []),
        (TWIN, {'mig0': {'parent': 4}}, True, []),
        (TWIN, {'mig0': {'master': 4}}, True, []),
        (TWIN, {'other0': {'kind': 'dummy'}}, True, []),
        (address('10.77.0.99/32', 4), {}, True, []),
        (address('10.78.0.99/24', 4), {}, True, []),
        (address('10.77.0.99/24', 3), {}, True, []),
        (address('10.77.0.99/24', 99), {}, True, []),
        (address('10.66.0.99/24', 4), {}, True, []),  # another network may do what it likes
        (TWIN, {'more': [address('10.77.0.98/24', 4)]}, True, [('failure', 'shared-subnet')]),
    ],
)
def test_shared_subnets(
    monkeypatch: pytest.MonkeyPatch, twin: Address, values: Any, arp: Optional[bool], expected: list
) -> None:
    asked = []
    monkeypatch.setattr(
        ownaddresses, 'answers_arp_for_others', lambda name: asked.append(name) or arp
    )
    values = dict(values)
    values['more'] = [twin, *values.get('more', ())]
    found = list(own(**values).shared_subnets())
    assert codes(found) == expected and set(asked) <= {'other0'}
    if found:
        assert 'mig0 and other0 are both in 10.77.0.0/24' in found[0].detail
        assert found[0].origin == 'mig0 10.77.0.11, other0 10.77.0.99'


def test_ipv6_neighbours_ask_the_interface_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownaddresses, 'answers_arp_for_others', lambda name: True)
    intended = Intent('migration_interface', '', (LINKS[3],), (ip('fd77::11'),))
    more = [address('fd77::11/64', 3), address('fd77::99/64', 4)]
    assert not list(own(intended=intended, more=more).shared_subnets())


@pytest.mark.parametrize(
    'resolved, words',
    [
        (answer('cold', '10.77.0.11'), None),
        (answer('cold', error='no such name'), 'does not resolve: no such name'),
        (answer('cold', '127.0.0.1'), 'is 127.0.0.1, a loopback'),
        (answer('cold', '10.99.0.1'), 'is 10.99.0.1, which is on no interface'),
    ],
)
def test_the_cold_address(resolved: Answer, words: Optional[str]) -> None:
    found = list(own().cold(resolved))
    assert codes(found) == ([('warning', 'cold')] if words else [])
    assert not found or (
        found[0].detail.startswith(f'migration_inbound_addr cold {words}')
        and found[0].origin == 'default of [libvirt] migration_inbound_addr'
    )


def test_the_fact_for_other_hosts() -> None:
    more = [
        TEMPORARY,
        address('fe80::1/64', 3),
        address('10.88.0.1/24', 4),
        address('10.77.0.98/24', 3),
    ]
    fact = own(more=more).fact('node1', 'mig')
    assert (fact.host, fact.libvirt_host, fact.inbound, fact.intended_by) == (
        'compute1',
        'node1',
        'mig',
        'migration_interface',
    )
    # A temporary address can be used too; one more that is a candidate is not intended, or it would be among them.
    assert list(map(str, fact.addresses)) == ['10.77.0.11', 'fd77::99']
    assert {str(one): name for one, name in fact.others.items()} == {
        '10.66.0.11': 'mgmt0',
        '10.88.0.1': 'other0',
        '10.77.0.98': 'mig0',
    }
    assert (
        fact.complete
        and (fact.interface, fact.mtu) == ('mig0', 9000)
        and fact.networks == (NET,)
        and fact.option_networks == ()
    )
    assert own(intended=LISTED).fact('', '').option_networks == (NET,)
    assert own(intended=LISTED, more=more).fact('', '').addresses == (ip('10.77.0.11'),)
    both = own(intended=BOTH).fact('', '')
    assert (both.interface, both.mtu) == ('', 0)
    alike = Intent('my_ip', '', (LINKS[2], LINKS[4]))
    assert own(intended=alike).fact('', '').mtu == 1500


@pytest.mark.parametrize('count, complete', [(8, True), (9, False)])
def test_a_host_with_many_addresses(count: int, complete: bool) -> None:
    others = [address(f'10.88.0.{n}/24', 4) for n in range(1, count)]  # and the one of mgmt0
    fact = own(more=others).fact('', '')
    assert fact.complete is complete and len(fact.others) == 8
    every = tuple(ip(f'10.77.0.{n}') for n in range(1, count + 1))
    fact = own(intended=Intent('migration_networks', '', (LINKS[3],), every)).fact('', '')
    assert fact.complete is complete and len(fact.addresses) == 8


def test_a_resolver_that_does_not_answer_for_the_cold_address() -> None:
    (found,) = own().cold(Answer('cold', error='no answer within 5 s', timed_out=True))
    assert (str(found.outcome), found.code) == ('unknown', 'address-cold')
    assert 'no answer within 5 s' in found.detail
