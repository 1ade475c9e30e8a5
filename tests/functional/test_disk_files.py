# SPDX-License-Identifier: Apache-2.0
"""The files of one server, through Nova's own hooks: QEMU's user on the target may not open them
(V5), or Nova there cannot copy a config drive (V6). Users, modes and sshd are real.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import socket
import tempfile
import time
from typing import Any, Callable, Iterator

import nova.conf
import pytest
from nova import objects
from nova.objects import base

from nova_migcheck.cli import arriving as arrivals
from nova_migcheck.libvirtd import connection
from nova_migcheck.novadb import arriving, conductor, fleet
from nova_migcheck.rounds import runner
from tests.functional import per_host
from tests.functional.hypervisor import Cpu
from tests.lab.sshd import Sshd

QEMU = 64055, 64056
CONFIG = """<disk type='file' device='cdrom'><source file='/i/disk.config'/>
<target dev='hdd'/></disk>"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')


class TestFiles:
    CLOUD = {
        'cpus': dict.fromkeys(('compute1', 'compute2', 'compute3'), Cpu()),
        'memory_used': {'compute2': 1024, 'compute3': 2048},
        'conf': {'migcheck': {'checks': 'cpu,files,storage,volumes,scripted,scripted_path'}},
    }

    @pytest.fixture
    def server(self, cloud: Any) -> str:
        server: str = cloud.boot('compute1')
        cloud.check('compute1')
        return server

    @pytest.fixture
    def place(self) -> Iterator[pathlib.Path]:
        """Directories that everybody may enter, unlike those of pytest."""
        path = pathlib.Path(tempfile.mkdtemp(dir='/var/tmp'))
        path.chmod(0o755)
        yield path
        shutil.rmtree(path)

    @pytest.fixture
    def qemu(self, cloud: Any, place: pathlib.Path) -> Iterator[Callable[[int], pathlib.Path]]:
        """Let QEMU on compute2 be a user of its own, with a directory of that mode."""
        hypervisor = cloud.hosts['compute2'].hypervisor

        def begin(mode: int) -> pathlib.Path:
            path = place / 'instances'
            path.mkdir(exist_ok=True)
            path.chmod(mode)
            cloud.hosts['compute2'].set(None, 'instances_path', str(path))
            hypervisor.qemu_user = f'+{QEMU[0]}:+{QEMU[1]}'
            hypervisor.tell()
            cloud.check('compute2')
            return path

        yield begin
        hypervisor.qemu_user = ''
        hypervisor.tell()
        cloud.hosts['compute2'].options.pop((None, 'instances_path'), None)
        cloud.check('compute2')

    def refused(self, cloud: Any, server: str) -> str:
        """Ask for compute2; why it refuses."""
        migration = cloud.live_migrate(server, 'compute2', force=True)
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE'), migration.texts
        assert 'pre_live_migration' not in cloud.hosts['compute2'].calls
        refusal: str = migration.refusals['compute2']
        return refusal

    def decide(self, cloud: Any, server: str) -> None:
        """Ask compute2's hook alone; it accepts the server."""
        host = cloud.hosts['compute2']
        with cloud.cell() as context:
            source = base.obj_to_primitive(
                objects.ComputeNode.get_by_host_and_nodename(context, 'compute1', 'compute1'))
            with per_host.running_for(host):
                host.driver._migcheck.destination.decide(context, cloud.instance(server), source)

    def test_v5_the_directory(self, cloud: Any, server: str, qemu: Any) -> None:
        path = qemu(0o750)
        refusal = self.refused(cloud, server)
        for word in (f'user {QEMU[0]}', f'group {QEMU[1]}', str(path), '0750',
                     'volumes-qemu-directory'):
            assert word in refusal
        qemu(0o751)
        self.decide(cloud, server)

    def test_v5_the_scheduler_takes_another(self, cloud: Any, server: str, qemu: Any) -> None:
        qemu(0o750)
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
        assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', 'volumes-qemu-directory')

    def test_v5_other_numbers_with_rbd(self, cloud: Any, server: str, qemu: Any) -> None:
        cloud.hosts['compute2'].set('libvirt', 'images_type', 'rbd')
        qemu(0o750)
        report = cloud.hosts['compute2'].driver._migcheck.reporter.report
        assert 'qemu' not in report.common
        assert not [one for one in report.findings if one.check == 'volumes']
        cloud.hosts['compute2'].options.pop(('libvirt', 'images_type'))

    def shared(self, cloud: Any, server: str, mode: int, **fact: Any) -> pathlib.Path:
        """A disk of the server on compute2, and what compute2 has found of QEMU's user."""
        path = pathlib.Path(cloud.hosts['compute2'].options[(None, 'instances_path')])
        (path / server).mkdir()
        disk = path / server / 'disk'
        disk.touch()
        disk.chmod(mode)
        cloud.hosts['compute2'].hypervisor.qemu_user = ''
        cloud.hosts['compute2'].hypervisor.tell()
        self.tell(cloud, **fact)
        cloud.check('compute2')
        return disk

    def tell(self, cloud: Any, **fact: Any) -> None:
        """What compute2's next round finds of QEMU's user."""
        cloud.say('compute2', facts={'qemu': {'number': QEMU[0], 'group': QEMU[1], **fact}})

    @pytest.fixture
    def not_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The directory of the server is the server's own, as on a share."""
        from nova_migcheck.volumes import leftovers

        monkeypatch.setattr(leftovers, 'directory', lambda path: ())

    def test_v5_a_disk(self, cloud: Any, server: str, qemu: Any, not_left: None) -> None:
        qemu(0o755)
        disk = self.shared(cloud, server, 0o644, cannot_give='the share lets root write to none')
        refusal = self.refused(cloud, server)
        for word in (f'user {QEMU[0]}', str(disk), '0644', 'Permission denied', 'files-denied'):
            assert word in refusal
        # Nova keeps 255 bytes; the log has the rest.
        assert cloud.log.lines('nova_migcheck', 'the share lets root write to none')
        disk.chmod(0o666)
        self.decide(cloud, server)
        disk.chmod(0o600)
        os.chown(disk, *QEMU)
        self.decide(cloud, server)

    def test_v5_a_disk_by_the_round_of_the_decision(
        self, cloud: Any, server: str, qemu: Any, not_left: None
    ) -> None:
        """What the target had reported before did not tell it."""
        qemu(0o755)
        self.shared(cloud, server, 0o600)
        self.tell(cloud, cannot_give='the share lets root write to none')
        cloud.hosts['compute2'].set('migcheck', 'recheck_after', '0')
        assert 'files-denied' in self.refused(cloud, server)

    def test_v5_libvirt_gives_it_the_disk(
        self, cloud: Any, server: str, qemu: Any, not_left: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Dynamic ownership without root_squash: no process looks at the disk."""
        qemu(0o755)
        self.shared(cloud, server, 0o600)
        monkeypatch.setattr(runner, 'Runner', None)
        host = cloud.hosts['compute2']
        monkeypatch.setattr(host.driver._migcheck.reporter, '_at', time.monotonic())
        self.decide(cloud, server)

    # V6

    def test_v6_which_releases_copy(self) -> None:
        """As the source of each release has it."""
        release = int(importlib.metadata.version('nova').partition('.')[0])
        assert arriving._copies(nova.conf.CONF) is (release < 30)

    @pytest.fixture
    def sshd(self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
        """compute1 is this machine, and root there lets root in."""
        with socket.socket() as one:
            one.bind(('127.0.0.1', 0))
            port = one.getsockname()[1]
        with Sshd(place, '127.0.0.1', port) as started:
            known = place / 'known_hosts'
            known.write_text(f'[127.0.0.1]:{port} {started.keys["host"]}\n')
            (place / 'config').write_text(
                f'Host compute1\n Hostname 127.0.0.1\n Port {port}\n User root\n'
                f' IdentityFile {place}/user\n IdentitiesOnly yes\n UserKnownHostsFile {known}\n'
                ' GlobalKnownHostsFile none\n')
            (place / 'ssh').write_text(
                f'#!/bin/sh\necho "$@" >> {place}/asked\n'
                f'exec /usr/bin/ssh -F {place}/config "$@"\n')
            (place / 'ssh').chmod(0o755)
            monkeypatch.setenv('PATH', f'{place}:{os.environ["PATH"]}')
            monkeypatch.setattr(arriving, '_copies', lambda conf: True)  # as until 2024.1
            end = time.monotonic() + 30
            while socket.socket().connect_ex(('127.0.0.1', port)):
                assert time.monotonic() < end
            yield started

    @pytest.fixture
    def config_drive(self, cloud: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        hypervisor = cloud.hosts['compute1'].hypervisor
        kind = type(hypervisor.lookupByUUIDString(server))
        real = kind.XMLDesc
        monkeypatch.setattr(kind, 'XMLDesc', lambda domain, flags: real(domain, flags).replace(
            '</devices>', f'{CONFIG}</devices>', 1))
        hypervisor.tell()
        cloud.hosts['compute1'].driver._migcheck.reporter._memory.pop('cpu', None)
        cloud.check('compute1', 'compute2')

    def test_v6_the_login_works(
        self, cloud: Any, server: str, sshd: Sshd, config_drive: None
    ) -> None:
        self.decide(cloud, server)
        assert (sshd.root / 'asked').read_text().endswith('-- compute1 true\n')

    @pytest.mark.parametrize('broken', ['key', 'host key'])
    def test_v6_it_does_not(
        self, cloud: Any, server: str, sshd: Sshd, config_drive: None, broken: str
    ) -> None:
        if broken == 'key':
            (sshd.root / 'allowed').write_text(sshd.keys['other'])
        else:
            (sshd.root / 'known_hosts').write_text('')
        refusal = self.refused(cloud, server)
        words = {'key': 'Permission denied', 'host key': 'Host key verification failed'}[broken]
        for word in (words, 'user root', 'compute1', 'files-copy'):
            assert word in refusal

    def test_v6_nova_copies_nothing(
        self, cloud: Any, server: str, sshd: Sshd, config_drive: None,
        monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(arriving, '_copies', lambda conf: False)
        self.decide(cloud, server)
        assert not (sshd.root / 'asked').exists()

    # nova-migcheck check --server

    def asked(self, cloud: Any, server: str, *names: str) -> list[str]:
        """The codes of what ``check --server`` finds on compute2."""
        host = cloud.hosts['compute2']
        chosen = runner.load(names)
        with per_host.running_for(host), cloud.cell():
            conf = host.driver._migcheck.destination._conf
            coming = conductor.coming(conf, server)
            reader = host.driver._migcheck.reporter._reader
            outcome = runner.Runner(chosen).run(
                {name: reader.read(one.check) for name, one in chosen.items()
                 if one.check is not None and one.check.WHEN == 'host'}, 60)
            found = arrivals.findings(conf, chosen, coming, outcome)
            return [one.code for one in (*outcome.findings, *found) if one.code]

    def test_check_server(
        self, cloud: Any, server: str, qemu: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = qemu(0o750)
        with cloud.cell() as context:
            monkeypatch.setattr(conductor.nova_context, 'get_admin_context', lambda: context)
            # The command asks libvirt itself, of which there is a stand-in here.
            hypervisor = cloud.hosts['compute2'].hypervisor
            monkeypatch.setattr(connection, 'opened', lambda where: hypervisor)
            monkeypatch.setattr(type(hypervisor), 'close', lambda one: 0, raising=False)
            assert self.asked(cloud, server, 'volumes', 'files') == ['volumes-qemu-directory']
            path.chmod(0o755)
            assert self.asked(cloud, server, 'volumes', 'files') == []
            (path / server).mkdir()
            assert self.asked(cloud, server, 'volumes', 'files') == ['volumes-directory-left']
            with pytest.raises(fleet.Unavailable, match='there is no server'):
                self.asked(cloud, '00000000-0000-4000-8000-000000000000', 'volumes')
            with per_host.running_for(cloud.hosts['compute1']):
                conf = cloud.hosts['compute1'].driver._migcheck.destination._conf
                with pytest.raises(fleet.Unavailable, match='on this host already'):
                    conductor.coming(conf, server)
