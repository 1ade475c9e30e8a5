# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_migcheck.finding import Outcome
from nova_migcheck.network import migration as networks
from nova_migcheck.network.migration import HostMigration


def host(name: str, **values: Any) -> dict:
    return {'host': name, 'networks': ['10.77.0.0/24'],
            'intended_by': 'live_migration_inbound_addr', 'mtu': 1500, 'interface': 'mig0',
            'option_networks': [], **values}


GUESSED = {'intended_by': 'my_ip'}
BOTH = ['10.77.0.0/24', '10.88.0.0/24']


@pytest.mark.parametrize('source, target', [
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
])
def test_meet_or_cannot_be_told(source: dict, target: dict) -> None:
    assert networks.compare(host('a', **source), host('b', **target)) == []
    assert networks.compare(host('b', **target), host('a', **source)) == []


def test_target_outside_of_the_listed_networks() -> None:
    found, = networks.compare(host('a', option_networks=['10.77.0.0/24']),
                              host('b', networks=['10.66.0.0/24'], interface='mgmt0'))
    assert found.outcome is Outcome.FAILURE and found.check == 'address'
    for word in ('b', '10.66.0.0/24', 'mgmt0', '10.77.0.0/24',
                 '[migcheck] migration_networks of a'):
        assert word in str(found)


def test_source_outside_of_the_networks_that_the_target_lists() -> None:
    found, = networks.compare(host('a', networks=['10.66.0.0/24'], interface='mgmt0'),
                              host('b', option_networks=['10.77.0.0/24']))
    assert found.outcome is Outcome.FAILURE and found.detail.startswith('a migrates over 10.66')
    assert found.origin == '[migcheck] migration_networks of b'


def test_hosts_without_a_name() -> None:
    for source, target, text in (({'networks': ['10.66.0.0/24']}, {'option_networks': BOTH}, 'the source'),
                                 ({'option_networks': BOTH}, {'networks': ['10.66.0.0/24']}, 'the target')):
        found, = networks.compare(host('', **source), host('', **target))
        assert found.detail.startswith(f'{text} migrates over 10.66.0.0/24 on mig0')


@pytest.mark.parametrize('guessed, outcome', [({}, Outcome.FAILURE), (GUESSED, Outcome.WARNING)])
def test_mtu(guessed: dict, outcome: Outcome) -> None:
    found, = networks.compare(host('a'), host('b', mtu=9000, **guessed))
    assert found.outcome is outcome
    assert '1500' in found.detail and '9000' in found.detail


def test_no_common_ip_version_is_unknown() -> None:
    found, = networks.compare(host('a'), host('b', networks=['fd77::/64']))
    assert found.outcome is Outcome.UNKNOWN


def test_fact_comes_back_as_it_was() -> None:
    fact = HostMigration.from_json({
        'host': 'a', 'libvirt_host': 'a.example.org', 'inbound': 'a-mig',
        'addresses': ['10.77.0.11', 'fd77::11'], 'others': {'10.66.0.11': 'mgmt0'},
        'complete': True, 'interface': 'mig0', 'networks': ['10.77.0.0/24'],
        'intended_by': 'migration_networks', 'mtu': 9000, 'option_networks': ['10.77.0.0/24'],
        'qemu_ports': [50000, 50009], 'daemon': 'virtproxyd', 'libvirt_verifies': False,
        'qemu_verifies': True})
    assert (fact.daemon, fact.libvirt_verifies, fact.qemu_verifies) == ('virtproxyd', False, True)
    assert HostMigration.from_json(json.loads(json.dumps(fact.to_json()))) == fact
    assert len(json.dumps(fact.to_json())) < 500
    assert HostMigration.from_json(HostMigration().to_json()) == HostMigration()


@pytest.mark.parametrize('value', [None, 'a daemon', 7, ['libvirtd'], 1])
def test_of_the_daemon_only_what_is_known_is_taken(value: Any) -> None:
    """Older reports say nothing of it."""
    fact = HostMigration.from_json(
        host('a', daemon=value, libvirt_verifies=value, qemu_verifies=value))
    assert (fact.daemon, fact.libvirt_verifies, fact.qemu_verifies) == ('', None, None)
    assert HostMigration.from_json(host('a')).daemon == ''


_SCALAR = (st.none() | st.booleans() | st.integers() | st.floats() | st.text()
           | st.sampled_from(['10.0.0.0/8', '::/0', '10.0.0.1']))
_ANY = _SCALAR | st.lists(_SCALAR, max_size=3) | st.dictionaries(st.text(), _SCALAR, max_size=3)
_FACT = _ANY | st.fixed_dictionaries({}, optional=dict.fromkeys(HostMigration().to_json(), _ANY))


@given(_FACT, _FACT)
def test_whatever_another_host_says_is_survived(source: Any, target: Any) -> None:
    for finding in networks.compare(source, target):
        assert finding.check == 'address'
