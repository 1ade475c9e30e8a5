# SPDX-License-Identifier: Apache-2.0
"""Two hosts between which ``nova-migcheck rehearse`` goes."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from tests.lab.libvirt_host import LibvirtHost
from tests.lab.two_hosts import TwoHosts

COMMAND = os.path.join(os.path.dirname(sys.executable), 'nova-migcheck')


class Stage:
    """A source with a nova.conf, and a target."""

    def __init__(
        self, hosts: TwoHosts, source: LibvirtHost, target: LibvirtHost, files: pathlib.Path
    ) -> None:
        self.hosts, self.source, self.target, self.files = hosts, source, target, files
        (files / 'compute_id').write_text('6d5c4b3a-0000-4000-8000-000000000001')
        self.configure()

    def configure(self, *lines: str) -> None:
        (self.files / 'nova.conf').write_text(
            '\n'.join(
                [
                    '[DEFAULT]',
                    'host = node1',
                    'my_ip = 10.66.0.11',
                    f'state_path = {self.files}',
                    '[migcheck]',
                    'checks = transport',
                    '[libvirt]',
                    f'connection_uri = {self.source.uri}',
                    'virt_type = qemu',
                    'live_migration_inbound_addr = node1-mig',
                    *lines,
                    '',
                ]
            )
        )

    def command(self, *arguments: str) -> list[str]:
        return self.hosts.source.inside(
            COMMAND, 'rehearse', 'node2', '--config-file', str(self.files / 'nova.conf'), *arguments
        )

    def rehearse(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return the exit code and what was printed."""
        done = subprocess.run(
            self.command('-f', 'json', *arguments), capture_output=True, text=True, timeout=120
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def wait_until_empty(self) -> None:
        """Wait until no guest is left on either side."""
        deadline = time.monotonic() + 90
        while self.guests and time.monotonic() < deadline:
            time.sleep(0.5)
        assert self.guests == []

    @property
    def guests(self) -> list[str]:
        return self.source.guests() + self.target.guests()
