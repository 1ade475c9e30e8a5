# SPDX-License-Identifier: Apache-2.0
"""Real migrations between two real libvirtd, and where their bytes went."""

from __future__ import annotations

import os
import signal

import pytest

from nova_migcheck.finding import Outcome
from tests.lab import SLACK, libvirtd
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.two_hosts import HOSTS, TwoHosts

pytestmark = [pytest.mark.root, pytest.mark.libvirt]

# A guest that does nothing is 256 MiB of zeros, which QEMU sends as a few bytes a page.
SOME_OF_THE_GUEST = 400_000
# Talk of libvirtd to libvirtd is some kilobytes.
NOTHING_OF_THE_GUEST = 100_000


def sent(hosts: TwoHosts, interface: str) -> int:
    """Bytes that both hosts sent on an interface."""
    return sum(host.counters(interface)[1] for host in (hosts.source, hosts.target))


def test_wrong_line_in_a_hosts_file(hosts: TwoHosts, pair: tuple[LibvirtHost, LibvirtHost]) -> None:
    source, target = pair
    source.guest('guest')
    inbound = {'live_migration_inbound_addr': 'node2-mig'}
    found = hosts.address(connection_uri=target.uri, **inbound)
    assert not found.text
    fact = found.facts['migration']
    assert fact['libvirt_host'] == 'node2'

    # The line is wrong: refused, with the name, the line and both interfaces.
    hosts.source.hosts.write(*HOSTS[:-1], '10.66.0.12 node2-mig')
    failure = hosts.transport('node2-mig', fact, live_migration_inbound_addr='node1-mig').one(Outcome.FAILURE)
    for word in ('node2-mig', '10.66.0.12', 'mgmt0', 'mig0', '/etc/hosts:5'):
        assert word in str(failure)

    # Repaired: accepted, and the guest goes over the interface that was meant.
    hosts.source.hosts.write(*HOSTS)
    found = hosts.transport('node2-mig', fact, live_migration_inbound_addr='node1-mig')
    assert not found.text and len(found.only(Outcome.OK)) == 3
    management, migration = sent(hosts, 'mgmt0'), sent(hosts, 'mig0')
    source.migrate('guest', 'node2-mig')
    assert (source.guests(), target.guests()) == ([], ['guest'])
    assert sent(hosts, 'mig0') - migration > SOME_OF_THE_GUEST
    assert sent(hosts, 'mgmt0') - management < NOTHING_OF_THE_GUEST

    # What the refusal spared: libvirt sends everything over the wrong interface, and says nothing.
    hosts.target.hosts.write(*HOSTS[:-2], '10.66.0.11 node1-mig', '10.77.0.12 node2-mig')
    management, migration = sent(hosts, 'mgmt0'), sent(hosts, 'mig0')
    target.migrate('guest', 'node1-mig')
    assert sent(hosts, 'mgmt0') - management > SOME_OF_THE_GUEST
    assert sent(hosts, 'mig0') - migration < NOTHING_OF_THE_GUEST


def test_libvirtd_itself(hosts: TwoHosts) -> None:
    """What the checks ask of a real daemon: its host name, and an answer before anybody logs in."""
    if libvirtd.missing():
        pytest.skip(libvirtd.missing())
    with LibvirtHost(hosts.target) as target:
        # libvirt makes a short host name canonical.
        hosts.target.hosts.write('127.0.0.1 localhost', '10.66.0.12 node2.example.org node2')
        fact = hosts.address(connection_uri=target.uri).facts['migration']
        assert fact['libvirt_host'] == 'node2.example.org'
        hosts.source.hosts.add('10.77.0.12 node2.example.org')
        failure = hosts.transport(fact=fact).one(Outcome.FAILURE)
        names = 'node2 is 10.66.0.12 over mgmt0 but node2.example.org is 10.77.0.12 over mig0'
        assert names in failure.detail

        hosts.source.hosts.write(*HOSTS, '10.66.0.12 node2.example.org')
        assert not hosts.transport(fact=fact).text
        pid = int((target.root / 'libvirtd.pid').read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            hung = hosts.transport(fact=fact, timeout=1)
            assert 'accepts connections but does not answer' in hung.one(Outcome.FAILURE).detail
            unasked = hosts.address(connection_uri=target.uri, timeout=1)
            assert 'did not report its host name' in unasked.one(Outcome.UNKNOWN).detail and unasked.seconds < 1 + SLACK
        finally:
            os.kill(pid, signal.SIGCONT)
        assert not hosts.transport(fact=fact).text
