# SPDX-License-Identifier: Apache-2.0
"""The whole: control plane and three compute hosts, up and healthy."""

from __future__ import annotations

import contextlib
import datetime
import json
import pathlib
import re
import subprocess
import sys
import time
from typing import Iterator

import fixtures

from nova_migcheck.finding import Outcome
from nova_migcheck.report import published
from nova_migcheck.report.report import Report
from tests.lab.cloud.compute_node import ComputeNode
from tests.lab.cloud.configuration import BROKERS, VIP
from tests.lab.cloud.control_plane import ControlPlane
from tests.lab.cloud.service import until

# Seconds for a report to come from nova-compute to the database: three of the lab's update_resources_interval.
PUBLISHED = 15
# Bytes of a log's end in which the last round of checks is found.
_TAIL = 1 << 18
_CHECKED = re.compile(r'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) .*Checked this host in ([0-9.]+) s')
CACHE = pathlib.Path(sys.prefix) / 'lab-cache'


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


class Cloud(fixtures.Fixture):
    """Three compute hosts that can migrate to each other.

    :param plugin: with nova-migcheck, or as Nova comes
    :param virt_type: as in nova.conf: ``qemu`` or ``kvm``
    """

    def __init__(self, plugin: bool, virt_type: str = 'qemu', nodes: int = 3) -> None:
        super().__init__()
        self.plugin, self.count = plugin, nodes
        # TCG unless told otherwise: a nested KVM may exist and yet not start a guest whose CPU is the host's model.
        self.virt_type = virt_type

    def _setUp(self) -> None:
        began = time.monotonic()
        side = 'plugin' if self.plugin else 'stock '

        def done(what: str) -> None:
            say(f'{side} {time.monotonic() - began:6.1f} s  {what}')

        CACHE.mkdir(exist_ok=True)
        for network in ('mgmt', 'mig'):
            subprocess.run(['ip', 'link', 'add', network, 'type', 'bridge'], check=True)
            subprocess.run(['ip', 'link', 'set', network, 'up'], check=True)
        for address in (*(f'{broker}/24' for broker in BROKERS), f'{VIP}/32'):
            subprocess.run(['ip', 'address', 'add', address, 'dev', 'mgmt'], check=True)
        self.control = self.useFixture(ControlPlane(self.plugin, CACHE))
        done('control plane' + (' (saved databases)' if self.control.database.restored else ''))
        self.nodes = {f'compute{number}': self.useFixture(ComputeNode(number, self.plugin, CACHE, self.virt_type))
                      for number in range(1, self.count + 1)}
        done('hosts with libvirtd')
        since = {node: node.start() for node in self.nodes.values()}
        self.control.discover(len(self.nodes))
        for node, mark in since.items():
            node.wait_ready(mark)
            node.libvirtd.keep_probed()
        self.control.image_and_flavor()
        done('nova-compute: the lab is up')

    def restart_computes(self, *names: str) -> None:
        """Let nova-compute read its configuration, on these hosts or on all."""
        nodes = [self.nodes[name] for name in names or self.nodes]
        for node in nodes:
            # Stock nova-compute may take minutes to end by itself.
            node.compute.stop(0)
        since = {node: node.start() for node in nodes}
        for node, mark in since.items():
            node.wait_ready(mark)

    def ip(self, *commands: str) -> None:
        """Run ``ip`` commands where the bridges are."""
        subprocess.run(['ip', '-batch', '-'], input='\n'.join(commands) + '\n', check=True, text=True)

    def forward(self, on: bool) -> None:
        """Whether the bridges' addresses are routers."""
        # Not /proc/sys of our own pid namespace's mount: it is the network namespace that counts, and that is ours alone.
        pathlib.Path('/proc/sys/net/ipv4/ip_forward').write_text(f'{int(on)}\n')

    def reports(self) -> dict[str, Report]:
        """What each host has published last; a host without a report is not there."""
        rows = self.control.database.query('select host, stats from nova_cell1.compute_nodes where deleted = 0', '--raw')
        found = {}
        for row in rows.splitlines():
            host, stats = row.split('\t', 1)
            report = published.read(json.loads(stats)) if stats != 'NULL' else None
            if report is not None:
                found[host] = report
        return found

    def check_seldom(self) -> None:
        """Let the hosts check themselves as often as in production, and not every ten seconds."""
        for node in self.nodes.values():
            node.more = {'migcheck': {'check_interval': 60}} if self.plugin else {}
            node.configure()
        self.restart_computes()

    def wait_old(self, name: str) -> None:
        """Wait until a host's last round is older than ``recheck_after``, and the next one is not near.

        A report that is younger is believed, with whatever became wrong since.
        """
        def is_old() -> bool:
            age = time.time() - max(self._rounds(name), default=0)
            return 12 < age < 45
        until(180, f'the last round of {name} is old', is_old, 0.5)

    def wait_checked(self, *names: str, since: float, seconds: float = 180) -> None:
        """Wait until these hosts have run checks that began after ``since``, and have published what they found, if they can.

        A host that cannot reach placement publishes nothing: nova-compute asks placement first, and writes its record only then.

        :param since: seconds since the epoch
        :raises TimeoutError: when one does not check
        """
        begun = {name: until(seconds, f'{name} checks itself', lambda: self._round(name, since), 0.3) for name in names}  # noqa: B023
        with contextlib.suppress(TimeoutError):
            until(PUBLISHED, 'new reports', lambda: set(names) <= {
                host for host, report in self.reports().items() if host in begun and report.time >= begun[host]}, 0.5)

    def _round(self, name: str, since: float) -> int:
        """When the first round of checks that began after ``since`` did so on a host; 0 when there is none.

        A report says when its round ended, and one that began before something was broken or mended must not count as having seen it.
        """
        return next((int(begun) for begun in self._rounds(name) if begun > since), 0)

    def _rounds(self, name: str) -> Iterator[float]:
        """When each of the last rounds on a host began, in seconds since the epoch."""
        compute = self.nodes[name].compute
        for line in compute.logged(max(compute.began, compute.mark() - _TAIL)).splitlines():
            if 'Checked this host in' in line:
                found = _CHECKED.match(line)
                if found:
                    yield datetime.datetime.fromisoformat(found[1]).timestamp() - float(found[2])

    def up(self, *names: str) -> bool:
        """Whether Nova takes these hosts for alive, and may choose them."""
        rows = self.control.database.query("select host from nova_cell1.services where `binary`='nova-compute' and disabled=0 and deleted=0"
                                           ' and last_seen_up > utc_timestamp() - interval 20 second')
        return set(names) <= set(rows.split())

    def wait_well(self, since: float, seconds: float = 180) -> None:
        """Wait until every host is one that Nova may choose and, with the plugin, says after ``since`` that nothing is wrong with it.

        :raises TimeoutError: when one is not
        """
        def well() -> bool:
            # What costs least first: two cores carry all of this.
            begun = {name: self._round(name, since) for name in self.nodes} if self.plugin else {}
            if not all(begun.values()) or not self.up(*self.nodes):
                return False
            reports = self.reports() if self.plugin else {}
            # There is no cinder, which concerns no server of the lab.
            return all(name in reports and reports[name].time >= begun[name] and not any(
                f.outcome is Outcome.FAILURE and f.scope != 'volumes' for f in reports[name].findings) for name in begun)
        until(seconds, 'all hosts are well', well, 0.5)
