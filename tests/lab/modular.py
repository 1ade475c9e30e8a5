# SPDX-License-Identifier: Apache-2.0
"""A host with modular daemons: virtproxyd listens for other hosts, virtqemud runs the guests.

Debian 12 and 13 ship neither. Both are compiled from the source of the monolithic libvirtd, with
other names and parts of it left out (``src/remote/meson.build``). So where there is no
``/usr/sbin/virtproxyd``, a copy of libvirtd with that name and virtproxyd.conf takes its place: the
code that reads the settings, listens, and shakes hands is the same. Where there is one, it and
virtqemud run.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from typing import Any, Sequence

import fixtures
import psutil

from tests.lab.libvirtd import QEMU_CONF
from tests.lab.namespaces import Namespace

# auth_unix: without D-Bus there is no polkit. ca_file and the like are added by a test.
_CONF = """
listen_tcp = 1
listen_tls = {tls}
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""

_START = """
set -eu
for directory in run lib cache log; do mkdir -p {root}/$directory; done
mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
mount --bind {root}/run /run/libvirt
mount --bind {root}/lib /var/lib/libvirt
mount --bind {root}/cache /var/cache/libvirt
mount --bind {root}/log /var/log/libvirt
{others}
exec {command}
"""

PROXY, GUESTS = '/usr/sbin/virtproxyd', '/usr/sbin/virtqemud'


class ModularHost(fixtures.Fixture):
    """The daemons of one host. Its ``/etc/libvirt`` is the host's own.

    ``uri`` is where its guests can be asked for.
    """

    def __init__(self, host: Namespace) -> None:
        super().__init__()
        self.host = host

    def _setUp(self) -> None:
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='modular-'))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.uri = f'qemu+unix:///system?socket={self.root}/run/libvirt-sock'
        self.host.write('/etc/libvirt/qemu.conf', QEMU_CONF)
        # As packages have it: a file that nothing reads any more, and that names nothing.
        self.host.write('/etc/libvirt/libvirtd.conf', '#ca_file = "/etc/pki/CA/cacert.pem"\n')

    def start(self, tls: bool = True, **conf: Any) -> None:
        """Start them, and wait until the port for TLS, or else that for TCP, is open.

        :param conf: settings of virtproxyd.conf
        :raises RuntimeError: when it is not
        """
        lines = [f'{name} = "{value}"' if isinstance(value, str) else f'{name} = {value}'
                 for name, value in conf.items()]
        self.host.write('/etc/libvirt/virtproxyd.conf',
                        _CONF.format(tls=int(tls)) + '\n'.join(lines) + '\n')
        others, command = '', f'{PROXY} --pid-file {self.root}/virtproxyd.pid'
        if os.path.exists(PROXY):
            self.host.write('/etc/libvirt/virtqemud.conf',
                            'auth_unix_ro = "none"\nauth_unix_rw = "none"\n')
            others = f'{GUESTS} --daemon --pid-file {self.root}/virtqemud.pid'
            self.addCleanup(self._end, self.root / 'virtqemud.pid')
        else:
            shutil.copy('/usr/sbin/libvirtd', self.root / 'virtproxyd')
            command = (f'{self.root}/virtproxyd --listen --config /etc/libvirt/virtproxyd.conf '
                       f'--pid-file {self.root}/virtproxyd.pid')
        script = _START.format(root=self.root, others=others, command=command)
        with open(self.root / 'err', 'wb') as errors:
            process = subprocess.Popen(
                self.host.inside('unshare', '--mount', '--propagation', 'private', 'sh', '-c',
                                 script),
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        self.addCleanup(_stop, process)
        deadline = time.monotonic() + 30
        while not self.host.run('ss', '-Hltn', f'sport = :{16514 if tls else 16509}'):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f'virtproxyd does not listen: {(self.root / "err").read_text()}')
            time.sleep(0.05)

    def _end(self, pid_file: pathlib.Path) -> None:
        if pid_file.exists():
            daemon = psutil.Process(int(pid_file.read_text()))
            daemon.terminate()
            daemon.wait(20)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # A libvirtd 11.3 that is still starting its drivers may not end when it is asked to.
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


class Process(fixtures.Fixture):
    """A process with a daemon's name that does nothing.

    :param daemon: its name
    :param user: number of the user that it runs as
    :param arguments: its command line
    """

    def __init__(self, host: Namespace, daemon: str, user: int = 0,
                 arguments: Sequence[str] = ()) -> None:
        super().__init__()
        self.host, self.daemon, self.user, self.arguments = host, daemon, user, arguments

    def _setUp(self) -> None:
        directory = pathlib.Path(tempfile.mkdtemp(prefix='daemon-'))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        # tail takes what comes after "--" for names of files, which need not be there.
        shutil.copy('/usr/bin/tail', directory / self.daemon)
        process = subprocess.Popen(
            self.host.inside('setpriv', f'--reuid={self.user}', '--clear-groups',
                             str(directory / self.daemon), '--follow', '/dev/null', '--',
                             *self.arguments),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 10
        while psutil.Process(process.pid).name() != self.daemon:
            if time.monotonic() > deadline:
                raise RuntimeError(f'{self.daemon} did not start')
            time.sleep(0.01)
