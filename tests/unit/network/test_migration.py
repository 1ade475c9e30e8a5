# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_migcheck.finding import Outcome
from nova_migcheck.network import migration as networks
from nova_migcheck.network.migration import HostMigration


def host(name: str, **values: Any) -> dict:
    return {
        'host': name,
        'networks': ['10.77.0.0/24'],
        'intended_by': 'live_migration_inbound_addr',
        'mtu': 1500,
        'interface': 'mig0',
        'option_networks': [],
        **values,
    }


GUESSED = {'intended_by': 'my_ip'}
BOTH = ['10.77.0.0/24', '10.88.0.0/24']


@pytest.mark.parametrize(
    'source, target',
    [
        ({}, {}),
        ({}, GUESSED),
        ({'networks': BOTH}, {}),
        ({'networks': ['fd77::/64', '10.77.0.0/24']}, {}),
        # Another prefix: perhaps routed, which the route from the source tells.
        ({}, {'networks': ['10.88.0.0/24']}),
        ({}, {'networks': ['10.88.0.0/24'], 'mtu': 9000}),
        # K6: routed, and both are listed.
        ({'option_networks': BOTH}, {'networks': ['10.88.0.0/24'], 'option_networks': BOTH}),
        ({'option_networks': BOTH}, {'networks': ['10.88.0.0/24']}),
        ({'option_networks': ['10.0.0.0/8']}, {'networks': ['10.88.0.0/25']}),
        # my_ip says nothing about migrations.
        ({'option_networks': ['10.77.0.0/24']}, {**GUESSED, 'networks': ['10.66.0.0/24']}),
        (GUESSED, {'networks': ['fd77::/64']}),
        ({'mtu': None}, {}),
        ({'networks': []}, {'mtu': 9000}),
    ],
)
def test_meet_or_cannot_be_told(source: dict, target: dict) -> None:
    assert networks.compare(host('a', **source), host('b', **target)) == []
    assert networks.compare(host('b', **target), host('a', **source)) == []


def test_target_outside_of_the_listed_networks() -> None:
    (found,) = networks.compare(
        host('a', option_networks=['10.77.0.0/24']),
        host('b', networks=['10.66.0.0/24'], interface='mgmt0'),
    )
    assert found.outcome is Outcome.FAILURE and found.check == 'address'
    for word in (
        'b',
        '10.66.0.0/24',
        'mgmt0',
        '10.77.0.0/24',
        '[migcheck] migration_networks of a',
    ):
        assert word in str(found)


def test_source_outside_of_the_networks_that_the_target_lists() -> None:
    (found,) = networks.compare(
        host('a', networks=['10.66.0.0/24'], interface='mgmt0'),
        host('b', option_networks=['10.77.0.0/24']),
    )
    assert found.outcome is Outcome.FAILURE and found.detail.startswith('a migrates over 10.66')
    assert found.origin == '[migcheck] migration_networks of b'


def test_hosts_without_a_name() -> None:
    for source, target, text in (
        ({'networks': ['10.66.0.0/24']}, {'option_networks': BOTH}, 'the source'),
        ({'option_networks': BOTH}, {'networks': ['10.66.0.0/24']}, 'the target'),
    ):
        (found,) = networks.compare(host('', **source), host('', **target))
        assert found.detail.startswith(f'{text} migrates over 10.66.0.0/24 on mig0')


@pytest.mark.parametrize('guessed, outcome', [({}, Outcome.FAILURE), (GUESSED, Outcome.WARNING)])
def test_mtu(guessed: dict, outcome: Outcome) -> None:
    (found,) = networks.compare(host('a'), host('b', mtu=9000, **guessed))
    assert found.outcome is outcome
    assert '1500' in found.detail and '9000' in found.detail


def test_no_common_ip_version_is_unknown() -> None:
    (found,) = networks.compare(host('a'), host('b', networks=['fd77::/64']))
    assert found.outcome is Outcome.UNKNOWN


