# SPDX-License-Identifier: Apache-2.0
"""Two healthy hosts, node1 and node2, on a management and a migration network; a test then breaks one thing."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

import fixtures

from nova_migcheck.checks.base import Settings
from tests.lab import namespaces
from tests.lab.namespaces import Found, Namespace

HOSTS = ('127.0.0.1 localhost', '10.66.0.11 node1', '10.66.0.12 node2', '10.77.0.11 node1-mig', '10.77.0.12 node2-mig')
ADDRESS, TRANSPORT = 'nova_migcheck.checks.address:AddressCheck', 'nova_migcheck.checks.transport:TransportCheck'


class TwoHosts(fixtures.Fixture):
    """``node1`` is the source, ``node2`` the target of a migration; both are as they should be, and libvirtd answers on node2."""

    def _setUp(self) -> None:
        self.source, self.target = (self.useFixture(Namespace(name)) for name in ('node1', 'node2'))
        for network, interface in (('10.66.0', 'mgmt0'), ('10.77.0', 'mig0')):
            namespaces.join(self.source, self.target, interface)
            for number, host in ((11, self.source), (12, self.target)):
                host.address(interface, f'{network}.{number}/24')
        for host in (self.source, self.target):
            host.hosts.write(*HOSTS)

    def listen(self, *addresses: str, port: int = 16509, serve: Any = namespaces.libvirtd) -> None:
        """Let libvirtd, or what ``serve`` is, answer on the target."""
        for address in addresses or ('0.0.0.0',):
            self.target.listen(address, port, serve)

    def address(self, host: Optional[Namespace] = None, **options: Any) -> Found:
        """The address check, on the target unless said otherwise; options as in :func:`settings`."""
        host = host or self.target
        return host.check(ADDRESS, settings(host.name, my_ip=f'10.66.0.{"11" if host is self.source else "12"}', **options))

    def transport(self, connect: str = '', fact: Optional[Mapping[str, Any]] = None, timeout: float = 2.0, server: str = '', user: int = 0,
                  **options: Any) -> Found:
        """The transport check on the source, for the target.

        :param connect: the target's ``live_migration_inbound_addr``; '' when it is unset
        :param fact: the target's ``migration`` fact
        :param server: UUID of the guest that is about to go
        :param user: number of the user that the check runs as
        """
        target = {'host': self.target.name, 'connect': connect or self.target.name, 'migration': dict(fact or {})}
        given = settings(self.source.name, target=target, timeout=timeout, my_ip='10.66.0.11', **options)
        return self.source.check(TRANSPORT, dataclasses.replace(given, server=server), user)


def settings(host: str, *, target: Optional[Mapping[str, Any]] = None, timeout: float = 2.0, my_ip: str = '', **options: Any) -> Settings:
    """Settings with options named without their group, as if nova.conf had set them.

    What listens on a target is mostly no real libvirt, so it is asked nothing by default.
    """
    group = {'migration_networks': 'migcheck', 'migration_interface': 'migcheck', 'ask_target': 'migcheck'}
    groups: dict[str, dict[str, Any]] = {'DEFAULT': {'my_ip': my_ip}, 'migcheck': {'ask_target': 'never'}, 'libvirt': {'virt_type': 'kvm'}}
    for name, value in options.items():
        groups[group.get(name, 'libvirt')][name] = value
    files = {f'{of}.{name}': '/etc/nova/nova.conf' for of, named in groups.items() for name in named}
    return Settings(host=host, options=groups, files=files, timeout=timeout, target=target or {})
