# SPDX-License-Identifier: Apache-2.0
"""What the documentation says to type on a compute host, beside nova-migcheck."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import xml.etree.ElementTree as ElementTree
from typing import Iterator

import pytest

from tests import documentation
from tests.lab import libvirtd

LOCAL = '127.0.0.1'


@pytest.mark.root
def test_a_ping_keeps_its_interval_and_numbers_what_it_sends() -> None:
    ping = subprocess.run([*documentation.typed('ping -i 0.001 -D ADDRESS', ADDRESS=LOCAL), '-c', '200'], check=True, timeout=60,
                          stdout=subprocess.PIPE, text=True)
    answers = re.findall(r'^\[([0-9.]+)\] .* icmp_seq=([0-9]+) ', ping.stdout, re.MULTILINE)
    assert [int(number) for _at, number in answers] == list(range(1, 201))
    assert float(answers[-1][0]) - float(answers[0][0]) < 20, 'a ping of 1 ms took 0.1 s each'


@pytest.mark.root
def test_fping_does_too() -> None:
    with subprocess.Popen(documentation.typed('fping -l -p 1 -t 10000 ADDRESS', ADDRESS=LOCAL), stdout=subprocess.PIPE, text=True) as fping:
        assert fping.stdout
        lines = [fping.stdout.readline() for _ in range(100)]
        fping.send_signal(signal.SIGINT)
        fping.stdout.read()
    assert [int(number) for line in lines for number in re.findall(r'^127\.0\.0\.1 *: \[([0-9]+)\]', line)] == list(range(100)), lines


@pytest.fixture(scope='module')
def node() -> Iterator[libvirtd.Libvirtd]:
    if libvirtd.missing():
        pytest.skip(libvirtd.missing())
    with libvirtd.Libvirtd('node1') as daemon:
        daemon.connect().createXML(
            "<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><cpu mode='host-model'/>"
            "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/></devices></domain>")
        yield daemon


def _virsh(node: libvirtd.Libvirtd, words: list[str]) -> ElementTree.Element:
    return ElementTree.fromstring(subprocess.run(words, check=True, timeout=100, stdout=subprocess.PIPE, text=True,
                                                 env={**os.environ, 'LIBVIRT_DEFAULT_URI': node.uri}).stdout)


@pytest.mark.root
@pytest.mark.libvirt
def test_virsh_tells_what_the_cpu_check_could_not(node: libvirtd.Libvirtd) -> None:
    host = _virsh(node, documentation.typed('virsh domcapabilities'))
    assert host.find("cpu/mode[@name='host-model'][@supported='yes']") is not None
    guest = _virsh(node, documentation.typed('virsh dumpxml GUEST', GUEST='guest'))
    assert guest.findtext('cpu/model')


@pytest.mark.root
def test_a_mount_becomes_writable_again(tmp_path: object) -> None:
    remount = ' '.join(documentation.typed('mount -o remount,rw DIRECTORY', DIRECTORY=tmp_path))
    shell = 'mount -t tmpfs none $0; mount -o remount,ro $0; ! touch $0/a 2>/dev/null; $1; touch $0/a'
    subprocess.run(['unshare', '--mount', 'sh', '-ec', shell, str(tmp_path), remount], check=True, timeout=60)
