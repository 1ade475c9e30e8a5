# SPDX-License-Identifier: Apache-2.0
"""The real checks of addresses and paths in a whole Nova: each compute host's checks run in a network namespace of its own."""

from __future__ import annotations

import subprocess
import types
from typing import Any, Iterator

import fixtures
import pytest

from nova_migcheck.rounds import process
from tests.functional import nova_release, per_host

if nova_release.is_eventlet():
    pytest.skip('namespaces are entered by a process that multiprocessing cannot start once eventlet has patched this one',
                allow_module_level=True)
from tests.functional.cloud import Cloud
from tests.functional.hypervisor import Cpu
from tests.lab import namespaces
from tests.lab.namespaces import Namespace, Switch

pytestmark = pytest.mark.root

NAMES = {11: 'compute1', 12: 'compute2', 13: 'compute3'}
HOSTS = ['127.0.0.1 localhost', *(f'10.66.0.{number} {name}' for number, name in NAMES.items()),
         *(f'10.77.0.{number} {name}-mig' for number, name in NAMES.items())]


class Network(fixtures.Fixture):
    """Three hosts on a management and a migration network, with libvirtd on each."""

    def _setUp(self) -> None:
        switch = self.useFixture(Switch('switch'))
        self.hosts: dict[str, Namespace] = {}
        for number, name in NAMES.items():
            host = self.hosts[name] = self.useFixture(Namespace(name))
            for interface, network in (('mgmt0', '10.66.0'), ('mig0', '10.77.0')):
                switch.plug(interface[:-1], host, interface)
                host.address(interface, f'{network}.{number}/24')
            host.hosts.write(*HOSTS)
            host.listen('0.0.0.0', 16509, namespaces.libvirtd)
        self.useFixture(fixtures.MonkeyPatch('nova_migcheck.rounds.process.subprocess', types.SimpleNamespace(
            **{**vars(subprocess), 'Popen': self._popen})))

    def _popen(self, command: list[str], **kwargs: Any) -> Any:
        return subprocess.Popen(self.hosts[per_host.current().name].inside(*command), **kwargs)


@pytest.fixture(scope='module')
def shared(running: Any) -> Iterator[tuple[Network, Cloud]]:
    """The cloud on its network. compute2 is the scheduler's first choice, having more memory free than compute3."""
    if namespaces.missing():
        pytest.skip(namespaces.missing())
    running.stop()  # two clouds cannot patch one process
    inbound = {name: {'libvirt': {'live_migration_inbound_addr': f'{name}-mig'}, 'DEFAULT': {'my_ip': f'10.66.0.{number}'}}
               for number, name in NAMES.items()}
    inbound['compute3']['DEFAULT']['reserved_host_memory_mb'] = '2048'
    # What listens there answers one call only: it is no libvirt to ask.
    conf = {'migcheck': {'checks': 'address,transport', 'check_interval': '3600', 'ask_target': 'never'}}
    with Network() as network, Cloud(dict.fromkeys(NAMES.values(), Cpu()), host_conf=inbound, conf=conf) as cloud:
        yield network, cloud


@pytest.fixture
def network(shared: tuple[Network, Cloud]) -> Network:
    for host in shared[0].hosts.values():
        host.hosts.write(*HOSTS)
    return shared[0]


@pytest.fixture
def cloud(network: Network, shared: tuple[Network, Cloud]) -> Cloud:
    shared[1].restore()
    return shared[1]


def test_the_sources_refusal_names_the_interfaces_and_the_next_target_is_tried(network: Network, cloud: Cloud) -> None:
    assert process.subprocess.Popen == network._popen
    server = cloud.boot('compute1')
    network.hosts['compute1'].hosts.write(*(line for line in HOSTS if 'compute2-mig' not in line), '10.66.0.12 compute2-mig')
    migration = cloud.live_migrate(server)
    assert (migration.host, migration.state) == ('compute3', 'ACTIVE')
    refusal = migration.refusals['compute2']
    for word in ('transport', 'compute2-mig', '10.66.0.12', 'mgmt0', 'mig0'):
        assert word in refusal
    assert 'pre_live_migration' not in cloud.hosts['compute2'].calls

    # Asked for by name, it is refused to the user; and with the line repaired it is taken.
    back = cloud.boot('compute1')
    migration = cloud.live_migrate(back, host='compute2')
    assert (migration.host, migration.state) == ('compute1', 'ACTIVE')
    assert 'mgmt0' in migration.refusals['compute2'] and 'mig0' in migration.refusals['compute2']
    network.hosts['compute1'].hosts.write(*HOSTS)
    migration = cloud.live_migrate(back, host='compute2')
    assert (migration.host, migration.state, migration.refusals) == ('compute2', 'ACTIVE', {})


def test_a_target_whose_inbound_address_is_wrong_is_never_asked(network: Network, cloud: Cloud) -> None:
    server = cloud.boot('compute1')
    network.hosts['compute2'].hosts.write(*(line for line in HOSTS if 'compute2-mig' not in line), '10.77.0.99 compute2-mig')
    cloud.check('compute2')
    cloud.forget_calls()
    migration = cloud.live_migrate(server)
    assert (migration.host, migration.state) == ('compute3', 'ACTIVE')
    assert not cloud.hosts['compute2'].was_asked()
    assert cloud.log.lines('compute2', 'address', '10.77.0.99', 'is on no interface of this host')
