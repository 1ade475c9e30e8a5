# SPDX-License-Identifier: Apache-2.0
"""Two hosts, a switch and a guest, made as a plan says."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from typing import Any

import fixtures

from tests.lab.namespaces import Namespace, Switch
from tests.truth.host import Probes, TruthHost
from tests.truth.plan import INSTANCES, NAMES, SOURCE, TARGET, HostPlan, Plan

DISK_SIZE = 1 << 20

_GUEST = """
<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <features><acpi/></features>
  {cpu}
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/>{disk}<memballoon model='none'/></devices>
</domain>
"""
_DISK = """<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='{path}'/>
<target dev='vda' bus='virtio'/></disk>"""
NAME = 'instance-00000001'


class Stage(fixtures.Fixture):
    """:ivar spaces: the namespaces of the hosts, by name
    :ivar libvirts: their libvirtd, by name
    :ivar uuid: of the guest
    """

    def __init__(self, plan: Plan, probes: Probes) -> None:
        super().__init__()
        self.plan, self._probes = plan, probes
        self.uuid = str(uuid.uuid4())

    def _setUp(self) -> None:
        self._backing = pathlib.Path(tempfile.mkdtemp(prefix='truth-'))
        self.addCleanup(shutil.rmtree, self._backing, ignore_errors=True)
        self._backing.chmod(0o755)
        self.spaces = {name: self.useFixture(Namespace(name)) for name in NAMES}
        self.target, self.source = self.spaces[TARGET], self.spaces[SOURCE]
        self._switch = self.useFixture(Switch('switch'))
        for name, host in self.spaces.items():
            self._network(name, host)
            host.hosts.write(*self.plan.hosts[name].lines)
            self._mount(host, self.plan.hosts[name])
        for change in self.plan.first:
            change(self)
        self.libvirts = {
            name: self.useFixture(TruthHost(self.spaces[name], self.plan.hosts[name], self._probes))
            for name in NAMES
        }
        self._start_guest()
        for change in (*self.plan.late, *self.plan.last):
            change(self)

    def _network(self, name: str, host: Namespace) -> None:
        plan = self.plan
        for interface in ('mgmt0', 'mig0'):
            self._switch.plug('mgmt' if plan.one_subnet else interface[:-1], host, interface)
            host.address(
                interface, f'{plan.address(name, interface)}/{64 if plan.family == 6 else 24}'
            )
        port = self._port(host, 'mig0')
        self._switch.ip(f'link set {port} mtu 9000')
        host.ip(f'link set mig0 mtu {plan.mtu[name]} gso_max_segs 1')
        if plan.largest:
            # As a switch that drops them: where the frame would arrive.
            host.drop(f'iifname "mig0" meta length > {plan.largest}')

    def _port(self, host: Namespace, interface: str) -> str:
        network = 'mgmt' if self.plan.one_subnet else interface[:-1]
        return f'{network}{host.pid}{len(interface)}'[-15:]

    def _mount(self, host: Namespace, plan: HostPlan) -> None:
        host.run('sh', '-c', f'mount -t tmpfs none /mnt && mkdir {INSTANCES}')
        if plan.share == 'local' or not self.plan.disk:
            return
        export = self._backing / (
            '10.0.0.5:/other' if plan.share == 'other' else '10.0.0.5:/export'
        )
        export.mkdir(parents=True, exist_ok=True)
        options = 'nonempty,subtype=glusterfs' + (',ro' if plan.share == 'read-only' else '')
        server = subprocess.Popen(
            host.inside('bindfs', '-f', '-o', options, str(export), INSTANCES),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(server.wait, 10)
        self.addCleanup(server.kill)
        deadline = time.monotonic() + 20
        while ' fuse.glusterfs ' not in host.run('cat', '/proc/self/mountinfo'):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError('bindfs did not mount')
            time.sleep(0.02)

    def _start_guest(self) -> None:
        disk = ''
        if self.plan.disk:
            self.source.run(
                'sh',
                '-c',
                f'mkdir {self.directory} && truncate -s {DISK_SIZE} {self.directory}/disk',
            )
            self.source.run('chmod', '-R', 'a+rwX', self.directory)
            disk = _DISK.format(path=f'{self.directory}/disk')
        text = _GUEST.format(
            name=NAME,
            uuid=self.uuid,
            memory=64,
            machine=self.plan.machine,
            cpu=self.plan.cpu,
            disk=disk,
        )
        # As Nova starts it.
        self.libvirts[SOURCE].conn.defineXML(text).create()

    @property
    def directory(self) -> str:
        """The guest's, on both hosts."""
        return f'{INSTANCES}/{self.uuid}'

    # What states do.

    def tame(self) -> None:
        """Let each interface answer for its own address only, and go out over the one that has it.
        """
        for name, host in self.spaces.items():
            host.sysctl('net.ipv4.conf.all.arp_ignore', 1)
            host.sysctl('net.ipv4.conf.all.arp_announce', 2)
            other = next(one for one in NAMES if one != name)
            with contextlib.suppress(AssertionError):  # with IPv6 there are two subnets
                host.ip(
                    f'route add {self.plan.address(other, "mig0")}/32 dev mig0 src {self.plan.address(name, "mig0")}'
                )

    def second_family(self, family: int) -> None:
        """Give the migration interfaces an address of the other family, too."""
        for name, host in self.spaces.items():
            host.address(
                'mig0', f'{self.plan.address(name, "mig0", family)}/{64 if family == 6 else 24}'
            )

    def unplug(self) -> None:
        """Take the cable of the target's migration interface out of the switch."""
        self._switch.ip(f'link set {self._port(self.target, "mig0")} down')

    def hang(self) -> None:
        """Let the target's libvirtd stand still."""
        self.libvirts[TARGET].signal(signal.SIGSTOP)
        self.addCleanup(self._quietly, lambda: self.libvirts[TARGET].signal(signal.SIGCONT))

    def sasl_user(self, name: str, password: str) -> None:
        """Give the target's libvirt a user."""
        path = self._backing / 'passwd.db'
        self.target.run(
            'saslpasswd2', '-p', '-c', '-f', str(path), '-a', 'libvirt', name, text=password
        )
        self.plan.target.files['sasl2/libvirt.conf'] = self.plan.target.files[
            'sasl2/libvirt.conf'
        ].replace('/etc/libvirt/passwd.db', str(path))

    def leave(self, which: str, name: str, running: bool = False) -> None:
        """Let a domain be on the target already.

        :param which: ``same`` for the guest's UUID
        :param name: ``same`` for the guest's name
        """
        text = _GUEST.format(
            name=NAME if name == 'same' else 'instance-00000002',
            memory=16,
            machine='pc',
            cpu='',
            disk='',
            uuid=self.uuid if which == 'same' else str(uuid.uuid4()),
        )
        domain = self.libvirts[TARGET].conn.defineXML(text)
        if running:
            domain.create()

    @staticmethod
    def _quietly(call: Any) -> None:
        with contextlib.suppress(OSError):
            call()


def in_namespace(host: Namespace, path: str) -> pathlib.Path:
    """A path as a host sees it, for a process outside."""
    return pathlib.Path(f'/proc/{host.pid}/root{os.path.normpath(path)}')
