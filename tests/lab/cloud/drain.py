# SPDX-License-Identifier: Apache-2.0
"""A host with six servers is emptied by the lines that ``nova-migcheck drain --commands`` prints.

One server may run on no other host. Each of the others must land where the plan said.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from nova_migcheck import hostranges
from tests.lab.cloud import STATE
from tests.lab.cloud.cloud import Cloud, say
from tests.lab.cloud.configuration import AUTH_URL
from tests.lab.cloud.user import Server

_BIN = pathlib.Path(sys.prefix) / 'bin'
_HOST = 'compute1'
_ADMINISTRATOR = {
    'OS_AUTH_URL': AUTH_URL, 'OS_USERNAME': 'admin', 'OS_PASSWORD': 'lab',
    'OS_PROJECT_NAME': 'admin', 'OS_USER_DOMAIN_ID': 'default', 'OS_PROJECT_DOMAIN_ID': 'default',
    'OS_INTERFACE': 'internal'}
# So large that not all of them are preferred by one host.
_LARGE = {'name': 'large', 'ram': 2048, 'vcpus': 1, 'disk': 1}
# Only the host that is emptied has the trait.
_TRAIT = 'CUSTOM_LICENSED'
_LICENSED = {'name': 'licensed', 'ram': 64, 'vcpus': 1, 'disk': 1}
# Seconds for five migrations.
_SECONDS = 600


def play(cloud: Cloud) -> list[str]:
    """Tell it, line by line.

    :raises AssertionError: where it goes another way
    """
    told: list[str] = []

    def tell(line: str) -> None:
        say(f'drain: {line}')
        told.append(line)

    _flavors(cloud)
    servers = {server.id: server for server in (
        Server(cloud, _HOST, flavor)
        for flavor in ('tiny', 'large', 'tiny', 'large', 'large', 'licensed'))}
    stays = next(server for server in servers.values() if server.flavor == 'licensed')
    lines = _drain('--commands', '--at-once', '2')
    said = _drain('--at-once', '2', '-f', 'json')
    plan = {move['server']: move for move in said['moves']}
    assert plan.keys() == servers.keys() and plan[stays.id]['verdict'] == 'cannot', said
    reason = plan[stays.id]['reasons'][0]
    assert reason['by'] == 'placement', said
    targets = {uuid: move['to'] for uuid, move in plan.items() if uuid != stays.id}
    assert set(targets.values()) == cloud.nodes.keys() - {_HOST}, said
    tell(f'{_HOST} has {len(servers)} servers; {stays.name} needs a trait that only it has')
    tell(f'the plan: {said["can"]} can go, {said["cannot"]} cannot ({reason["by"]}: '
         f'{reason["text"]}: {hostranges.fold(reason["hosts"])})')
    for line in lines.splitlines():
        tell(line)
    subprocess.run(['bash', '-e', '-c', lines], check=True, timeout=_SECONDS, cwd=STATE,
                   env={**os.environ, **_ADMINISTRATOR,
                        'PATH': f'{_BIN}:{os.environ["PATH"]}'})
    for uuid, server in servers.items():
        expected = targets.get(uuid, _HOST)
        assert server.host == expected and server.running() == {expected: 'running'}, (
            f'{server.name} is on {server.host} and should be on {expected}')
        tell(f'{server.name} ({server.flavor}): planned for {targets.get(uuid, "no host")}, '
             f'runs on {server.host}')
    left = _drain('-f', 'json')
    assert [move['server'] for move in left['moves']] == [stays.id], left
    tell(f'{_HOST} has {stays.name} left')
    for server in servers.values():
        server.delete()
    return told


def _flavors(cloud: Cloud) -> None:
    """Make the two flavors, and let the host have what one of them needs."""
    connection = cloud.control.connection
    connection.compute.create_flavor(**_LARGE)
    licensed = connection.compute.create_flavor(**_LICENSED)
    connection.compute.create_flavor_extra_specs(licensed, {f'trait:{_TRAIT}': 'required'})
    placement = connection.placement
    placement.create_trait(_TRAIT)
    provider = next(each for each in placement.resource_providers() if each.name == _HOST)
    path = f'/resource_providers/{provider.id}/traits'
    has = placement.get(path, microversion='1.6').json()
    has['traits'].append(_TRAIT)
    answer = placement.put(path, json=has, microversion='1.6')
    assert answer.ok, answer.text


def _drain(*arguments: str) -> Any:
    """Return what the command prints: text, or what its JSON holds."""
    done = subprocess.run(
        [str(_BIN / 'nova-migcheck'), 'drain', _HOST, *arguments,
         '--config-file', str(STATE / 'etc/nova/nova.conf')],
        capture_output=True, text=True, timeout=120, cwd=STATE)
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    return json.loads(done.stdout) if 'json' in arguments else done.stdout
