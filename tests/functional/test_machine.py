# SPDX-License-Identifier: Apache-2.0
"""A guest whose machine does not fit on one target goes to another (rows M1 to M11)."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from tests.functional.hypervisor import Cpu


def other_type(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M1."""
    hypervisor = cloud.hosts['compute2'].hypervisor
    capabilities = hypervisor.getCapabilities()
    assert '>pc-0.12<' in capabilities
    monkeypatch.setattr(hypervisor, 'getCapabilities',
                        lambda: capabilities.replace('>pc-0.12<', '>pc-0.99<'))


def no_emulator(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M2."""
    monkeypatch.setattr(cloud.hosts['compute2'].hypervisor, 'lacks', ('/usr/bin/kvm',))


def same_uuid(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M3."""
    monkeypatch.setattr(cloud.hosts['compute2'].hypervisor, 'uuid',
                        cloud.hosts['compute1'].hypervisor.uuid)


def no_cirrus(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M4."""
    hypervisor = cloud.hosts['compute2'].hypervisor
    real = hypervisor._domain_capabilities
    video = "<video supported='yes'><enum name='modelType'><value>vga</value></enum></video>"
    text = real(None, 'x86_64', None, 'kvm', 0)
    assert '<machine>None</machine>' in text
    text = text.replace('<machine>None</machine>', '<machine>pc-i440fx-2.11</machine>')
    text = re.sub('<video.*?</video>', video, text, flags=re.DOTALL)
    monkeypatch.setattr(hypervisor, '_domain_capabilities', lambda *words: text)


ROWS = [
    pytest.param(other_type, ('machine type pc-0.12', 'QEMU'), id='M1'),
    pytest.param(no_emulator, ('/usr/bin/kvm',), id='M2'),
    pytest.param(same_uuid, ('host UUID',), id='M3'),
    pytest.param(no_cirrus, ('video cirrus',), id='M4'),
]


class TestMachine:
    CLOUD = {'cpus': dict.fromkeys(('compute1', 'compute2', 'compute3'), Cpu()),
             'memory_used': {'compute2': 1024, 'compute3': 2048},
             'conf': {'migcheck': {'checks': 'cpu,machine,scripted,scripted_path'}}}

    @pytest.fixture
    def server(self, cloud, monkeypatch):
        server = cloud.boot('compute1')
        cloud.check('compute1')
        yield server
        monkeypatch.undo()
        cloud.hosts['compute2'].hypervisor.tell()

    @pytest.mark.parametrize('broken, names', ROWS)
    def test_refused_in_the_filter_and_by_the_destination(self, cloud, server, monkeypatch, broken,
                                                          names):
        broken(cloud, monkeypatch)
        cloud.hosts['compute2'].hypervisor.tell()
        # A new libvirt or QEMU has another version, else what it offers is not asked for again.
        cloud.hosts['compute2'].driver._migcheck.reporter._memory.pop('machine', None)
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        for name in names:
            assert name in migration.refusals['compute2']
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', names[0])
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls

    def test_hosts_that_are_alike(self, cloud, server):
        """The nearest healthy case of all of them."""
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_post_copy_without_userfaultfd(self, cloud, server):
        """M6. What the target's kernel says is put into its report: a sysctl is the machine's."""
        cloud.hosts['compute1'].set('libvirt', 'live_migration_permit_post_copy', 'True')
        cloud.check('compute1', 'compute2')
        reporter = cloud.hosts['compute2'].driver._migcheck.reporter
        common = {name: dict(fact) for name, fact in reporter.report.common.items()}
        common['machine']['no_userfaultfd'] = (
            'vm.unprivileged_userfaultfd = 0, and QEMU runs as user 64055')
        reporter._publish(dataclasses.replace(reporter._checked, common=common))
        cloud.publish('compute2')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'unprivileged_userfaultfd',
                               'user 64055')

    def test_the_network_has_another_mtu_now(self, cloud, server, monkeypatch):
        """M7. The guest has none in its XML, so one is put there."""
        mac = 'fa:16:3e:00:00:01'
        hypervisor = cloud.hosts['compute1'].hypervisor
        domain = hypervisor.lookupByUUIDString(server)
        real = type(domain).XMLDesc
        nic = f"<interface type='bridge'><mac address='{mac.upper()}'/><mtu size='1450'/></interface>"
        monkeypatch.setattr(type(domain), 'XMLDesc', lambda self, flags: real(self, flags).replace(
            '</devices>', f'{nic}</devices>'))
        for size, refused in ((1450, False), (1500, True)):
            monkeypatch.setattr(
                'nova.objects.Instance.get_network_info',
                lambda self: [{'address': mac, 'network': {'meta': {'mtu': size}}}])  # noqa: B023
            migcheck = cloud.hosts['compute1'].driver._migcheck
            with cloud.cell() as context:
                instance = cloud.instance(server)
                target = cloud.hosts['compute2'].driver._migcheck.reporter.report
                found = migcheck.source._needs_fit(instance, target)
                assert context is not None
            assert [f.code for f in found] == (['machine-mtu'] if refused else [])
            if refused:
                assert mac in found[0].detail and '1450' in found[0].detail and '1500' in found[0].detail
