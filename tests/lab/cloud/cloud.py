# SPDX-License-Identifier: Apache-2.0
"""The whole: control plane and three compute hosts, up and healthy."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import fixtures

from tests.lab.cloud.compute_node import ComputeNode
from tests.lab.cloud.configuration import BROKERS, VIP
from tests.lab.cloud.control_plane import ControlPlane

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

        def done(what: str) -> None:
            say(f'{time.monotonic() - began:6.1f} s  {what}')

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
        done(f'nova-compute {"with" if self.plugin else "without"} the plugin: the lab is up')

    def restart_computes(self, *names: str) -> None:
        """Let nova-compute read its configuration, on these hosts or on all."""
        nodes = [self.nodes[name] for name in names or self.nodes]
        for node in nodes:
            node.compute.ask_to_stop()
        for node in nodes:
            # Stock nova-compute may take minutes to end.
            node.compute.wait_stopped(4)
        since = {node: node.start() for node in nodes}
        for node, mark in since.items():
            node.wait_ready(mark)

    def use_plugin(self, plugin: bool) -> None:
        """Change between Nova as it comes and Nova with nova-migcheck."""
        if plugin == self.plugin:
            return
        self.plugin = self.control.plugin = plugin
        self.control.configure()
        self.control.restart_scheduler()
        for node in self.nodes.values():
            node.plugin = plugin
            node.configure()
        self.restart_computes()
