# SPDX-License-Identifier: Apache-2.0
"""A real libvirtd with directories of its own: nothing of the machine's own libvirt is touched."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import uuid
from typing import Any, Optional, Sequence

import fixtures

QEMU = '/usr/bin/qemu-system-x86_64'

_LIBVIRTD_CONF = """
listen_tls = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{host_uuid}"
"""

#: Of QEMU that runs as root, without what a namespace lacks.
QEMU_CONF = """
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
"""

#: Puts the directories of libvirt below ``root``. Hides the emulators that no test needs: probing
#: each costs libvirtd seconds at its first getCapabilities.
MOUNTS = """
set -eu
mkdir -p /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
mount --bind {root}/etc /etc/libvirt
mount --bind {root}/run /run/libvirt
for name in lib cache log; do mount --bind {root}/$name /var/$name/libvirt; done
for other in i386 x86_64-microvm; do
    other=/usr/bin/qemu-system-$other
    [ ! -e $other ] || mount --bind /dev/null $other
done
"""

# Runs in a mount namespace of its own and becomes libvirtd, so that the process that was started is
# the one to end.
_START = MOUNTS + """
hostname {name}
if [ {kvm} = no ] && [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi
if [ -x {root}/qemu-wrapper ]; then
    touch {root}/qemu-real
    mount --bind {qemu} {root}/qemu-real
    mount --bind {root}/qemu-wrapper {qemu}
fi
exec taskset -c {core} /usr/sbin/libvirtd --pid-file {root}/libvirtd.pid
"""

_WRAPPER = """#!/bin/bash
arguments=({globals})
while [ $# -gt 0 ]; do
    if [ "$1" = -cpu ]; then
        arguments+=(-cpu "$2{suffix}")
        shift 2
    else
        arguments+=("$1")
        shift
    fi
done
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
exec {directory}/qemu-real -L /usr/share/qemu -L /usr/share/seabios -L /usr/lib/ipxe/qemu \\
    "${{arguments[@]}}"
"""


def wrap_qemu(directory: pathlib.Path, without: Sequence[str], vendor: str = '') -> None:
    """Write ``qemu-wrapper``: the QEMU of ``qemu-real`` there, whose CPUs lack features.

    ``-global`` changes what libvirt finds when it probes, ``-cpu`` what a guest gets.

    :param vendor: as CPUID says it, e.g. ``GenuineIntel``; libvirt finds it, and no guest gets it
    """
    changed = [f'{name}=off' for name in without]
    found = [*changed, *([f'vendor={vendor}'] if vendor else [])]
    wrapper = directory / 'qemu-wrapper'
    wrapper.write_text(_WRAPPER.format(
        directory=directory, suffix=''.join(f',{change}' for change in changed),
        globals=' '.join(f'-global x86_64-cpu.{change}' for change in found)))
    wrapper.chmod(0o755)


def missing() -> str:
    """What this machine lacks for :class:`Libvirtd`, '' when it has all."""
    if os.geteuid() != 0:
        return 'not root'
    for path in ('/usr/sbin/libvirtd', QEMU):
        if not os.access(path, os.X_OK):
            return f'no {path}'
    return ''


def has_kvm() -> bool:
    """Whether KVM can be used here."""
    return os.access('/dev/kvm', os.R_OK | os.W_OK)


class Libvirtd(fixtures.Fixture):
    """A libvirtd that ends, with its guests, when the fixture is cleaned up.

    :param name: its host name
    :param without: QEMU names of CPU features that its QEMU does not have
    :param kvm: False for a node without KVM
    :param cache: directory with the result of an earlier probe of the same QEMU, and where the result goes; None to
        probe (seconds). Not used together with ``without``.

    ``uri`` is where it listens; ``root`` its directory.
    """

    def __init__(self, name: str = 'node', without: Sequence[str] = (), cache: Optional[pathlib.Path] = None,
                 kvm: bool = True) -> None:
        super().__init__()
        self.name, self.without, self.cache, self.kvm = name, without, cache, kvm
        self.process: Optional[subprocess.Popen[bytes]] = None

    def _setUp(self) -> None:
        # Not pytest's tmp_path: the name of a unix socket may have 107 bytes.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='libvirtd-'))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        for directory in ('etc', 'etc/hooks', 'run', 'lib', 'cache', 'log'):
            (self.root / directory).mkdir()
        if self.cache is not None and self.cache.is_dir() and not self.without:
            shutil.copytree(self.cache, self.root / 'cache', dirs_exist_ok=True)
        self.host_uuid = str(uuid.uuid4())
        (self.root / 'etc/libvirtd.conf').write_text(
            _LIBVIRTD_CONF.format(host_uuid=self.host_uuid)
        )
        (self.root / 'etc/qemu.conf').write_text(QEMU_CONF)
        self.lose(self.without)
        self.uri = f'qemu+unix:///system?socket={self.root}/run/libvirt-sock'
        self.start()
        self.addCleanup(self._end_guests)
        self.addCleanup(self.stop)

    def lose(self, without: Sequence[str], vendor: str = '') -> None:
        """Take features from the CPUs of its QEMU, and let them say another vendor, from the next :meth:`start` on.

        :param vendor: as CPUID says it, e.g. ``GenuineIntel``; only what libvirt finds is changed, not what a guest gets
        """
        self.without = without
        if without or vendor:
            # libvirt knows by QEMU's time of change whether to probe it again, and that is the same.
            shutil.rmtree(self.root / 'cache/qemu', ignore_errors=True)
            wrap_qemu(self.root, without, vendor)

    def start(self) -> None:
        """Start the daemon, and wait until it answers.

        :raises RuntimeError: when it does not
        """
        # libvirtd probes QEMU again whenever it wakes on another core, so it is kept on one.
        script = _START.format(name=self.name, root=self.root, qemu=QEMU,
                               core=min(os.sched_getaffinity(0)), kvm='yes' if self.kvm else 'no')
        with open(self.root / 'libvirtd.err', 'wb') as errors:
            self.process = subprocess.Popen(
                ['unshare', '--mount', '--uts', '--propagation', 'private', 'sh', '-c', script],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        deadline = time.monotonic() + 30
        socket = self.root / 'run/libvirt-sock'
        while not self._answers(socket):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f'libvirtd did not start: {(self.root / "libvirtd.err").read_text()}')
            time.sleep(0.05)

    def stop(self) -> None:
        """End the daemon; its guests live on."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
            if self.cache is not None and self.kvm and not self.without and not self.cache.is_dir():
                shutil.copytree(self.root / 'cache', self.cache)
            self.process = None

    def change_qemu_conf(self, **settings: str) -> None:
        """Restart with other settings in qemu.conf."""
        conf = self.root / 'etc/qemu.conf'
        lines = [line for line in conf.read_text().splitlines()
                 if line.partition(' ')[0] not in settings]
        lines += [f'{name} = {value}' for name, value in settings.items()]
        conf.write_text('\n'.join(lines) + '\n')
        self.stop()
        self.start()

    def connect(self) -> Any:
        """A connection, closed with the fixture.

        :raises libvirt.libvirtError: when it cannot be made
        """
        import libvirt
        libvirt.registerErrorHandler(lambda context, error: None, None)
        connection = libvirt.open(self.uri)
        self.addCleanup(connection.close)
        return connection

    def _answers(self, socket: pathlib.Path) -> bool:
        import libvirt
        if not socket.exists():
            return False
        libvirt.registerErrorHandler(lambda context, error: None, None)
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def _end_guests(self) -> None:
        for pid_file in (self.root / 'run/qemu').glob('*.pid'):
            try:
                os.kill(int(pid_file.read_text()), 9)
            except (ProcessLookupError, ValueError):
                pass
