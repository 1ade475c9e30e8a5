# SPDX-License-Identifier: Apache-2.0
"""Where a volume is reached, from connection_info as Cinder's drivers write it, and nothing else of
it (V2).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from nova_migcheck.volumes import attached

VOLUME = '0a6de5b2-0000-4000-8000-00000000000a'
SECRET = 'MARKED'
# What must not leave, in each of them.
CREDENTIALS = {
    'auth_username': SECRET,
    'auth_password': SECRET,
    'keyring': SECRET,
    'secret_uuid': SECRET,
    'discovery_auth_password': SECRET,
    'host_nqn': SECRET,
}


def read(driver: str, **data: Any) -> attached.Attached:
    found = attached.read(
        VOLUME, json.dumps({'driver_volume_type': driver, 'data': {**CREDENTIALS, **data}})
    )
    assert (
        SECRET not in str(found)
        and attached.Attached.from_json(json.loads(json.dumps(found.to_json()))) == found
    )
    return found


@pytest.mark.parametrize(
    'driver, data, portals',
    [
        ('iscsi', {'target_portal': '10.0.0.1:3260'}, ['10.0.0.1:3260']),
        ('iscsi', {'target_portal': '10.0.0.1:3260,1'}, ['10.0.0.1:3260']),
        ('iscsi', {'target_portal': '[fd00::1]:3260'}, ['[fd00::1]:3260']),
        ('iscsi', {'target_portal': 'storage1.example:3260'}, ['storage1.example:3260']),
        (
            'iscsi',
            {'target_portal': 'a:1', 'target_portals': ['a:1', 'b:2', 'a:1']},
            ['a:1', 'b:2'],
        ),
        (
            'nvmeof',
            {'target_portal': '10.0.0.1', 'target_port': '4420', 'transport_type': 'tcp'},
            ['10.0.0.1:4420'],
        ),
        (
            'nvmeof',
            {'target_portal': '10.0.0.1', 'target_port': 4420, 'transport_type': 'rdma'},
            [],
        ),
        (
            'nvmeof',
            {'portals': [['10.0.0.1', 4420, 'NVMe-oF TCP'], ['fd00::2', '4420', 'tcp']]},
            ['10.0.0.1:4420', '[fd00::2]:4420'],
        ),
        (
            'nvmeof',
            {
                'volume_replicas': [
                    {'portals': [['10.0.0.1', '4420', 'tcp']]},
                    {'portals': [['10.0.0.2', '4420', 'tcp']]},
                ]
            },
            ['10.0.0.1:4420', '10.0.0.2:4420'],
        ),
        (
            'rbd',
            {
                'hosts': ['10.0.0.1', '[fd00::3]', 'mon3'],
                'ports': ['6789', '6789', '3300'],
                'name': 'volumes/x',
            },
            ['10.0.0.1:6789', '[fd00::3]:6789', 'mon3:3300'],
        ),
        # Ceph finds its monitors in its own ceph.conf.
        ('rbd', {'hosts': [], 'ports': [], 'name': 'volumes/x'}, []),
        ('nfs', {'export': '10.0.0.1:/srv/cinder', 'options': None}, ['10.0.0.1:2049']),
        (
            'nfs',
            {'export': '[fd00::4]:/srv', 'options': '-o vers=4,port=20049'},
            ['[fd00::4]:20049'],
        ),
        ('nfs', {'export': 'nas:/srv', 'options': '-o mountport=635'}, ['nas:2049']),
        ('fibre_channel', {'target_wwn': ['50060e801049cfd1']}, []),
    ],
)
def test_portals(driver: str, data: dict[str, Any], portals: list[str]) -> None:
    found = read(driver, **data)
    assert (found.volume, found.driver, found.unknown) == (VOLUME, driver, '')
    assert [str(portal) for portal in found.portals] == portals


@pytest.mark.parametrize(
    'driver, data, why',
    [
        ('scaleio', {'serverIP': '10.0.0.1'}, 'scaleio'),
        ('iscsi', {}, 'no portal'),
        ('iscsi', {'target_portal': 'nonsense'}, 'no portal'),
        ('iscsi', {'target_portal': '10.0.0.1:99999'}, 'no portal'),
        ('iscsi', {'target_portal': f'{"a" * 300}:1'}, 'no portal'),
        ('iscsi', {'target_portal': 'x; rm -rf /:3260'}, 'no portal'),
        ('nvmeof', {'portals': [7]}, 'no portal'),
        ('nvmeof', {'portals': [['a', None, 'tcp']]}, 'no portal'),
        ('rbd', {'hosts': [None], 'ports': ['x']}, 'no portal'),
        ('nfs', {'export': None}, 'no portal'),
    ],
)
def test_what_cannot_be_read_is_unknown_and_no_failure(
    driver: str, data: dict[str, Any], why: str
) -> None:
    found = read(driver, **data)
    assert found.portals == () and why in found.unknown


@pytest.mark.parametrize(
    'text',
    [
        None,
        '',
        f'{{"{SECRET}',
        f'"{SECRET}"',
        '[]',
        '7',
        json.dumps({'data': {'x': SECRET}}),
        json.dumps({'driver_volume_type': [SECRET], 'data': {}}),
        json.dumps({'driver_volume_type': 'iscsi', 'data': SECRET}),
        json.dumps({'driver_volume_type': f'{SECRET} \x1b[2J', 'data': {}}),
    ],
)
def test_connection_info_that_is_none(text: Any) -> None:
    found = attached.read(VOLUME, text)
    assert found.unknown and found.portals == () and SECRET not in str(found)


def test_a_volume_without_a_name() -> None:
    assert attached.read(None, None).volume == attached.read('\x1b[2J', None).volume == 'volume'


def test_only_so_many_are_tried() -> None:
    portals = [f'10.0.0.{number}:3260' for number in range(1, 100)]
    assert len(read('iscsi', target_portals=portals).portals) == attached.MAX_PORTALS
