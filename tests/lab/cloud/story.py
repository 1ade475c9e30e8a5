# SPDX-License-Identifier: Apache-2.0
"""The story for which all of this was written: a virtual address dies, a host is rebooted without its share, a second line appears in a
hosts file. The operator sees what is wrong with one command each, repairs it, and migrates both ways over the migration network only.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
from typing import Any, Sequence

import fixtures

from tests.lab.cloud import STATE
from tests.lab.cloud.cloud import Cloud, say
from tests.lab.cloud.compute_node import MANAGEMENT, MIGRATION, ComputeNode, plug
from tests.lab.cloud.configuration import NOVA, VIP
from tests.lab.cloud.service import Service
from tests.lab.cloud.user import Server

_COMMAND = str(pathlib.Path(sys.prefix) / 'bin/nova-migcheck')
# What carries a migration: libvirt's own connection, and QEMU's.
_PORTS = '16509, 49152-49215'
# Bytes that the smallest guest cannot be migrated with less of, and that no chatter reaches.
_GUEST = 500_000
_TENANT = 'tenant'


def play(cloud: Cloud) -> list[str]:
    """Tell it, line by line.

    :raises AssertionError: where it goes another way
    """
    told: list[str] = []

    def tell(line: str) -> None:
        say(f'story: {line}')
        told.append(line)

    one, two = cloud.nodes['compute1'], cloud.nodes['compute2']
    for node in cloud.nodes.values():
        node.more = {'migcheck': {'instances_shared': 'yes'}}
        node.configure()
    cloud.restart_computes()
    server = Server(cloud, one.name)

    tell('the virtual address dies')
    cloud.ip(f'address delete {VIP}/32 dev mgmt')
    tell(sees(two, ['check'], VIP))
    cloud.ip(f'address add {VIP}/32 dev mgmt')

    tell('compute2 comes back from a reboot without its share')
    two.unmount_share()
    tell(sees(two, ['check', '--only', 'storage'], f'{NOVA}/instances'))
    cloud.wait_checked(two.name, since=time.time())
    refused = server.migrate(two.name)
    assert not refused.begun and refused.host == one.name and refused.running == {one.name: 'running'}, refused
    assert 'storage' in refused.read, refused
    two.mount_share()

    tell('a second line for compute2 appears in the hosts file of compute1')
    one.host.hosts.write(f'{two.management} {two.name}-mig', *one.host.hosts.path.read_text().splitlines())
    to_two = ['check', '--only', 'transport', '--target', two.name, '--connect', f'{two.name}-mig']
    tell(sees(one, to_two, two.management, two.migration, '/etc/hosts', 'line 1'))
    refused = server.migrate(two.name)
    assert not refused.begun and refused.running == {one.name: 'running'}, refused
    one.hosts_file()

    tell('all is repaired; there and back, over the migration network only, while two others talk')
    for node in cloud.nodes.values():
        failures = _failures(node, ['check'])
        assert not failures, failures
    cloud.wait_well(time.time())
    with Talk(cloud, one, two) as talk:
        for source, target in ((one, two), (two, one)):
            _count(source)
            done = server.migrate(target.name)
            assert done.completed and done.running == {target.name: 'running'}, done
            carried = _counted(source)
            assert carried[MIGRATION] > _GUEST and carried[MANAGEMENT] == 0, carried
            tell(f'{source.name} to {target.name} in {done.seconds:.1f} s, {carried[MIGRATION]} bytes by {MIGRATION}, '
                 f'{carried[MANAGEMENT]} by {MANAGEMENT}')
        lost = talk.lost()
    tell(lost)
    server.delete()
    for node in cloud.nodes.values():
        node.more = {}
        node.configure()
    cloud.restart_computes()
    return told


def _failures(node: ComputeNode, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """What ``nova-migcheck check`` finds wrong on a host. The lab has no cinder, which concerns no server of it."""
    done = subprocess.run(node.host.inside(_COMMAND, *arguments, '--config-file', str(node.conf), '-f', 'json'), capture_output=True,
                          text=True, timeout=120, cwd=STATE)
    assert done.returncode in (0, 1, 2), done.stderr
    return [found for found in json.loads(done.stdout) if found['outcome'] == 'failure' and found['scope'] != 'volumes']


def sees(node: ComputeNode, arguments: Sequence[str], *names: str) -> str:
    """One command on a host, whose failures name these things; what it says of the first."""
    began = time.monotonic()
    failures = _failures(node, arguments)
    text = json.dumps(failures)
    missing = [name for name in names if name not in text]
    assert failures and not missing, f'nova-migcheck {" ".join(arguments)} on {node.name} does not name {missing}: {text}'
    detail = next(found['detail'] for found in failures if names[0] in json.dumps(found))
    return f'{node.name}: nova-migcheck {" ".join(arguments)} ({time.monotonic() - began:.1f} s): {detail}'


def _count(node: ComputeNode) -> None:
    """Begin to count what a migration sends from a host, by interface."""
    rules = '\n'.join(f'oifname {interface} tcp dport {{ {_PORTS} }} counter' for interface in (MIGRATION, MANAGEMENT))
    node.host.run('nft', '-f', '-', text=f"""
        table inet story {{
          chain output {{
            type filter hook output priority 0;
            {rules}
          }}
        }}""")


def _counted(node: ComputeNode) -> dict[str, int]:
    """Bytes since :func:`_count`, by interface; it ends."""
    listed = json.loads(node.host.run('nft', '--json', 'list', 'chain', 'inet', 'story', 'output'))
    node.host.run('nft', 'delete', 'table', 'inet', 'story')
    rules = [entry['rule']['expr'] for entry in listed['nftables'] if 'rule' in entry]
    return {rule[0]['match']['right']: next(part['counter']['bytes'] for part in rule if 'counter' in part) for rule in rules}


class Talk(fixtures.Fixture):
    """Stand-ins for two guests of a tenant on two hosts, one of which pings the other each millisecond: the guests of the lab have no
    system. A network of its own joins the hosts.
    """

    def __init__(self, cloud: Cloud, *hosts: ComputeNode) -> None:
        super().__init__()
        self._cloud, self._hosts = cloud, hosts

    def _setUp(self) -> None:
        self._cloud.ip(f'link add {_TENANT} type bridge', f'link set {_TENANT} up')
        self.addCleanup(self._cloud.ip, f'link delete {_TENANT}')
        for node in self._hosts:
            plug(node.host, _TENANT, f'{_TENANT}0')
            self.addCleanup(node.host.ip, f'link delete {_TENANT}0')
            node.host.address(f'{_TENANT}0', f'192.0.2.{node.number}/24')
        one, two = self._hosts
        self._ping = self.useFixture(Service('ping', ['ping', '-i', '0.001', '-q', f'192.0.2.{two.number}'], one.host))

    def lost(self) -> str:
        """End it: what ping says of losses.

        :raises AssertionError: when there were any
        """
        assert self._ping.process is not None
        self._ping.process.send_signal(2)
        self._ping.process.wait(10)
        said = self._ping.logged()
        assert ' 0% packet loss' in said, said
        return next(line for line in said.splitlines() if 'packet loss' in line)
