# SPDX-License-Identifier: Apache-2.0
"""Rehearsals in both directions while servers are created, migrated and deleted: Nova must not see
a difference to the same day without any.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any, Iterator, Sequence

from tests.lab.cloud import STATE
from tests.lab.cloud.cloud import Cloud, say
from tests.lab.cloud.compute_node import ComputeNode
from tests.lab.cloud.service import until
from tests.lab.cloud.user import Migration, Server

_COMMAND = str(pathlib.Path(sys.prefix) / 'bin/nova-migcheck')
# What nova-compute looks for every ten minutes: here it has to meet a rehearsal.
_OFTEN = {'DEFAULT': {'sync_power_state_interval': 7}}
# The one line that the documentation names.
_DOCUMENTED = 'While synchronizing instance power states, found'
_SERVERS = 3
_LEVELS = re.compile(r' (WARNING|ERROR|CRITICAL) (\S+) ')
# What is there when no server is: it must be what it was. The memory of the machine itself is not
# asked for: a virtual machine may get more of it meanwhile.
_RECORDS = {
    'servers': 'select count(*) from nova_cell1.instances where deleted = 0',
    'allocations': 'select count(*) from placement.allocations',
    'inventories': 'select resource_provider_id, resource_class_id, reserved'
                   ' from placement.inventories order by 1, 2',
    'hosts': 'select host, vcpus, vcpus_used, memory_mb_used, local_gb_used, running_vms'
             ' from nova_cell1.compute_nodes where deleted = 0 order by 1',
    'migrations of no server': 'select uuid from nova_cell1.migrations where instance_uuid not in'
                               ' (select uuid from nova_cell1.instances)',
}


def play(cloud: Cloud, count: int) -> list[str]:
    """Play the day without rehearsals, then with so many, and compare.

    :raises AssertionError: where Nova saw a difference
    """
    one, two = cloud.nodes['compute1'], cloud.nodes['compute2']
    for node in cloud.nodes.values():
        node.more = _OFTEN
        node.configure()
    cloud.restart_computes()
    empty = _records(cloud)
    without = _Day(cloud)
    without.live()
    assert _settled(cloud, empty), (_records(cloud), empty)
    day = _Day(cloud)
    said: list[dict[str, Any]] = []
    with day.lived():
        for number in range(count):
            source, target = (one, two) if number % 2 else (two, one)
            said.append(_rehearse(source, target.name, '--connect', f'{target.name}-mig'))
            assert said[-1]['arrived'] and said[-1]['agrees'] and not said[-1]['strayed'], said[-1]
        whole = _rehearse(one, '--all', '--back')
    assert set(whole) == set(cloud.nodes) - {one.name}, whole
    assert all(each['arrived'] and each['back']['arrived'] for each in whole.values()), whole
    assert day.ends == without.ends, (day.ends, without.ends)
    assert _settled(cloud, empty), (_records(cloud), empty)
    foreign = {uuid for node in cloud.nodes.values() for uuid in node.libvirtd.domains()}
    assert not foreign, foreign
    say(f'without: {without.kinds()}; with: {day.kinds()}')
    new = {kind: count for kind, count in day.kinds().items() if kind not in without.kinds()}
    assert all(_DOCUMENTED in kind for kind in new), new
    until(
        180,
        'the hosts publish what they have tried',
        lambda: all(
            name in cloud.reports() and cloud.reports()[name].rehearsals
            for name in (one.name, two.name)
        ),
    )
    seconds = sorted(each['seconds'] for each in said)
    for node in cloud.nodes.values():
        node.more = {}
        node.configure()
    cloud.restart_computes()
    return [f'{count} rehearsals in both directions arrived, in {seconds[count // 2]:.2f} s in the '
            f'median, while {len(day.ends)} servers were created, migrated and deleted; and --all '
            f'--back to {", ".join(whole)}',
            'servers, allocations, inventories and hosts are as they were, and no domain is left',
            f'new in the log of nova-compute: {new or "nothing"}']


def _rehearse(source: ComputeNode, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        source.host.inside(_COMMAND, 'rehearse', *words, '--config-file', str(source.conf),
                           '-f', 'json'), capture_output=True, text=True, timeout=300, cwd=STATE)
    assert done.returncode == 0, (done.stdout, done.stderr)
    said: dict[str, Any] = json.loads(done.stdout)
    say(f'rehearsal: {" ".join(words)}')
    return said


def _records(cloud: Cloud) -> dict[str, str]:
    return {what: cloud.control.database.query(query) for what, query in _RECORDS.items()}


def _settled(cloud: Cloud, empty: dict[str, str]) -> bool:
    """Wait until the records are those of an empty cloud again, which Nova counts every 5 s."""
    with contextlib.suppress(TimeoutError):
        return until(60, 'the records settle', lambda: _records(cloud) == empty, 1.0)
    return False


class _Day:
    """What users do meanwhile.

    :ivar ends: of each server, what became of its migrations
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._since = {name: node.compute.mark() for name, node in cloud.nodes.items()}
        self.ends: list[Sequence[tuple[str, str, str]]] = []
        self._error: list[BaseException] = []

    def live(self) -> None:
        """Create, migrate there and back, and delete some servers, one after the other."""
        for _ in range(_SERVERS):
            server = Server(self._cloud, 'compute1')
            done: list[Migration] = [server.migrate('compute2'), server.migrate('compute1')]
            self.ends.append([(one.record, one.host, ' '.join(one.running)) for one in done])
            server.delete()

    @contextlib.contextmanager
    def lived(self) -> Iterator[None]:
        """Live it beside what is done meanwhile."""
        def work() -> None:
            try:
                self.live()
            except BaseException as error:
                self._error.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join(600)
        if self._error:
            raise self._error[0]

    def kinds(self) -> dict[str, int]:
        """Return the warnings and errors in the logs of nova-compute, without what differs."""
        found: dict[str, int] = {}
        for name, since in self._since.items():
            for line in self._cloud.nodes[name].compute.logged(since).splitlines():
                level = _LEVELS.search(line)
                if level:
                    text = line[level.start():].partition('] ')[2]
                    kind = re.sub(r'[0-9a-f]{8}-[0-9a-f-]{27}|\d+', 'N', text)[:150]
                    found[kind] = found.get(kind, 0) + 1
        return found
