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

from nova_migcheck.aftermath.ledger import NAME, Ledger
from nova_migcheck.rehearsal import guest
from nova_migcheck.report import published
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Report
from tests.facts import facts
from tests.lab import libvirtd
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.rehearsal_stage import COMMAND, Stage
from tests.lab.two_hosts import HOSTS, TwoHosts

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]


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
    [kept] = Ledger(str(stage.files), 1 << 20, 90).rehearsals('node1') or []
    assert (kept.ended, kept.peer, kept.data, kept.interface, kept.downtime) == (
        'completed',
        'node2',
        said['bytes'],
        'mig0',
        said['downtime_ms'],
    )


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


# When the command is killed: while the guest starts, while it migrates (which takes about three
# seconds over this link), and after that.
@pytest.mark.parametrize('after', [0.0, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 2.0, 3.0, 4.0])
def test_killed(stage: Stage, after: float) -> None:
    """Wherever the guest is then, it ends by itself."""
    _slow(stage)
    process = _begun(stage, '--deadline', '4')
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stage.wait_until_empty()


def test_cut_in_the_middle(stage: Stage) -> None:
    """Neither host hears of the other again."""
    _slow(stage)
    process = _begun(stage, '--deadline', '8')
    before = stage.hosts.source.counters('mig0')[1]
    deadline = time.monotonic() + 30
    while stage.hosts.source.counters('mig0')[1] < before + 8 * 2**20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    for host in (stage.hosts.source, stage.hosts.target):
        host.drop('iifname "mig0"')
    assert process.wait(90) == 1
    stage.wait_until_empty()


def _slow(stage: Stage) -> None:
    stage.hosts.source.run(
        *'tc qdisc add dev mig0 root tbf rate 200mbit burst 128kb latency 50ms'.split()
    )


def _begun(stage: Stage, *arguments: str) -> subprocess.Popen[bytes]:
    """Begin a rehearsal of 64 MiB, and wait until its guest is there."""
    process = subprocess.Popen(
        stage.command('--connect', 'node2-mig', '--memory', '64', *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not stage.guests and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    return process


# To all hosts. nova-conductor, which names them, is in ./run lab.
_ALL = """
import json, sys, types
from nova_migcheck.novadb import neighbours
from nova_migcheck.cli import main
from nova_migcheck.judging.matrix import Host
hosts = [Host(name, '', stats, service) for name, stats, service in json.loads(sys.argv.pop(1))]
neighbours.read = lambda conf: hosts
sys.exit(main.main())
"""


def _report(inbound: str, **values: Any) -> dict[str, str]:
    report = Report(int(time.time()), **facts(migration={'inbound': inbound}), **values)
    return published.write(report)


def test_all(stage: Stage) -> None:
    """Two names of one host; each with the address that it has published."""
    stage.hosts.source.hosts.write(*HOSTS, '10.77.0.12 node3-mig')
    other = Past(7, 'out', 'a', 'node3', 'completed', rate=100 << 20, rehearsal=True)
    fleet = [
        ('node1', _report('node1-mig'), 'up'),
        ('node2', _report('node2-mig', rehearsals=(other,)), 'up'),
        ('node3', _report('node3-mig'), 'disabled'),
        ('node4', {}, 'up'),
        ('node5', _report('node5-mig'), 'down'),
    ]
    script = [sys.executable, '-W', 'ignore', '-c', _ALL, json.dumps(fleet), 'rehearse', '--all']
    conf = ['--config-file', str(stage.files / 'nova.conf')]
    metrics = stage.files / 'rehearsals.prom'
    done = subprocess.run(
        stage.hosts.source.inside(*script, *conf, '-f', 'json', '--prometheus', str(metrics)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert list(said) == ['node2', 'node3'] and all(each['arrived'] for each in said.values())
    assert 'node4, node5' in done.stderr
    assert 'rehearsal_arrived{source="node1",target="node3"} 1.0' in metrics.read_text()
    done = subprocess.run(
        stage.hosts.source.inside(*script, *conf, '--memory', '64', '--back'),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and 'MiB/s, from' in done.stdout and 'confirmed' in done.stdout
    # What node2 has published is in the matrix, too.
    assert '100.0' in done.stdout
    assert (stage.files / NAME).read_text().count('"kind":"rehearsal"') == 6
    assert stage.guests == []


def test_all_finds_the_one_that_strays(stage: Stage) -> None:
    """Beside one that does not: a counter does not say whose the bytes are."""
    stage.hosts.source.hosts.write(*HOSTS, '10.66.0.12 node3-mig')
    fleet = [(name, _report(f'{name}-mig'), 'up') for name in ('node2', 'node3')]
    done = subprocess.run(
        stage.hosts.source.inside(
            *(sys.executable, '-W', 'ignore', '-c', _ALL, json.dumps(fleet), 'rehearse', '--all'),
            *('--config-file', str(stage.files / 'nova.conf'), '-f', 'json'),
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert {name: each['strayed'] for name, each in said.items()} == {'node2': False, 'node3': True}


@pytest.mark.parametrize('words', [(), ('node2', '--all'), ('--all', '--connect', 'node2-mig')])
def test_who_is_the_target(stage: Stage, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        stage.hosts.source.inside(
            COMMAND, 'rehearse', *words, '--config-file', str(stage.files / 'nova.conf')
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 255 and 'give a TARGET' in done.stderr


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