def test_fact_comes_back_as_it_was() -> None:
    fact = HostMigration.from_json(
        {
            'host': 'a',
            'libvirt_host': 'a.example.org',
            'inbound': 'a-mig',
            'addresses': ['10.77.0.11', 'fd77::11'],
            'others': {'10.66.0.11': 'mgmt0'},
            'complete': True,
            'interface': 'mig0',
            'networks': ['10.77.0.0/24'],
            'intended_by': 'migration_networks',
            'mtu': 9000,
            'option_networks': ['10.77.0.0/24'],
            'qemu_ports': [50000, 50009],
            'daemon': 'virtproxyd',
            'libvirt_verifies': False,
            'qemu_verifies': True,
        }
    )
    assert (fact.daemon, fact.libvirt_verifies, fact.qemu_verifies) == ('virtproxyd', False, True)
    assert HostMigration.from_json(json.loads(json.dumps(fact.to_json()))) == fact
    assert len(json.dumps(fact.to_json())) < 500
    assert HostMigration.from_json(HostMigration().to_json()) == HostMigration()


@pytest.mark.parametrize('value', [None, 'a daemon', 7, ['libvirtd'], 1])
def test_of_the_daemon_only_what_is_known_is_taken(value: Any) -> None:
    """Older reports say nothing of it."""
    fact = HostMigration.from_json(
        host('a', daemon=value, libvirt_verifies=value, qemu_verifies=value)
    )
    assert (fact.daemon, fact.libvirt_verifies, fact.qemu_verifies) == ('', None, None)
    assert HostMigration.from_json(host('a')).daemon == ''


_SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(['10.0.0.0/8', '::/0', '10.0.0.1'])
)
_ANY = _SCALAR | st.lists(_SCALAR, max_size=3) | st.dictionaries(st.text(), _SCALAR, max_size=3)
_FACT = _ANY | st.fixed_dictionaries({}, optional=dict.fromkeys(HostMigration().to_json(), _ANY))


@given(_FACT, _FACT)
def test_whatever_another_host_says_is_survived(source: Any, target: Any) -> None:
    for finding in networks.compare(source, target):
        assert finding.check == 'address'


WHOLE = {
    'host': 'a',
    'libvirt_host': 'a.example',
    'inbound': 'mig',
    'addresses': ['10.77.0.11'],
    'others': {'10.66.0.11': 'mgmt0'},
    'complete': True,
    'interface': 'mig0',
    'networks': ['10.77.0.0/24'],
    'intended_by': 'my_ip',
    'mtu': 9000,
    'option_networks': ['10.0.0.0/8'],
    'qemu_ports': [50000, 50009],
    'daemon': 'virtproxyd',
    'libvirt_verifies': False,
    'qemu_verifies': True,
}
NOTHING = {
    'host': '',
    'libvirt_host': None,
    'inbound': None,
    'addresses': [],
    'others': {},
    'complete': False,
    'interface': None,
    'networks': [],
    'intended_by': '',
    'mtu': None,
    'option_networks': [],
    'qemu_ports': [49152, 49215],
    'daemon': None,
    'libvirt_verifies': None,
    'qemu_verifies': None,
}


@pytest.mark.parametrize('listens, ip, waits', [
    ([], '10.77.0.12', True), (['10.77.0.12'], '10.77.0.12', True), (['10.66.0.12'], '10.77.0.12', False),
    (['10.66.0.12', '10.77.0.12'], '10.77.0.12', True), (['0.0.0.0'], '10.77.0.12', True), (['0.0.0.0'], 'fd77::12', False),
    (['::'], '10.77.0.12', True), (['::'], 'fd77::12', True), (['fd77::12'], 'FD77:0::12', True), (['x', None], '10.77.0.12', True)])
def test_where_the_targets_qemu_waits(listens: list, ip: str, waits: bool) -> None:
    read = HostMigration.from_json({'qemu_listens': listens})
    assert read.qemu_waits_at(ipaddress.ip_address(ip)) == waits
    assert HostMigration.from_json(read.to_json()) == read


