# SPDX-License-Identifier: Apache-2.0
"""What is told of real migrations, beside what virsh and the kernel's counters tell."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import types

import pytest

from nova_migcheck.aftermath import tally
from nova_migcheck.finding import Finding, Outcome
from tests import documentation
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.two_hosts import HOSTS, TwoHosts
from tests.lab.watcher import watching

pytestmark = [pytest.mark.root, pytest.mark.libvirt]

INBOUND = {'live_migration_inbound_addr': 'node2-mig'}


def completed(host: LibvirtHost, guest: str) -> dict[str, str]:
    """What virsh prints; it takes the statistics away from whoever comes after."""
    words = documentation.typed('virsh domjobinfo GUEST --completed', GUEST=guest)
    said = subprocess.run([*words, '--rawstats'], check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, 'LIBVIRT_DEFAULT_URI': host.uri}).stdout
    return dict(re.findall(r'^(\S+): (.*\S)', said, re.MULTILINE))


def size(count: int) -> str:
    return f'{count / (1 << 20):.1f} MiB'


def test_what_is_told_agrees_with_virsh_and_the_counters(
    hosts: TwoHosts, pair: tuple[LibvirtHost, LibvirtHost], tmp_path: pathlib.Path
) -> None:
    source, target = pair
    source.guest('guest')
    uuid = source.connect().lookupByName('guest').UUIDString()
    instance = types.SimpleNamespace(uuid=uuid, host='node1')
    fact = hosts.address(connection_uri=target.uri, **INBOUND).facts['migration']
    with watching(target, fact, tmp_path) as watch:
        # As it should be.
        watch('arriving', None, instance)
        before = hosts.target.counters('mig0')[0]
        source.migrate('guest', 'node2-mig')
        rose = hosts.target.counters('mig0')[0] - before
        log, _ = watch('arrived', instance)
        job = completed(target, 'guest')
        data = int(job['data_processed'])
        assert data <= rose < 1.5 * data
        seconds, downtime = int(job['time_elapsed']) / 1000, job['downtime']
        # At which rate, libvirt does not tell of the shortest.
        assert (
            f'INFO live migration of {uuid} from node1: {seconds:.1f} s, '
            f'downtime {downtime} ms, {size(data)}'
            in log
        )
        assert '100 % on mig0 (intended)' in log
        assert 'mgmt0' not in log and f'{int(job["memory_iteration"])} iterations' in log
        past = watch('pasts')[1][-1]
        assert (past.ended, past.downtime, past.data, past.interface) == (
            'completed',
            int(downtime),
            data,
            'mig0',
        )

    # The way back, over the wrong interface: a wrong line in the source's hosts file, which
    # mode = report has let through.
    hosts.target.hosts.write(*HOSTS[:-2], '10.66.0.11 node1-mig', '10.77.0.12 node2-mig')
    fact = hosts.address(
        hosts.source, connection_uri=source.uri, live_migration_inbound_addr='10.77.0.11'
    ).facts['migration']
    instance.host = 'node2'
    with watching(source, fact, tmp_path) as watch:
        watch('arriving', None, instance)
        target.migrate('guest', 'node1-mig')
        log, _ = watch('arrived', instance)
        data = int(completed(source, 'guest')['data_processed'])
        warning = next(line for line in log.splitlines() if line.startswith('WARNING'))
        assert (
            f'of {size(data)} did not arrive on mig0, which is intended: mgmt0 received' in warning
        )
        assert 'on mgmt0 (not intended)' in log
        assert watch('pasts')[1][-1].ended == 'strayed'

        # A failure on the source: libvirt's message, and what the checks had reported.
        for findings, said in (
            ((), 'the checks do not cover that fault'),
            (
                (Finding('transport', Outcome.FAILURE, 'node9', 'node9 has no route'),),
                'the checks had reported: failure: transport: node9',
            ),
        ):
            watch('remember_findings', uuid, '10.99.0.1', findings)
            log, _ = watch('fail', instance, '10.99.0.1')
            assert re.search(
                rf'WARNING live migration of {uuid} to 10.99.0.1 failed after .* s: '
                r'.*10.99.0.1.*Network is unreachable',
                log,
            )
            assert said in log
        assert [past.ended for past in watch('pasts')[1]] == ['strayed', 'failed', 'failed']

        # A guest that is gone when it is looked at.
        source.connect().lookupByName('guest').destroy()
        watch('arriving', None, instance)
        log, _ = watch('arrived', instance)
        assert 'libvirt gave no statistics' in log and 'libvirt has no statistics for it' in log

    counted = tally.read(str(tmp_path))
    assert counted is not None
    assert (
        counted.ended['in completed'],
        counted.ended['out failed'],
        counted.strayed,
        counted.timed,
    ) == (2, 2, 1, 1)
    assert 0.9 * data <= counted.stray <= data
