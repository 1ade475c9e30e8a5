# SPDX-License-Identifier: Apache-2.0
"""A compute host: namespaces, two networks, the shared instances directory, a libvirtd and a nova-compute of its own."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any, Callable, Sequence

import fixtures

from tests.lab.cloud import STATE, configuration
from tests.lab.cloud.configuration import CONTROL, NOVA, VIP
from tests.lab.cloud.service import Service, until
from tests.lab.libvirtd import MOUNTS, QEMU, Libvirtd, wrap_qemu
from tests.lab.namespaces import Namespace

MANAGEMENT, MIGRATION = 'mgmt0', 'mig0'
# A name as an export of a server has it; bindfs shows it as what is mounted.
SHARE = STATE / 'storage:/nova'
# More free memory draws a server: without a word from the user the scheduler tries this host first.
PREFERRED = 2

_LISTEN = """
listen_tcp = 1
listen_addr = "0.0.0.0"
auth_tcp = "none"
"""
# Where RHEL has QEMU, and where libvirt looks if it is not where Debian has it.
RHEL_QEMU = '/usr/libexec/qemu-kvm'

_MOUNTS = MOUNTS + """
mount --bind /usr/bin/qemu-system-x86_64 {root}/qemu-real
"""


def plug(host: Namespace, network: str, interface: str) -> None:
    """Connect an interface of a host, which is made, to a bridge of the control plane's network namespace."""
    port = f'{interface}-{host.name[-1]}'
    subprocess.run(['ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', interface, 'netns', str(host.pid)], check=True)
    subprocess.run(['ip', 'link', 'set', port, 'master', network, 'up'], check=True)
    host.ip(f'link set {interface} up')


