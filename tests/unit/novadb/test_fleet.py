# SPDX-License-Identifier: Apache-2.0
"""Servers that cannot be explained, and the findings with a scope that concern a server.

The results of Nova's databases are made up here; tests/cli reads real ones.
"""

import dataclasses
from types import SimpleNamespace

import pytest
from nova import exception, objects

from nova_migcheck.compute.arrival import Disks
from nova_migcheck.compute.destination import Destination
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.novadb import fleet
from nova_migcheck.report.report import Report

UUID = '2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11'
SERVER = fleet.Server(UUID, 'web1', 'compute1', '', 'active', 0.0)


def raises(error):
    def raising(*_args):
        raise error
    return raising


@pytest.fixture
def nova(monkeypatch):
    """A server in a cell; tests take away what they want."""
    objects.register_all()
    cell = SimpleNamespace(name='cell1', uuid='c1')
    there = {'mapping': lambda *_: SimpleNamespace(cell_mapping=cell),
             'spec': raises(exception.RequestSpecNotFound(instance_uuid=UUID)),
             'cells': lambda *_: ({'cell1': SERVER}, {}),
             'named': lambda *_: ({'cell1': [UUID]}, {})}
    monkeypatch.setattr(fleet, '_global', lambda _timeout, function, *args: function(*args))
    monkeypatch.setattr(objects.InstanceMapping, 'get_by_instance_uuid',
                        lambda *args: there['mapping'](*args))
    monkeypatch.setattr(objects.RequestSpec, 'get_by_instance_uuid',
                        lambda *args: there['spec'](*args))
    monkeypatch.setattr(fleet, '_gather', lambda *args: there['cells'](*args))
    monkeypatch.setattr(fleet, '_query_cells', lambda *args: there['named'](*args))
    return there


def test_a_server_is_found_by_its_name_and_by_its_uuid(nova):
    expected = dataclasses.replace(SERVER, cell='cell1')
    assert fleet.server('web1') == fleet.server(UUID) == fleet.server(UUID.upper()) == expected


@pytest.mark.parametrize('what, instead, wanted, said', [
    ('named', lambda *_: ({'cell1': []}, {'cell2': 'it refuses'}), 'web1',
     "there is no server 'web1'.*cell2"),
    ('named', lambda *_: ({'cell1': ['b', 'a']}, {}), 'web1',
     '2 servers have the name .web1., give the UUID of one: a, b'),
    ('mapping', raises(exception.InstanceMappingNotFound(uuid=UUID)), UUID,
     f'there is no server with the UUID {UUID}'),
    ('mapping', lambda *_: SimpleNamespace(cell_mapping=None), UUID,
     'is still being built and has no host yet'),
    ('cells', lambda *_: ({}, {'cell1': 'it refuses'}), UUID,
     'is in a cell that cannot be read: cell1: it refuses'),
    ('cells', lambda *_: ({'cell1': None}, {}), UUID, 'is deleted'),
    ('cells',
     lambda *_: ({'cell1': dataclasses.replace(SERVER, host='', state='shelved_offloaded')}, {}),
     UUID, 'is on no host, its state is shelved_offloaded'),
])
def test_what_cannot_be_explained_says_why(nova, what, instead, wanted, said):
    nova[what] = instead
    with pytest.raises(fleet.Unavailable, match=said):
        fleet.server(wanted)


# In nova-compute.

@pytest.fixture
def disks(monkeypatch):
    there = []
    monkeypatch.setattr(objects.BlockDeviceMappingList, 'get_by_instance_uuid',
                        lambda *_args: there)
    return there


def needs(instance=None, scope='volumes', **properties):
    target = Report(0, (Finding('endpoint', Outcome.FAILURE, 'cinder', scope=scope),))
    instance = instance or SimpleNamespace(
        uuid=UUID, config_drive='', flavor=None, image_meta=SimpleNamespace(properties=properties))
    return Destination._needs(None, instance, None, target, Disks(None, instance))


class Disk(dict):
    is_volume = property(lambda self: self['to'] == 'volume')
    is_local = property(lambda self: self['to'] == 'local')
    encrypted = property(lambda self: self['encrypted'])


def test_what_a_server_needs_by_its_disks(disks):
    assert needs() == frozenset()
    disks += [Disk(to='volume')]
    assert needs() == {'volumes'}
    disks += [Disk(to='volume', encrypted=True)]
    assert needs() == {'volumes', 'encryption'}
    disks[:] = [Disk(to='local', encrypted=False)]
    assert needs() == {'local-disk'}
    assert needs(scope='') == frozenset()  # there is no finding for which it matters


def test_a_virtual_tpm_is_encrypted_too(disks):
    assert needs(hw_tpm_version='2.0') == {'encryption'}
    flavor = {'extra_specs': {'hw:tpm_version': '2.0'}}
    with_flavor = SimpleNamespace(
        uuid=UUID, config_drive='True', image_meta=SimpleNamespace(properties={}),
        flavor=type('Flavor', (dict,), {'extra_specs': flavor['extra_specs']})(flavor))
    assert needs(with_flavor) == {'encryption', 'local-disk'}
