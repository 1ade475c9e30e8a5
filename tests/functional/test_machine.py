# SPDX-License-Identifier: Apache-2.0
"""A guest whose machine does not fit on one target goes to another (rows M1 to M11).

What fits is not refused (rows W1 to W9).
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
from typing import Any

import pytest

from nova_migcheck.checks.base import Server
from nova_migcheck.checks.needs import Needs
from nova_migcheck.compute.destination import Destination
from nova_migcheck.finding import Outcome
from tests.functional.hypervisor import Cpu

VIR_DOMAIN_XML_MIGRATABLE = 8


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


def a_newer_type_too(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M1: the type is deprecated there, and there are others."""
    hypervisor = cloud.hosts['compute2'].hypervisor
    capabilities = hypervisor.getCapabilities().replace(
        '>pc-0.12<', " deprecated='yes'>pc-0.12<").replace(
        '</machine>', "</machine><machine canonical='pc-i440fx-10.0'>pc</machine>", 1)
    monkeypatch.setattr(hypervisor, 'getCapabilities', lambda: capabilities)


def another_emulator_missing(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M2: of an emulator that the guest does not use."""
    monkeypatch.setattr(cloud.hosts['compute2'].hypervisor, 'lacks', ('/usr/libexec/qemu-kvm',))


def another_uuid(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M3: what libvirt says counts, and it says another."""
    uuid = cloud.hosts['compute1'].hypervisor.uuid
    monkeypatch.setattr(cloud.hosts['compute2'].hypervisor, 'uuid', f'{uuid[:-4]}cafe')


def no_list_of_video(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """M4: a category that the domain capabilities do not list."""
    hypervisor = cloud.hosts['compute2'].hypervisor
    text = hypervisor._domain_capabilities(None, 'x86_64', None, 'kvm', 0)
    text = re.sub('<video.*?</video>', '', text.replace(
        '<machine>None</machine>', '<machine>pc-i440fx-2.11</machine>'), flags=re.DOTALL)
    monkeypatch.setattr(hypervisor, '_domain_capabilities', lambda *words: text)


NEIGHBOURS = [
    pytest.param(a_newer_type_too, id='M1'),
    pytest.param(another_emulator_missing, id='M2'),
    pytest.param(another_uuid, id='M3'),
    pytest.param(no_list_of_video, id='M4'),
]
ROWS = [
    pytest.param(other_type, ('machine type pc-0.12', 'QEMU'), id='M1'),
    pytest.param(no_emulator, ('/usr/bin/kvm',), id='M2'),
    pytest.param(same_uuid, ('host UUID',), id='M3'),
    pytest.param(no_cirrus, ('video cirrus',), id='M4'),
]


class Machines:
    """A source and two targets, the first of which the scheduler prefers."""

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

    def look_anew(self, cloud):
        """A new libvirt or QEMU has another version, else it is not asked for its offers again."""
        cloud.hosts['compute2'].hypervisor.tell()
        cloud.hosts['compute2'].driver._migcheck.reporter._memory.pop('machine', None)
        cloud.check('compute2')

    def publish(self, cloud, host, **machine):
        """What a host's kernel says is the test machine's, so it is put into the report."""
        reporter = cloud.hosts[host].driver._migcheck.reporter
        common = {name: dict(fact) for name, fact in reporter.report.common.items()}
        common['machine'].update(machine)
        reporter._publish(dataclasses.replace(reporter._checked, common=common))
        cloud.publish(host)

    def publish_needs(self, cloud, **machine):
        """As if the source had another kernel, or another CPU, when the guest started there."""
        reporter = cloud.hosts['compute1'].driver._migcheck.reporter
        usual = json.loads(reporter.report.needs.usual)
        usual['machine'].update(machine)
        reporter._publish(dataclasses.replace(reporter._checked, needs=Needs(json.dumps(usual))))
        cloud.publish('compute1')

    def change(self, cloud, server, monkeypatch, *changes):
        """Let the guest's live XML be another one, also for the process of the checks."""
        hypervisor = cloud.hosts['compute1'].hypervisor
        kind = type(hypervisor.lookupByUUIDString(server))
        real = kind.XMLDesc

        def changed(domain, flags):
            text = real(domain, flags)
            # What travels stays as it is: Nova's fake of libvirt does not know all devices.
            here = domain.UUIDString() == server and not flags & VIR_DOMAIN_XML_MIGRATABLE
            for old, new in changes if here else ():
                text = text.replace(old, new, 1)
            return text
        monkeypatch.setattr(kind, 'XMLDesc', changed)
        text = hypervisor.lookupByUUIDString(server).XMLDesc(0)
        assert all(new in text for _old, new in changes), text
        hypervisor.tell()
        # It is as if the guest had just started.
        cloud.hosts['compute1'].driver._migcheck.reporter._memory.pop('cpu', None)
        cloud.check('compute1')

    def leaves(self, cloud, server, monkeypatch):
        """What the source says to a migration to compute2 that the target has accepted."""
        monkeypatch.setattr(Destination, 'decide', lambda *_args: None)
        migration = cloud.live_migrate(server, 'compute2', force=True)
        if migration.status == 'completed':
            return ''
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        return migration.refusals['compute2']

    def found(self, cloud, server):
        """What the source finds about the guest as it is now, with compute2 as the target."""
        migcheck = cloud.hosts['compute1'].driver._migcheck
        target = cloud.hosts['compute2'].driver._migcheck.reporter.report
        return [finding.code for finding in migcheck.source._needs_fit(
            cloud.instance(server), target)]


class TestMachine(Machines):
    @pytest.mark.parametrize('broken, names', ROWS)
    def test_refused_in_the_filter_and_by_the_destination(self, cloud, server, monkeypatch, broken,
                                                          names):
        broken(cloud, monkeypatch)
        self.look_anew(cloud)
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        for name in names:
            assert name in migration.refusals['compute2']
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', names[0])
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls

    @pytest.mark.parametrize('healthy', NEIGHBOURS)
    def test_accepted_in_the_filter_and_by_both_hooks(self, cloud, server, monkeypatch, healthy):
        """The nearest healthy cases of M1 to M4."""
        healthy(cloud, monkeypatch)
        self.look_anew(cloud)
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert not cloud.log.lines('machine-')

    def test_hosts_that_are_alike(self, cloud, server):
        """The nearest healthy case of all of them."""
        cloud.check('compute2')
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    NO_USERFAULTFD = 'vm.unprivileged_userfaultfd = 0, and QEMU runs as user 64055'

    def test_post_copy_without_userfaultfd(self, cloud, server):
        """M6."""
        cloud.hosts['compute1'].set('libvirt', 'live_migration_permit_post_copy', 'True')
        cloud.check('compute1', 'compute2')
        self.publish(cloud, 'compute2', no_userfaultfd=self.NO_USERFAULTFD)
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        assert 'unprivileged_userfaultfd' in migration.refusals['compute2']
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'unprivileged_userfaultfd',
                               'user 64055')

    @pytest.mark.parametrize('post_copy, no_userfaultfd', [
        ('False', NO_USERFAULTFD), ('True', '')])
    def test_post_copy_that_is_off_or_possible(self, cloud, server, post_copy, no_userfaultfd):
        """M6's neighbours: post-copy off; QEMU as root, or with /dev/userfaultfd."""
        cloud.hosts['compute1'].set('libvirt', 'live_migration_permit_post_copy', post_copy)
        cloud.check('compute1', 'compute2')
        self.publish(cloud, 'compute2', **(
            {'no_userfaultfd': no_userfaultfd} if no_userfaultfd else {}))
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

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

    def test_m5_a_device_that_cannot_be_migrated_in_the_hook(self, cloud, server, monkeypatch):
        nic = "<interface type='vhostuser'><target dev='vhu1'/></interface>"
        self.change(cloud, server, monkeypatch, ('</devices>', f'{nic}</devices>'))
        assert 'interface vhu1' in self.leaves(cloud, server, monkeypatch)

    def test_m5_an_active_block_job(self, cloud, server, monkeypatch):
        """It may have begun a moment ago, so the report cannot know it."""
        self.change(cloud, server, monkeypatch, ('</disk>', "<mirror job='copy'/></disk>"))
        cloud.check('compute2')
        assert 'block job (copy)' in self.leaves(cloud, server, monkeypatch)

    def test_m5_the_block_job_has_ended(self, cloud, server, monkeypatch):
        cloud.check('compute2')
        assert self.leaves(cloud, server, monkeypatch) == ''

    VIRTIOFS = "<filesystem type='mount'><driver type='virtiofs'/></filesystem>"
    VHOST_SCSI = "<hostdev mode='subsystem' type='scsi_host'/>"

    @pytest.mark.parametrize('device, words', [
        (VIRTIOFS, 'filesystem virtiofs'), (VHOST_SCSI, 'hostdev scsi_host')])
    def test_m5_other_devices(self, cloud, server, monkeypatch, device, words):
        """In the filter and in both hooks. libvirt 9 migrates no virtiofs."""
        self.change(cloud, server, monkeypatch, ('</devices>', f'{device}</devices>'))
        cloud.check('compute2')
        for host in ('compute2', 'compute3'):
            self.publish(cloud, host, libvirt='9.0.0')
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('error', 'compute1'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', words, 'machine-fixed')
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert words in migration.refusals['compute2']
        assert words in self.leaves(cloud, server, monkeypatch)

    @pytest.mark.parametrize('device', [
        "<hostdev mode='subsystem' type='usb' managed='no'><source><address bus='1' device='2'/>"
        '</source></hostdev>',
        "<interface type='hostdev' managed='yes'><mac address='fa:16:3e:00:00:09'/></interface>"])
    def test_m5_host_devices_that_libvirt_can_migrate(self, cloud, server, monkeypatch, device):
        self.change(cloud, server, monkeypatch, ('</devices>', f'{device}</devices>'))
        cloud.check('compute2')
        assert self.found(cloud, server) == []
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_m9_the_state_of_pku(self, cloud, server, monkeypatch):
        """A warning in the source's hook, and none with a target that is as old, or mended."""
        monkeypatch.setattr('nova_migcheck.checks.machine.os', types.SimpleNamespace(
            uname=lambda: types.SimpleNamespace(release='5.4.0-150-generic')))
        monkeypatch.setattr('nova_migcheck.machine.offered.has_pku', lambda: True)
        cpu = re.search('<cpu .*?</model>', cloud.hosts['compute1'].hypervisor.lookupByUUIDString(
            server).XMLDesc(0))[0]
        assert "check='full'" in cpu
        cloud.check('compute2')
        without = f"{cpu}<feature policy='disable' name='pku'/>"
        self.change(cloud, server, monkeypatch, (cpu, without))
        for kernel, warned in (('5.15.0-94-generic', True), ('5.4.0-150-generic', False),
                               ('6.8.0-31-generic', False)):
            self.publish(cloud, 'compute2', kernel=kernel)
            assert self.found(cloud, server) == (['machine-pku'] if warned else []), kernel
        self.publish(cloud, 'compute2', kernel='5.15.0-94-generic')
        self.change(cloud, server, monkeypatch, (without, without.replace('disable', 'require')))
        assert self.found(cloud, server) == []

    @pytest.mark.parametrize('needs, offers, words', [
        pytest.param({'pku': '5.4.0-150-generic'}, {'kernel': '5.15.0-94-generic'},
                     ('pku', '5.4.0-150-generic', '5.15.0-94-generic'), id='M9'),
        pytest.param({'uso': '6.8.0-31-generic'}, {'kernel': '6.1.0-18-amd64'},
                     ('USO', '6.8.0-31-generic', '6.1.0-18-amd64'), id='M10')])
    def test_warnings_refuse_nothing(self, cloud, server, needs, offers, words):
        """In the filter and in both hooks; the one on the target says it."""
        cloud.check('compute2')
        self.publish_needs(cloud, **needs)
        self.publish(cloud, 'compute2', **offers)
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert cloud.log.lines('WARNING', 'nova_migcheck.hook', *words)

    @pytest.mark.parametrize('needs, offers', [
        pytest.param({'pku': '5.4.0'}, {'kernel': '5.4.0'}, id='M9'),
        pytest.param({'uso': '6.8.0'}, {'kernel': '6.8.0'}, id='M10')])
    def test_no_warning_between_kernels_that_are_alike(self, cloud, server, needs, offers):
        cloud.check('compute2')
        self.publish_needs(cloud, **needs)
        self.publish(cloud, 'compute2', **offers)
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert not cloud.log.lines('machine-')

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
        assert '20000 CPU shares' in self.leaves(cloud, server, monkeypatch)

    def test_the_network_has_another_mtu_now(self, cloud, server, monkeypatch):
        """M7. The guest has none in its XML, so one is put there."""
        mac = 'fa:16:3e:00:00:01'
        nic = f"<interface type='bridge'><mac address='{mac.upper()}'/><mtu size='1450'/></interface>"
        self.change(cloud, server, monkeypatch, ('</devices>', f'{nic}</devices>'))
        for size, refused in ((1450, False), (1500, True)):
            with monkeypatch.context() as patched:
                patched.setattr(
                    'nova.objects.Instance.get_network_info',
                    lambda self, size=size: [
                        {'address': mac, 'network': {'meta': {'mtu': size}}}
                    ],
                )
                assert self.found(cloud, server) == (['machine-mtu'] if refused else [])
        monkeypatch.setattr('nova_migcheck.compute.source._server',
                            lambda instance: Server({}, {mac: 1500}))
        refusal = self.leaves(cloud, server, monkeypatch)
        assert mac in refusal and '1450' in refusal and '1500' in refusal


HOSTILE = [
    pytest.param("<domain><os><type arch='x86_64' machine='pc'/></os>" + ' ' * 2**23 + '</domain>',
                 'larger', id='megabytes'),
    pytest.param('<!DOCTYPE d [<!ENTITY a "aaaa">]><domain>&a;</domain>', 'entities',
                 id='entities'),
    pytest.param("<domain><os><type arch='x86_64' machine='pc\x1b[31m'/></os></domain>", 'not XML',
                 id='an escape'),
    pytest.param('<domain><os>', 'not XML', id='half')]


class TestHostileGuests(Machines):
    """The live XML of a guest is nothing that libvirt prints: unknown, and one line about it."""

    @pytest.mark.parametrize('text, why', HOSTILE)
    def test_in_the_source_hook(self, cloud, server, monkeypatch, text, why):
        cloud.check('compute2')
        monkeypatch.setattr('nova.virt.libvirt.guest.Guest.get_xml_desc',
                            lambda *_args, **_kw: text)
        migcheck = cloud.hosts['compute1'].driver._migcheck
        target = cloud.hosts['compute2'].driver._migcheck.reporter.report
        (finding,) = migcheck.source._needs_fit(cloud.instance(server), target)
        assert (finding.outcome, finding.code) == (Outcome.UNKNOWN, 'guest-unknown')
        assert why in finding.detail and finding.detail.isprintable() and len(finding.detail) < 200

    def test_a_machine_type_with_control_characters(self, cloud, server, monkeypatch):
        """Such as XML permits. The rest of the guest is compared all the same."""
        self.change(cloud, server, monkeypatch, ("machine='pc-0.12'", "machine='pc\x9b31m'"))
        cloud.check('compute2')
        cloud.log.clear()
        assert self.found(cloud, server) == []
        (line,) = cloud.log.lines('WARNING', 'The check machine cannot read the needs of a guest')
        assert line.isprintable() and '\\x9b31m' in line


NFS = {
    'images': 'path',
    'expect': 'auto',
    'path': '/instances',
    'mount': '/instances',
    'type': 'nfs4',
    'family': 'nfs',
    'shared': True,
    'source': 'nfs1:/export',
    'servers': ['10.0.0.5', 'nfs1'],
    'export': '/export',
    'inode': 128,
}
SERVER = {'images': 'path', 'expect': 'auto', 'path': '/instances', 'mount': '/', 'type': 'ext4',
          'shared': False, 'serves': ['10.0.0.5'], 'inode': 128}
UNKNOWN_SYSTEM = {'images': 'path', 'expect': 'auto', 'path': '/instances', 'mount': '/instances',
                  'type': 'wekafs', 'shared': False, 'source': 'backend1/default'}


class TestWrongRefusals(Machines):
    """Rows W1 to W7, each through the filter and both hooks of one migration.

    W6 is a matter of addresses: ``tests/unit/network``, ``tests/lab/test_address.py``. W8 is in
    ``tests/lab/test_transport.py``; W9 in ``test_volumes.py`` and ``tests/lab/test_endpoint.py``.
    """

    def accepted(self, cloud, server):
        """The scheduler chooses compute2, and neither it nor a nova-compute has refused it."""
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert migration.refusals == {}
        assert not cloud.log.lines('rejected as target', 'compute2')

    @pytest.mark.parametrize('source, target', [
        pytest.param(NFS, SERVER, id='target'), pytest.param(SERVER, NFS, id='source')])
    def test_w1_a_host_that_is_itself_the_nfs_server(self, cloud, server, source, target):
        cloud.say('compute1', facts={'storage': source})
        cloud.say('compute2', facts={'storage': target})
        cloud.check('compute1', 'compute2')
        self.accepted(cloud, server)

    def test_w2_another_microcode_and_kernel(self, cloud, server, monkeypatch):
        hypervisor = cloud.hosts['compute2'].hypervisor
        capabilities = hypervisor.getCapabilities().replace(
            '</vendor>', "</vendor><microcode version='43100245'/>", 1)
        assert 'microcode' in capabilities
        monkeypatch.setattr(hypervisor, 'getCapabilities', lambda: capabilities)
        self.look_anew(cloud)
        self.publish(cloud, 'compute2', kernel='6.12.1-cloud-amd64')
        self.accepted(cloud, server)

    def test_w3_a_feature_that_kvm_emulates(self, cloud, server, monkeypatch):
        """Guests have it, although the CPUIDs of the hosts have it not (LP#1913716)."""
        for name in ('compute1', 'compute2'):
            hypervisor = cloud.hosts[name].hypervisor
            hypervisor.cpu = Cpu().having('umip')
            raw = re.sub("<feature name=.umip. ?/>", '', hypervisor.getCapabilities())
            assert 'umip' not in raw
            monkeypatch.setattr(hypervisor, 'getCapabilities', lambda raw=raw: raw)
            hypervisor.tell()
        other = cloud.boot('compute1')
        assert 'umip' in cloud.hosts['compute1'].hypervisor.lookupByUUIDString(other).XMLDesc(0)
        cloud.check('compute1', 'compute2')
        self.accepted(cloud, other)

    def test_w4_an_older_qemu_whose_machine_types_fit(self, cloud, server):
        cloud.check('compute2')
        self.publish(cloud, 'compute2', qemu='5.2.0')
        own = cloud.hosts['compute1'].driver._migcheck.reporter.report.common['machine']
        assert own['qemu'] != '5.2.0'
        self.accepted(cloud, server)

    @pytest.mark.parametrize('source', ["<source file='/isos/x.iso'/>", ''])
    def test_w5_a_cd_rom(self, cloud, server, monkeypatch, source):
        """With a medium on shared storage, read-only, and without one."""
        self.change(cloud, server, monkeypatch, ('</disk>', (
            "</disk><disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
            f"{source}<target dev='hdc' bus='ide'/>"
            '<readonly/></disk>')))
        cloud.check('compute2')
        assert self.found(cloud, server) == []
        monkeypatch.setattr('nova.virt.libvirt.driver.LibvirtDriver.'
                            '_get_instance_disk_info_from_config', lambda *_args: [])
        self.accepted(cloud, server)

    def test_w7_a_file_system_that_nobody_knows_by_name(self, cloud, server):
        for name in ('compute1', 'compute2'):
            cloud.say(name, facts={'storage': UNKNOWN_SYSTEM})
        cloud.check('compute1', 'compute2')
        self.accepted(cloud, server)