def test_a_fact_is_read_as_it_was_written() -> None:
    assert HostMigration.from_json(WHOLE).to_json() == WHOLE
    for nothing in ({}, None, [], 'x'):
        assert (
            HostMigration.from_json(nothing).to_json() == NOTHING
            and HostMigration.from_json(nothing) == HostMigration()
        )
    found = HostMigration.from_json(WHOLE)
    assert (found.host, found.libvirt_host, found.inbound, found.interface, found.daemon) == (
        'a',
        'a.example',
        'mig',
        'mig0',
        'virtproxyd',
    )
    assert found.complete is True and found.mtu == 9000 and found.qemu_ports == (50000, 50009)
    assert list(map(str, found.addresses + found.networks + found.option_networks)) == [
        '10.77.0.11',
        '10.77.0.0/24',
        '10.0.0.0/8',
    ]


@pytest.mark.parametrize(
    'name, value, read',
    [
        ('complete', 1, False),
        ('complete', 'yes', False),
        ('mtu', 0, None),
        ('mtu', 1, 1),
        ('mtu', -1, None),
        ('mtu', (1 << 20) - 1, (1 << 20) - 1),
        ('mtu', 1 << 20, None),
        ('mtu', '1500', None),
        ('daemon', 'libvirtd', 'libvirtd'),
        ('daemon', 'virtqemud', None),
        ('daemon', 3, None),
        ('host', 'x' * 255, 'x' * 255),
        ('host', 'x' * 256, 'x' * 255),
        ('host', 3, ''),
        ('qemu_verifies', 1, None),
        ('qemu_ports', [1, 65535], [1, 65535]),
        ('qemu_ports', [0, 9], [49152, 49215]),
        ('qemu_ports', [9, 65536], [49152, 49215]),
        ('qemu_ports', [9, 8], [49152, 49215]),
        ('qemu_ports', [9, 9], [9, 9]),
        ('qemu_ports', [1], [49152, 49215]),
        ('qemu_ports', [True, 9], [49152, 49215]),
        ('qemu_ports', ['1', 9], [49152, 49215]),
        ('qemu_ports', 7, [49152, 49215]),
        ('addresses', ['x', 3, None, '10.0.0.1'], ['10.0.0.1']),
        ('addresses', '10.0.0.1', []),
        ('addresses', [f'10.0.0.{n}' for n in range(40)], [f'10.0.0.{n}' for n in range(32)]),
        ('networks', ['10.0.0.1/24', 'x', 3], ['10.0.0.0/24']),
        ('networks', None, []),
        ('others', [1], {}),
        ('others', {'x': 'a', '10.0.0.1': 3}, {'10.0.0.1': ''}),
        (
            'others',
            {f'10.0.0.{n}': 'a' for n in range(40)},
            {f'10.0.0.{n}': 'a' for n in range(32)},
        ),
    ],
)
def test_values_of_another_version(name: str, value: object, read: object) -> None:
    assert HostMigration.from_json({**WHOLE, name: value}).to_json() == {**WHOLE, name: read}


@pytest.mark.parametrize(
    'rule, stated', [('my_ip', False), ('', False), ('migration_networks', True)]
)
def test_whether_an_operator_has_stated_it(rule: str, stated: bool) -> None:
    assert HostMigration(intended_by=rule).stated is stated


@pytest.mark.parametrize(
    'here, there, told',
    [(1500, 1500, False), (1500, 9000, True), (None, 9000, False), (1500, None, False)],
)
def test_two_mtus(here: object, there: object, told: bool) -> None:
    found = networks.compare(host('a', mtu=here), host('', mtu=there, interface=None))
    assert bool(found) is told
    if told:
        assert (
            'MTU 1500 on mig0 of a but 9000 on the migration interface of the target, both in 10.77.0.0/24'
            in found[0].detail
        )


def test_no_ip_version_in_common() -> None:
    (found,) = networks.compare(host('a'), host('', networks=['fd77::/64']))
    assert (found.outcome, found.code) == (Outcome.UNKNOWN, 'address-ip-version')
    assert (
        'a migrates over 10.77.0.0/24 on mig0 and the target migrates over fd77::/64 on mig0'
        in found.detail
    )
    assert networks.compare(host('a', networks=['fd77::/64', '10.88.0.0/24']), host('b')) == []
    assert networks.compare(host('a', **GUESSED), host('b', networks=['fd77::/64'])) == []
