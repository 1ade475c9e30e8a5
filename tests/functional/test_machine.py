# SPDX-License-Identifier: Apache-2.0
"""A guest whose machine does not fit on one target goes to another (rows M1 to M11)."""

from __future__ import annotations

import dataclasses
import re
import types
from typing import Any

import pytest

from nova_migcheck.checks.base import Server
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
        for host in cloud.hosts.values():
            host.hypervisor.tell()
            # What was broken here is not asked for again: the versions are the same.
            host.driver._migcheck.reporter._memory.pop('machine', None)

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

    def publish(self, cloud, host, **machine):
        """What a host's kernel says is the test machine's, so it is put into the report."""
        reporter = cloud.hosts[host].driver._migcheck.reporter
        common = {name: dict(fact) for name, fact in reporter.report.common.items()}
        common['machine'].update(machine)
        reporter._publish(dataclasses.replace(reporter._checked, common=common))
        cloud.publish(host)

    def test_post_copy_without_userfaultfd(self, cloud, server):
        """M6."""
        cloud.hosts['compute1'].set('libvirt', 'live_migration_permit_post_copy', 'True')
        cloud.check('compute1', 'compute2')
        self.publish(cloud, 'compute2', no_userfaultfd=(
            'vm.unprivileged_userfaultfd = 0, and QEMU runs as user 64055'))
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'unprivileged_userfaultfd',
                               'user 64055')

    def change(self, cloud, server, monkeypatch, *changes):
        """Let the guest's live XML be another one, also for the process of the checks."""
        hypervisor = cloud.hosts['compute1'].hypervisor
        kind = type(hypervisor.lookupByUUIDString(server))
        real = kind.XMLDesc

        def changed(domain, flags):
            text = real(domain, flags)
            for old, new in changes if domain.UUIDString() == server else ():
                text = text.replace(old, new, 1)
            return text
        monkeypatch.setattr(kind, 'XMLDesc', changed)
        text = hypervisor.lookupByUUIDString(server).XMLDesc(0)
        assert all(new in text for _old, new in changes), text
        hypervisor.tell()
        # It is as if the guest had just started.
        cloud.hosts['compute1'].driver._migcheck.reporter._memory.pop('cpu', None)
        cloud.check('compute1')

    def test_a_device_that_cannot_be_migrated(self, cloud, server, monkeypatch):
        """M5: no host is a target, and the reason says that it is the guest."""
        nic = "<interface type='vhostuser'><target dev='vhu1'/></interface>"
        self.change(cloud, server, monkeypatch, ('</devices>', f'{nic}</devices>'))
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('error', 'compute1')
        assert 'machine: ' in migration.message
        assert cloud.log.lines('nova_migcheck.scheduler', 'interface vhu1', 'machine-fixed')

    def test_the_same_device_with_shared_memory(self, cloud, server, monkeypatch):
        nic = "<interface type='vhostuser'><target dev='vhu1'/></interface>"
        self.change(cloud, server, monkeypatch, ('</devices>', f'{nic}</devices>'), (
            '<os>', "<memoryBacking><access mode='shared'/></memoryBacking><os>"))
        assert not cloud.log.lines('machine-fixed')
        assert self.found(cloud, server) == []

    def found(self, cloud, server):
        """What the source finds about the guest as it is now, with compute2 as the target."""
        migcheck = cloud.hosts['compute1'].driver._migcheck
        target = cloud.hosts['compute2'].driver._migcheck.reporter.report
        return [finding.code for finding in migcheck.source._needs_fit(
            cloud.instance(server), target)]

    def test_several_cpus_in_a_package(self, cloud, server, monkeypatch):
        """M8, and the neighbours: an older QEMU, a newer libvirt."""
        cpu = re.search('<cpu .*?>', cloud.hosts['compute1'].hypervisor.lookupByUUIDString(
            server).XMLDesc(0))[0]
        self.change(cloud, server, monkeypatch, (
            cpu, "<cpu mode='custom' match='exact' check='full'>"
                 "<topology sockets='1' cores='2' threads='1'/>"))
        cloud.check('compute2')
        for qemu, libvirt, refused in (('9.2.0', '11.3.0', False), ('10.0.2', '11.3.0', True),
                                       ('10.0.2', '11.10.0', False)):
            self.publish(cloud, 'compute2', qemu=qemu, libvirt=libvirt)
            assert self.found(cloud, server) == (['machine-ht'] if refused else [])
        self.publish(cloud, 'compute2', qemu='10.0.2', libvirt='11.3.0')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'feature ht', '11.3.0')

    def test_offloads_of_a_kernel_are_a_warning(self, cloud, server, monkeypatch):
        """M10. This machine's kernel is the source's, and may be too old itself."""
        monkeypatch.setattr('nova_migcheck.checks.machine.os', types.SimpleNamespace(
            uname=lambda: types.SimpleNamespace(release='6.8.0')))
        nic = "<interface type='bridge'><model type='virtio'/></interface>"
        self.change(cloud, server, monkeypatch, ('</devices>', f'{nic}</devices>'),
                    ("machine='pc-0.12'", "machine='pc-8.2'"))
        cloud.check('compute2')
        self.publish(cloud, 'compute2', kernel='6.1.0', machine_types={})
        assert self.found(cloud, server) == ['machine-offload']
        self.publish(cloud, 'compute2', kernel='6.2.0', machine_types={})
        assert self.found(cloud, server) == []

    def test_cpu_shares_for_cgroup_v2(self, cloud, server, monkeypatch):
        """M11. Nova leaves out the shares of a flavor that names none."""
        self.change(cloud, server, monkeypatch, ('</uuid>', (
            '</uuid><cputune><shares>20000</shares></cputune>')))
        cloud.check('compute2')
        for specs, version, refused in (({}, 2, False), ({'quota:cpu_shares': '20000'}, 1, False),
                                        ({'quota:cpu_shares': '20000'}, 2, True)):
            self.publish(cloud, 'compute2', cgroup=version)
            monkeypatch.setattr('nova_migcheck.compute.source._server',
                                lambda instance: Server(specs))  # noqa: B023
            assert self.found(cloud, server) == (['machine-shares'] if refused else [])

    def test_the_network_has_another_mtu_now(self, cloud, server, monkeypatch):
        """M7. The guest has none in its XML, so one is put there."""
        mac = 'fa:16:3e:00:00:01'
        nic = f"<interface type='bridge'><mac address='{mac.upper()}'/><mtu size='1450'/></interface>"
        self.change(cloud, server, monkeypatch, ('</devices>', f'{nic}</devices>'))
        for size, refused in ((1450, False), (1500, True)):
            monkeypatch.setattr(
                'nova.objects.Instance.get_network_info',
                lambda self: [{'address': mac, 'network': {'meta': {'mtu': size}}}])  # noqa: B023
            assert self.found(cloud, server) == (['machine-mtu'] if refused else [])
