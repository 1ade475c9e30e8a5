# SPDX-License-Identifier: Apache-2.0
"""The shared instances directory."""

from __future__ import annotations

import os
import signal

from tests.lab.cloud.compute_node import SHARE
from tests.lab.cloud.configuration import NOVA
from tests.lab.cloud.faults import Fault
from tests.lab.cloud.service import Service, until

_PATH = f'{NOVA}/instances'


class S1(Fault):
    """The share is not mounted on the target: forgotten after a reboot."""

    names = (_PATH, r'tmpfs|ext4|overlay|local')

    def set(self) -> None:
        self.target.unmount_share()

    def clear(self) -> None:
        self.target.host.run('sh', '-c', f'rm -rf {_PATH}/*')
        self.target.mount_share()


class S2(Fault):
    """The mount of the share hangs: its server is dead."""

    names = (_PATH, r'\d s')

    def set(self) -> None:
        self._signal(signal.SIGSTOP)

    def clear(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.target.share.process is not None
        os.kill(self.target.share.process.pid, number)


class S3(Fault):
    """The share is mounted read-only on the target."""

    names = (_PATH, 'read-only')

    def set(self) -> None:
        self.target.host.run('mount', '-o', 'remount,bind,ro', _PATH)

    def clear(self) -> None:
        self.target.host.run('mount', '-o', 'remount,bind,rw', _PATH)


class S4(Fault):
    """The target has another export mounted than the source."""

    names = ('/nova', '/other')

    def set(self) -> None:
        self.target.unmount_share()
        other = SHARE.with_name('other')
        other.mkdir(exist_ok=True)
        self._other = Service('share-other', ['bindfs', '-f', '-o', 'nonempty,subtype=glusterfs', str(other), _PATH],
                              self.target.host)
        self._other.start()
        until(10, 'the other share is mounted', self.target.share_mounted)

    def clear(self) -> None:
        self.target.host.run('umount', '--lazy', _PATH)
        self._other.stop()
        self.target.mount_share()