class HostLibvirtd(Libvirtd):
    """The libvirtd of a compute host: in that host's namespaces, for nova-compute there, and listening for other hosts.

    :param probed: directory with what libvirtd found when it probed the same QEMU; may be empty
    """

    def __init__(self, host: Namespace, probed: pathlib.Path) -> None:
        super().__init__(host.name)
        self.host, self.probed = host, probed
        self._mounted = self._wrapped = False

    def start(self) -> None:
        if not self._mounted:
            self._mounted = True
            with open(self.root / 'etc/libvirtd.conf', 'a') as conf:
                conf.write(_LISTEN)
            self._as_probed()
            (self.root / 'qemu-real').touch()
            self.host.run('sh', '-c', _MOUNTS.format(root=self.root))
        # libvirtd probes QEMU again whenever it wakes on another core, so it is kept on one.
        cores = sorted(os.sched_getaffinity(0))
        core = cores[int(self.host.name[-1]) % len(cores)]
        with open(self.root / 'libvirtd.err', 'wb') as errors:
            self.process = subprocess.Popen(
                self.host.inside('taskset', '-c', str(core), '/usr/sbin/libvirtd', '--listen', '--pid-file', f'{self.root}/libvirtd.pid'),
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        until(60, f'libvirtd of {self.name} answers', self._answers_or_ended)

    def _answers_or_ended(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f'libvirtd of {self.name} ended: {(self.root / "libvirtd.err").read_text()}')
        return self._answers(self.root / 'run/libvirt-sock')

    def _as_probed(self) -> None:
        if self.probed.is_dir():
            shutil.copytree(self.probed, self.root / 'cache', dirs_exist_ok=True)

    def change_cpu(self, lost: Sequence[str] = (), vendor: str = '') -> None:
        """Restart with a QEMU that lacks these features of the CPU, and says another vendor; with the machine's own for neither."""
        self.stop()
        if self._wrapped:
            self.host.run('umount', QEMU)
        # The wrapper's time does not tell libvirt that it is to probe again.
        shutil.rmtree(self.root / 'cache/qemu', ignore_errors=True)
        self.lose(tuple(lost), vendor)
        self._wrapped = bool(lost or vendor)
        if self._wrapped:
            self.host.run('mount', '--bind', f'{self.root}/qemu-wrapper', QEMU)
        else:
            self._as_probed()
        self.start()

    def listen(self, address: str) -> None:
        """Restart listening on an address, or ``0.0.0.0``, or ``::``."""
        self._restart_with('libvirtd.conf', listen_addr=address)

    def identify(self, host_uuid: str) -> None:
        """Restart with another host UUID."""
        self.host_uuid = host_uuid
        self._restart_with('libvirtd.conf', host_uuid=host_uuid)

    def run_qemu_as(self, user: str, group: str) -> None:
        """Restart, to start QEMU as another user from now on."""
        self.root.chmod(0o755)
        owns = str(int(user != 'root'))
        self._restart_with('qemu.conf', user=user, group=group, dynamic_ownership=owns)

    def _restart_with(self, file: str, **options: str) -> None:
        conf = self.root / 'etc' / file
        lines = [line for line in conf.read_text().splitlines()
                 if line.split(' ')[0] not in options]
        for name, value in options.items():
            lines.append(f'{name} = {value}' if value.isdigit() else f'{name} = "{value}"')
        conf.write_text('\n'.join(lines) + '\n')
        self.stop()
        self.start()

    def change_qemu(self, change: Callable[[str], str] = str) -> None:
        """Restart with another belief about its QEMU; without ``change`` with what it found."""
        self.stop()
        believed, found = self.root / 'cache/qemu/capabilities', self.root / 'found'
        if not found.exists():
            shutil.copytree(believed, found)
        for file in found.iterdir():
            text = file.read_text()
            changed = change(text)
            if change is not str and changed == text:
                raise RuntimeError(f'nothing was changed in what libvirtd of {self.name} found')
            (believed / file.name).write_text(changed)
        self.start()

    def move_qemu(self, away: bool) -> None:
        """Restart with QEMU where RHEL has it, or with the machine's own."""
        self.stop()
        shutil.rmtree(self.root / 'cache/qemu', ignore_errors=True)
        if away:
            wrap_qemu(self.root, ())
            directory = os.path.dirname(RHEL_QEMU)
            self.host.run(
                'sh',
                '-c',
                f'mount --bind /dev/null {QEMU} && '
                f'mount -t tmpfs none {directory} && cp -p {self.root}/qemu-wrapper {RHEL_QEMU}',
            )
        else:
            self.host.run('umount', QEMU, os.path.dirname(RHEL_QEMU))
            self._as_probed()
        self.start()

    def keep_probed(self) -> None:
        """Save what libvirtd found, for the next lab."""
        if not self.probed.is_dir() and (self.root / 'cache/qemu/capabilities').is_dir():
            partial = self.probed.with_suffix(f'.{os.getpid()}')
            shutil.copytree(self.root / 'cache', partial)
            try:
                partial.rename(self.probed)
            except OSError:
                shutil.rmtree(partial)  # the other lab was first

    def domains(self) -> dict[str, str]:
        """uuid -> state of each domain there is, in libvirt's words."""
        listed = subprocess.run(['virsh', '-c', self.uri, 'list', '--all', '--uuid'], capture_output=True, text=True, timeout=30)
        return {uuid: subprocess.run(['virsh', '-c', self.uri, 'domstate', uuid], capture_output=True, text=True,
                                     timeout=30).stdout.strip() for uuid in listed.stdout.split()}

    def destroy(self, uuid: str) -> None:
        """Take a domain away, whatever Nova thinks of it."""
        for command in (['destroy', uuid], ['undefine', '--nvram', uuid]):
            subprocess.run(['virsh', '-c', self.uri, *command], capture_output=True, timeout=30)


class ComputeNode(fixtures.Fixture):
    """One compute host, ``compute<number>``; nova-compute is not started yet.

    :param plugin: whether nova-compute has the plugin
    :ivar more: sections that are put over nova.conf by the next :meth:`configure`
    """

    def __init__(self, number: int, plugin: bool, cache: pathlib.Path, virt_type: str) -> None:
        super().__init__()
        self.number, self.plugin, self.cache, self.virt_type = number, plugin, cache, virt_type
        self.name = f'compute{number}'
        self.management, self.migration = f'10.66.0.{10 + number}', f'10.77.0.{10 + number}'
        self.more: dict[str, dict[str, Any]] = {}

    def _setUp(self) -> None:
        self.directory = STATE / 'hosts' / self.name
        (self.directory / 'nova/instances').mkdir(parents=True)
        (self.directory / 'nova/lock').mkdir()
        NOVA.mkdir(exist_ok=True)
        SHARE.mkdir(parents=True, exist_ok=True)
        self.host = self.useFixture(Namespace(self.name))
        for network, interface, address in (('mgmt', MANAGEMENT, self.management), ('mig', MIGRATION, self.migration)):
            plug(self.host, network, interface)
            self.host.address(interface, f'{address}/24')
        self.hosts_file()
        self.host.run('mount', '--bind', str(self.directory / 'nova'), str(NOVA))
        # libvirt refuses a bind mount as "not shared"; a FUSE file system of this name it takes for a cluster's.
        self.share = Service(f'share-{self.name}', ['bindfs', '-f', '-o', 'nonempty,subtype=glusterfs', str(SHARE),
                                                    f'{NOVA}/instances'], self.host)
        self.mount_share()
        self.addCleanup(self.share.stop, 0.5)
        self.libvirtd = self.useFixture(HostLibvirtd(self.host, self.cache / 'probed'))
        self.conf = self.directory / 'nova.conf'
        self.configure()
        self.compute = Service(f'nova-compute-{self.name}', [
            str(pathlib.Path(sys.prefix) / 'bin/nova-compute'), '--config-file', str(self.conf)], self.host)
        self.addCleanup(self.compute.stop, 0.5)

    def hosts_file(self) -> None:
        """As it should be."""
        lines = ['127.0.0.1 localhost', f'{CONTROL} control', f'{VIP} internal.lab']
        for number in (1, 2, 3):
            lines += [f'10.66.0.{10 + number} compute{number}', f'10.77.0.{10 + number} compute{number}-mig']
        self.host.hosts.write(*lines)

    def configure(self) -> None:
        """Write nova.conf."""
        plugin = {'migcheck': {'check_interval': 10, 'probe_interval': 0,
                               'migration_networks': '10.77.0.0/24'}} if self.plugin else {}
        configuration.compute(self.conf, self.name, self.management, self.plugin, {
            'DEFAULT': {'reserved_host_memory_mb': 512 if self.number == PREFERRED else 4096},
            'libvirt': {'virt_type': self.virt_type, 'cpu_mode': 'host-model', 'live_migration_inbound_addr': f'{self.name}-mig'},
        }, plugin, self.more)

    def start(self) -> int:
        """Start nova-compute. Returns the place in its log from which :meth:`wait_ready` reads."""
        since = self.compute.mark()
        self.compute.start()
        return since

    def wait_ready(self, since: int) -> None:
        """Wait until nova-compute has told placement and the database about this host and takes requests."""
        self.compute.wait_logged('Final resource view', since, 300)
        self.compute.wait_logged('Updated inventory|Inventory has not changed|Created resource provider', since, 120)

    def mount_share(self) -> None:
        self.share.start()
        until(10, f'the share is mounted on {self.name}', self.share_mounted)

    def share_mounted(self) -> bool:
        return f' {NOVA}/instances fuse' in pathlib.Path(f'/proc/{self.host.pid}/mounts').read_text()

    def unmount_share(self) -> None:
        """As after a reboot without it: an empty directory is in its place."""
        self.host.run('umount', '--lazy', f'{NOVA}/instances')
        self.share.stop()
