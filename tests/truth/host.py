# SPDX-License-Identifier: Apache-2.0
"""A libvirtd that is as a plan says, in the namespaces of its host."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time
from typing import Any

from nova_migcheck.machine import offered
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.libvirtd import MOUNTS, QEMU, wrap_qemu
from tests.lab.namespaces import Namespace
from tests.truth.plan import HostPlan

# In the host's own mount namespace, so that the checks see libvirt's files as nova-compute on the
# same host does.
_MOUNTS = MOUNTS + """
if [ -e {probed}/qemu-wrapper ]; then
    mount --bind {qemu} {probed}/qemu-real
    mount --bind {probed}/qemu-wrapper {qemu}
fi
"""


class Probes:
    """What libvirt has found out about each QEMU that worlds have: it takes seconds, once for each.

    :param directory: for them
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def of(self, plan: HostPlan) -> pathlib.Path:
        """The directory for the QEMU of a host, with its wrapper where it needs one."""
        # libvirt asks QEMU as its user.
        probed = self.directory / '-'.join(
            ('qemu', *plan.lacks, str(plan.qemu.get('user', 'root')))
        )
        with self._lock:
            if not probed.is_dir():
                probed.mkdir()
                for directory in (self.directory, probed):
                    directory.chmod(0o755)  # QEMU may run as another user
                if plan.lacks:
                    (probed / 'qemu-real').touch()
                    wrap_qemu(probed, plan.lacks)
        return probed


class TruthHost(LibvirtHost):
    """The libvirtd of one host. It is killed at the end, with its guests: nothing of it is needed
    any more.
    """

    def __init__(self, host: Namespace, plan: HostPlan, probes: Probes) -> None:
        super().__init__(host)
        self.plan, self._probed = plan, probes.of(plan)

    def start(self) -> None:
        import libvirt

        cache = self._probed / 'cache'
        if cache.is_dir():
            shutil.copytree(cache, self.root / 'cache', dirs_exist_ok=True)
        self._take_types()
        self.root.chmod(0o755)
        for directory in ('lib', 'cache', 'log', 'run'):
            (self.root / directory).chmod(0o755)
        self._configure()
        self.host.run('sh', '-c', _MOUNTS.format(root=self.root, probed=self._probed, qemu=QEMU))
        for path, text in self.plan.files.items():
            self.host.write(f'/etc/{path}', text)
        # libvirtd asks QEMU again whenever it wakes on another core, so it is kept on one.
        command = [
            'taskset',
            '-c',
            str(min(os.sched_getaffinity(0))),
            '/usr/sbin/libvirtd',
            '--listen',
            '--pid-file',
            f'{self.root}/libvirtd.pid',
        ]
        with open(self.root / 'libvirtd.err', 'wb') as errors:
            self.process = subprocess.Popen(
                self.host.inside(*command), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        deadline = time.monotonic() + 60
        while not self._answers(self.root / 'run/libvirt-sock'):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f'libvirtd of {self.name} did not start: {(self.root / "libvirtd.err").read_text()}'
                )
            time.sleep(0.02)
        self.conn = self.connect()
        if not cache.is_dir():
            self.conn.getCapabilities()
            for emulator in offered.EMULATORS:
                with contextlib.suppress(libvirt.libvirtError):  # it is not there
                    self.conn.getDomainCapabilities(
                        emulator.format(arch='x86_64'), 'x86_64', None, 'qemu'
                    )
            with contextlib.suppress(OSError):  # another world was first
                made = self._probed / f'cache-{self.root.name}'
                shutil.copytree(self.root / 'cache', made)
                made.rename(cache)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    @property
    def pid(self) -> int:
        """Of the daemon itself."""
        return int((self.root / 'libvirtd.pid').read_text())

    def signal(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def domain(self, uuid: str) -> Any:
        """A guest that runs here, None if it does not."""
        import libvirt

        try:
            domain = self.conn.lookupByUUIDString(uuid)
            return domain if domain.isActive() else None
        except libvirt.libvirtError:
            return None

    def _configure(self) -> None:
        path = self.root / 'etc/libvirtd.conf'
        text = re.sub(
            'host_uuid = .*',
            f'host_uuid = "{self.plan.uuid}"',
            path.read_text().replace('listen_tls = 0\n', ''),
        )
        path.write_text(text + _lines(self.plan.libvirtd))
        path = self.root / 'etc/qemu.conf'
        kept = [
            line
            for line in path.read_text().splitlines()
            if line.partition(' ')[0] not in self.plan.qemu
        ]
        path.write_text('\n'.join(kept) + '\n' + _lines(self.plan.qemu))

    def _take_types(self) -> None:
        """Let libvirt know a QEMU without some machine types: what it has found out says so."""
        for path in (
            (self.root / 'cache/qemu/capabilities').glob('*.xml') if self.plan.types_gone else ()
        ):
            names = '|'.join(map(re.escape, self.plan.types_gone))
            status = path.stat()
            path.write_text(
                re.sub(rf" *<machine [^>]*name='(?:{names})'[^>]*/>\n", '', path.read_text())
            )
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _lines(values: dict[str, Any]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, list):
            return '[ ' + ', '.join(map(text, value)) + ' ]'
        return str(value) if isinstance(value, int) else f'"{value}"'

    return ''.join(f'{name} = {text(value)}\n' for name, value in values.items())
