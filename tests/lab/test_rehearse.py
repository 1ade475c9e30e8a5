# SPDX-License-Identifier: Apache-2.0
"""Rehearsals between two real libvirtd: what arrives, what does not, and whether the checks had
foreseen it.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from nova_migcheck.rehearsal import guest
from tests.lab import libvirtd
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.two_hosts import HOSTS, TwoHosts

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]

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


@pytest.fixture
def stage(hosts: TwoHosts, pair: tuple[LibvirtHost, LibvirtHost], tmp_path: pathlib.Path) -> Stage:
    return Stage(hosts, *pair, tmp_path)


def test_arrives(stage: Stage) -> None:
    code, said = stage.rehearse('--connect', 'node2-mig')
    assert code == 0, said
    assert (said['arrived'], said['strayed'], said['error'], said['foreseen'], said['agrees']) == (
        True,
        False,
        None,
        [],
        True,
    )
    assert said['bytes'] > 100_000 and said['downtime_ms'] >= 0 and said['mib_per_second'] is None
    assert said['interfaces']['mig0'] > said['bytes'] * 0.9
    assert stage.guests == []


def test_rate(stage: Stage) -> None:
    """64 MiB that cannot be compressed, over the migration network."""
    code, said = stage.rehearse('--connect', 'node2-mig', '--memory', '64')
    assert code == 0 and said['bytes'] > 55 * 2**20 and said['mib_per_second'] > 1
    assert said['interfaces']['mig0'] > 55 * 2**20
    assert stage.guests == []


def test_back(stage: Stage) -> None:
    code, said = stage.rehearse('--connect', 'node2-mig', '--back')
    assert code == 0 and said['back']['arrived'] and stage.guests == []
    # The other way is broken: the target believes that the source is elsewhere.
    stage.hosts.target.hosts.write(*HOSTS[:-2], '10.77.0.77 node1-mig', '10.77.0.12 node2-mig')
    code, said = stage.rehearse('--connect', 'node2-mig', '--back')
    assert code == 1 and said['arrived'] and not said['back']['arrived'] and said['back']['error']
    assert stage.guests == []


def test_strays_as_foreseen(stage: Stage) -> None:
    """The line is wrong: libvirt says nothing, and everything goes over the other network."""
    stage.hosts.source.hosts.write(*HOSTS[:-1], '10.66.0.12 node2-mig')
    code, said = stage.rehearse('--connect', 'node2-mig', '--memory', '32')
    assert code == 1 and said['arrived'] and said['strayed']
    assert (
        any(one['code'] == 'transport-wrong-interface' for one in said['foreseen'])
        and said['agrees']
    )


@pytest.mark.parametrize(
    'rule, code',
    [
        ('tcp dport 16509', 'transport-libvirt-silent'),
        ('tcp dport 49152-49215', 'transport-qemu-filtered'),
    ],
)
def test_does_not_arrive_as_foreseen(stage: Stage, rule: str, code: str) -> None:
    stage.hosts.target.drop(rule)
    ended, said = stage.rehearse('--connect', 'node2-mig', '--deadline', '10')
    assert ended == 1 and not said['arrived'] and said['error']
    assert [one['code'] for one in said['foreseen']] == [code] and said['agrees']
    # libvirt itself tries to connect to a filtered port, for two minutes, and can end nothing
    # meanwhile.
    stage.hosts.target.run('nft', 'flush', 'ruleset')
    stage.wait_until_empty()


def test_the_checks_were_wrong(stage: Stage) -> None:
    """What no check of the path looks at: libvirt on the target cannot start QEMU."""
    pid = (stage.target.root / 'libvirtd.pid').read_text().strip()
    subprocess.run(
        ['nsenter', '--target', pid, '--mount', 'mount', '--bind', '/dev/null', libvirtd.QEMU],
        check=True,
    )
    ended, said = stage.rehearse('--connect', 'node2-mig')
    assert ended == 1 and not said['arrived'] and said['foreseen'] == [] and not said['agrees']
    table = subprocess.run(
        stage.command('--connect', 'node2-mig'), capture_output=True, text=True, timeout=120
    )
    assert (
        'the checks were wrong' in table.stdout and 'all checks of the path are ok' in table.stdout
    )


def test_no_nova_compute_yet(stage: Stage) -> None:
    (stage.files / 'compute_id').unlink()
    done = subprocess.run(stage.command(), capture_output=True, text=True, timeout=60)
    assert (
        done.returncode == 255
        and 'nova-compute has not been started on this host yet' in done.stderr
    )
    assert stage.guests == []


def test_wrong_memory(stage: Stage) -> None:
    done = subprocess.run(
        stage.command('--memory', '8'), capture_output=True, text=True, timeout=60
    )
    assert done.returncode not in (0, 1) and '--memory' in done.stderr


@pytest.mark.parametrize('after', [0.0, 0.3, 0.6, 1.0])
def test_killed(stage: Stage, after: float) -> None:
    """Wherever the guest is then, it ends by itself."""
    stage.hosts.target.ip('link set mig0 mtu 1400')  # slower, and so more often in the middle
    process = subprocess.Popen(
        stage.command('--connect', 'node2-mig', '--deadline', '2', '--memory', '128'),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not stage.guests and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stage.wait_until_empty()


def test_sweep(stage: Stage) -> None:
    """A clock that stood: the guest is older than its life. Others are left alone."""
    conn = stage.source.connect()
    conn.createXML(
        guest.definition('qemu', 16, -1, False)[1].replace(
            "rebootTimeout='-1000'", "rebootTimeout='60000'"
        )
    )
    conn.createXML(guest.definition('qemu', 16, 60, False)[1])
    stage.source.guest('a-tenants')
    (swept,) = guest.sweep(conn)
    assert (
        swept.startswith('migcheck-rehearsal-')
        and len(stage.source.guests()) == 2
        and 'a-tenants' in stage.source.guests()
    )
