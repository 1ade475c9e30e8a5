# SPDX-License-Identifier: Apache-2.0
"""A real sshd for root, with keys of its own."""

from __future__ import annotations

import pathlib
import subprocess
from typing import Sequence

import fixtures


class Sshd(fixtures.Fixture):
    """An sshd that ends with the fixture.

    :param root: where its files are
    :param inside: what puts a command into the namespaces where it is to listen
    :ivar keys: ``host`` (its own), ``user`` (which it lets in) and ``other`` -> the public key
    """

    def __init__(self, root: pathlib.Path, address: str, port: int = 22, inside: Sequence[str] = ()
                 ) -> None:
        super().__init__()
        self.root, self.address, self.port, self.inside = root, address, port, inside

    def _setUp(self) -> None:
        root = self.root
        for name in ('host', 'user', 'other'):
            command = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', f'{root}/{name}']
            subprocess.run(command, check=True)
        self.keys = {
            name: (root / f'{name}.pub').read_text().strip() for name in ('host', 'user', 'other')
        }
        (root / 'allowed').write_text(self.keys['user'] + '\n')
        (root / 'sshd.conf').write_text(
            f'ListenAddress {self.address}\nPort {self.port}\nHostKey {root}/host\n'
            f'AuthorizedKeysFile {root}/allowed\nStrictModes no\nUsePAM no\n'
            'PermitRootLogin yes\nPidFile none\nPasswordAuthentication no\n'
        )
        subprocess.run([*self.inside, 'mkdir', '-p', '/run/sshd'], check=True)
        process = subprocess.Popen(
            [*self.inside, '/usr/sbin/sshd', '-D', '-e', '-f', str(root / 'sshd.conf')],
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
