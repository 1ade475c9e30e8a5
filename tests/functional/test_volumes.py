# SPDX-License-Identifier: Apache-2.0
"""The volumes and leftovers of one server, through Nova's own hooks (rows V1, V2 and V4)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from typing import Any, Iterator

import nova.conf
import pytest
from nova import objects
from nova.objects import base
from nova.tests.fixtures import cinder
from nova.virt.libvirt.volume import volume as volumes

from nova_migcheck.cli import explain
from nova_migcheck.novadb import fleet
from nova_migcheck.rounds import runner
from tests.functional import per_host
from tests.functional.hypervisor import Cpu

VOLUME = '0a6de5b2-0000-4000-8000-00000000000a'
SECRET = '5c1f8a2e-0000-4000-8000-000000000001'
# Nothing of these may leave what Nova keeps of the volume.
MARKED = {'auth_username': 'kaninchen1', 'auth_password': 'kaninchen2', 'keyring': 'kaninchen3'}
RBD = f"""<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<auth username='cinder'><secret type='ceph' uuid='{SECRET}'/></auth>
<source protocol='rbd' name='vms/disk'/><target dev='vdr' bus='virtio'/></disk>"""
SERIAL = f"""<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/sdz'/>
<target dev='vds' bus='virtio'/><serial>{VOLUME}</serial></disk>"""


@contextlib.contextmanager
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen(50)
        yield server.getsockname()[1]


def closed() -> int:
    with listening() as port:
        pass
    return port


class TestVolumes:
    CLOUD = {
        'cpus': dict.fromkeys(('compute1', 'compute2', 'compute3'), Cpu()),
        'memory_used': {'compute2': 1024, 'compute3': 2048},
        'debug': True,
        'conf': {
            'migcheck': {
                'checks': 'cpu,attachments,volumes,scripted,scripted_path',
                'probe_timeout': '2',
            }
        },
    }

    @pytest.fixture
    def nvme(self, tmp_path, monkeypatch):
        """What os-brick connects such volumes with, wherever this machine has it."""
        path = tmp_path / 'bin/nvme'
        path.parent.mkdir()
        path.touch(0o755)
        monkeypatch.setenv('PATH', f'{path.parent}:{os.environ["PATH"]}')
        return path

    @pytest.fixture
    def server(self, cloud, nvme, monkeypatch):
        for host in cloud.hosts.values():
            host.driver.volume_drivers['nvmeof'] = volumes.LibvirtFakeVolumeDriver(
                host.driver._host
            )
        server = cloud.boot('compute1')
        cloud.check('compute1')
        yield server
        monkeypatch.undo()
        for host in cloud.hosts.values():
            host.hypervisor.secrets = []
            host.hypervisor.tell()
        cloud.check()

    def change(self, cloud, server, monkeypatch, disk: str, only_with: str = '') -> None:
        """Let the live XML have one disk more, if it has ``only_with``."""
        hypervisor = cloud.hosts['compute1'].hypervisor
        kind = type(hypervisor.lookupByUUIDString(server))
        real = kind.XMLDesc

        def changed(domain, flags):
            text = real(domain, flags)
            if domain.UUIDString() == server and only_with in text:
                text = text.replace('</devices>', f'{disk}</devices>', 1)
            return text

        monkeypatch.setattr(kind, 'XMLDesc', changed)
        hypervisor.tell()

    def attach(self, cloud, server, monkeypatch, *ports: int) -> None:
        """Attach a volume by the API, to a guest that has been read before."""
        info = {
            'driver_volume_type': 'nvmeof',
            'data': {
                **MARKED,
                'target_nqn': 'nqn.2010-10.org.openstack:volume',
                'portals': [['127.0.0.1', str(port), 'tcp'] for port in ports],
            },
        }
        monkeypatch.setitem(cinder.CinderFixture.VOLUME_CONNECTION_INFO, VOLUME, info)
        self.change(cloud, server, monkeypatch, SERIAL, only_with="dev='vdb'")
        cloud.api.post_server_volume(server, {'volumeAttachment': {'volumeId': VOLUME}})

        def attached() -> bool:
            with cloud.cell() as context:
                mappings = objects.BlockDeviceMappingList.get_by_instance_uuid(context, server)
            return any(
                one.is_volume and one.connection_info and 'kaninchen2' in one.connection_info
                for one in mappings
            )

        cloud.database.wait_for(attached, 'an attached volume')
        cloud.hosts['compute1'].hypervisor.tell()
        assert "dev='vdb'" in cloud.hosts['compute1'].hypervisor.lookupByUUIDString(server).XMLDesc(
            0
        )

    def give(self, cloud, host: str, *secrets: tuple[str, str, str]) -> None:
        cloud.hosts[host].hypervisor.secrets = list(secrets)
        cloud.hosts[host].hypervisor.tell()

    @pytest.mark.parametrize(
        'there, words',
        [
            ((), ('is not defined', 'volumes-secret-missing')),
            (((SECRET, 'client.cinder secret', ''),), ('has no value', 'volumes-secret-empty')),
        ],
    )
    def test_v1_a_secret(self, cloud, server, monkeypatch, there, words):
        good = (SECRET, 'client.cinder secret', 'kaninchen4')
        self.give(cloud, 'compute1', good)
        self.give(cloud, 'compute2', *there)
        self.give(cloud, 'compute3', good)
        self.change(cloud, server, monkeypatch, RBD)
        # It is as if the guest had just started.
        cloud.hosts['compute1'].driver._migcheck.reporter._memory.pop('cpu', None)
        cloud.check()
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        for word in (SECRET, 'vdr', *words):
            assert word in migration.refusals['compute2']
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', SECRET)
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        assert 'kaninchen4' not in cloud.log.output + json.dumps(
            [cloud.stats(host) for host in cloud.hosts]
        )

    def test_v1_a_secret_that_the_source_lacks_too(self, cloud, server, monkeypatch):
        """Cinder names another by now, which Nova will write: the old one was removed everywhere
        while the guest ran.
        """
        self.change(cloud, server, monkeypatch, RBD)
        cloud.hosts['compute1'].driver._migcheck.reporter._memory.pop('cpu', None)
        cloud.check()
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts

    def test_v1_attached_to_a_guest_that_was_read_before(self, cloud, server, monkeypatch):
        """The source looks at the disks that the guest has now."""
        self.give(cloud, 'compute1', (SECRET, 'client.cinder secret', 'kaninchen4'))
        cloud.check('compute1')
        self.change(cloud, server, monkeypatch, RBD)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        assert SECRET in migration.refusals['compute2']
        cloud.hosts['compute1'].driver._migcheck.reporter.disks_changed(server)
        cloud.check('compute1')
        report = cloud.hosts['compute1'].driver._migcheck.reporter.report
        assert SECRET in report.needs.of(server)

    def test_v2_a_volume_that_cannot_be_reached(self, cloud, server, monkeypatch):
        port = closed()
        self.attach(cloud, server, monkeypatch, port)
        cloud.check('compute1')
        started = self.note_processes(monkeypatch)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        for word in (VOLUME, f'127.0.0.1:{port}', 'connection refused', 'attachments-unreachable'):
            assert word in migration.refusals['compute2']
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        assert any('attachments' in told for _words, told in started)
        self.nothing_leaves(cloud, started, migration.texts)

    def nothing_leaves(self, cloud, started, texts: str) -> None:
        """No marked value is in a process, in what is published or in our log. Nova itself logs
        some.
        """
        ours = '\n'.join(cloud.log.lines('nova_migcheck'))
        stats = json.dumps([cloud.stats(host) for host in cloud.hosts])
        processes = '\n'.join(f'{words} {told}' for words, told in started)
        for where in (ours, stats, processes, texts):
            assert [secret for secret in MARKED.values() if secret in where] == []

    def note_processes(self, monkeypatch) -> list[tuple[str, str]]:
        """The arguments and the standard input of each process that is started."""
        started: list[tuple[str, str]] = []
        start = subprocess.Popen.__init__

        def noted(process, args, **kwargs):
            stdin = kwargs.get('stdin')
            told = os.pread(stdin, 10**6, 0) if isinstance(stdin, int) and stdin >= 0 else b''
            started.append((f'{args} {kwargs.get("env")}', told.decode()))
            return start(process, args, **kwargs)

        monkeypatch.setattr(subprocess.Popen, '__init__', noted)
        return started

    def test_w9_one_of_two_portals_is_down(self, cloud, server, monkeypatch):
        """Rows W9 and V2: one portal that answers is enough."""
        port = closed()
        with listening() as alive:
            self.attach(cloud, server, monkeypatch, alive, port)
            cloud.check('compute1')
            migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert cloud.log.lines(
            'WARNING', 'nova_migcheck', 'compute2', 'attachments-some-unreachable', str(port)
        )
        self.nothing_leaves(cloud, [], migration.texts)

    @pytest.mark.skipif(bool(shutil.which('nvme')), reason='this machine has nvme-cli')
    def test_v3_nvme(self, cloud, server, nvme, monkeypatch):
        with listening() as port:
            self.attach(cloud, server, monkeypatch, port)
            cloud.check('compute1')
            nvme.unlink()
            migration = cloud.live_migrate(server, 'compute2')
            assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
            for word in ('nvme', VOLUME, 'attachments-connector'):
                assert word in migration.refusals['compute2']
            nvme.touch(0o755)
            self.decide(cloud, server, monkeypatch)

    def test_explain_tells_what_a_host_lacks(self, cloud, server, nvme, monkeypatch):
        """By its report, without a look at the host."""
        with listening() as port:
            self.attach(cloud, server, monkeypatch, port)
        nvme.unlink()
        cloud.check('compute2')
        nvme.touch(0o755)
        cloud.check('compute1', 'compute3')
        found = fleet.read()
        told = fleet.server(server)
        assert [one.driver for one in told.volumes] == ['nvmeof']
        verdicts = {
            host.name: [one.code for one in verdict.rejections]
            for host, verdict in explain.judge(
                told, found, found.hosts, nova.conf.CONF.migcheck, time.time()
            )
        }
        lacking = [] if shutil.which('nvme', path='/usr/sbin:/sbin') else ['attachments-connector']
        assert verdicts == {'compute1': [], 'compute2': lacking, 'compute3': []}

    def decide(self, cloud, server, monkeypatch) -> tuple[int, int]:
        """Ask compute2's hook; the queries for disks, and the processes with a check of the server.
        """
        rounds: list[Any] = []
        run = runner.Runner.run
        monkeypatch.setattr(
            runner.Runner,
            'run',
            lambda one, settings, *words: (
                rounds.append(list(settings)),
                run(one, settings, *words),
            )[1],
        )
        host = cloud.hosts['compute2']
        with cloud.cell() as context:
            source = base.obj_to_primitive(
                objects.ComputeNode.get_by_host_and_nodename(context, 'compute1', 'compute1')
            )
            with per_host.running_for(host), cloud.database.queries() as queries:
                host.driver._migcheck.destination.decide(context, cloud.instance(server), source)
        return (
            len([one for one in queries if 'FROM block_device_mapping' in one]),
            len([names for names in rounds if 'attachments' in names]),
        )

    def test_what_it_costs(self, cloud, server, monkeypatch):
        """A server without volumes costs no query and no probe; one that has some costs one of
        each.
        """
        cloud.check('compute1', 'compute2')
        assert self.decide(cloud, server, monkeypatch) == (0, 0)
        with listening() as port:
            self.attach(cloud, server, monkeypatch, port)
            cloud.check('compute1')
            assert self.decide(cloud, server, monkeypatch) == (1, 1)

    def test_where_the_needs_are_not_known_the_volumes_are_looked_at(
        self, cloud, server, monkeypatch
    ):
        stats = cloud.stats('compute1')
        cloud.set_stats(
            'compute1',
            {key: value for key, value in stats.items() if not key.startswith('migcheck')},
        )
        assert self.decide(cloud, server, monkeypatch) == (1, 0)

    def test_a_conductor_that_fails_lets_it_through(self, cloud, server, monkeypatch):
        with listening() as port:
            self.attach(cloud, server, monkeypatch, port)
            cloud.check('compute1')

            def broken(*_words):
                raise RuntimeError('the database is gone')

            from nova_migcheck.compute import arrival

            monkeypatch.setattr(arrival.Disks, 'mappings', broken)
            migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert cloud.log.lines('WARNING', 'nova_migcheck.hook', 'the database is gone')

    def test_v4_a_directory(self, cloud, server, monkeypatch, tmp_path):
        # A machine of its own, on which the directory is that of nobody else.
        cloud.hosts['compute2'].set(None, 'instances_path', str(tmp_path))
        left = tmp_path / server
        left.mkdir()
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        for word in (str(left), 'volumes-directory-left'):
            assert word in migration.refusals['compute2']
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        left.rename(tmp_path / f'{server}_resize')
        self.decide(cloud, server, monkeypatch)

    def test_v4_a_domain(self, cloud, server, monkeypatch):
        hypervisor = cloud.hosts['compute2'].hypervisor
        xml = cloud.hosts['compute1'].hypervisor.lookupByUUIDString(server).XMLDesc(0)
        name = cloud.instance(server).name
        assert f'<name>{name}</name>' in xml
        other = hypervisor.createXML(xml.replace(server, '5c1f8a2e-0000-4000-8000-0000000000ff'), 0)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        for word in (name, '0000000000ff', 'volumes-domain-other'):
            assert word in migration.refusals['compute2']
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        hypervisor._undefine(other)
        migration = cloud.live_migrate(server, 'compute2')
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
