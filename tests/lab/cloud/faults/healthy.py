# SPDX-License-Identifier: Apache-2.0
"""What looks odd and is well: a rejection here is a bug."""

from __future__ import annotations

from tests.lab.cloud.compute_node import MIGRATION
from tests.lab.cloud.configuration import BROKERS, NOVA, PORTS
from tests.lab.cloud.faults import REFUSE, TARGET, Fault, firewall, open_firewall
from tests.lab.cloud.faults.cpu import LOST


class _Healthy(Fault):
    """The user names the target, so that nothing but the target can be used."""

    accepted = named = True


class K1(_Healthy):
    """Identical hosts, host-model, without kolla's workaround: Nova's own check rejects them (LP#2039803)."""

    restarted = ('source', 'target')

    def set(self) -> None:
        more = {'migcheck': {'nova_cpu_check': 'replace'}} if self.cloud.plugin else {}
        for node in (self.source, self.target):
            self.configure(node, {'workarounds': {'skip_cpu_compare_on_dest': False}, **more})

    def clear(self) -> None:
        for node in (self.source, self.target):
            self.configure(node, {})


class K2(_Healthy):
    """The target has more features than the guest needs."""

    restarted = ('source',)
    born_after = True

    def set(self) -> None:
        self.source.libvirtd.change_cpu(LOST)

    def clear(self) -> None:
        self.source.libvirtd.change_cpu()


class K3(_Healthy):
    """A guest with an older CPU on a newer host goes back to the older one."""

    restarted = ('target',)
    born_after = True
    born_on_target = True
    #: first there, then back
    way_back = True

    def set(self) -> None:
        self.target.libvirtd.change_cpu(LOST)

    def clear(self) -> None:
        self.target.libvirtd.change_cpu()


class K4(_Healthy):
    """The guest's CPU has features disabled that the target lacks."""

    restarted = ('source', 'target')
    born_after = True

    def set(self) -> None:
        self.target.libvirtd.change_cpu(LOST)
        self.configure(self.source, {'libvirt': {
            'cpu_mode': 'host-model', 'cpu_model_extra_flags': ','.join(f'-{name}' for name in LOST)}})

    def clear(self) -> None:
        self.target.libvirtd.change_cpu()
        self.configure(self.source, {})


class K5(_Healthy):
    """keepalived's virtual addresses on the target's migration interface: a secondary one and a /32."""

    def set(self) -> None:
        self.target.host.address(MIGRATION, '10.77.0.50/24', '10.77.0.51/32')

    def clear(self) -> None:
        self.target.host.ip(f'address delete 10.77.0.50/24 dev {MIGRATION}', f'address delete 10.77.0.51/32 dev {MIGRATION}')


class K6(_Healthy):
    """A routed migration network: the target is in another subnet, by the intended interface."""

    restarted = ('source', 'target')

    def set(self) -> None:
        self.cloud.ip('address add 10.77.0.1/24 dev mig', 'address add 10.78.0.1/24 dev mig')
        self.cloud.forward(True)
        self.target.host.ip(f'address delete 10.77.0.12/24 dev {MIGRATION}', f'address add 10.78.0.12/24 dev {MIGRATION}',
                            'route add 10.77.0.0/24 via 10.78.0.1')
        self.source.host.ip('route add 10.78.0.0/24 via 10.77.0.1')
        networks = {'migcheck': {'migration_networks': '10.77.0.0/24,10.78.0.0/24'}} if self.cloud.plugin else {}
        for node in (self.source, self.target):
            file = node.host.hosts
            file.write(*(line.replace(f'10.77.0.12 {TARGET}-mig', f'10.78.0.12 {TARGET}-mig')
                         for line in file.path.read_text().splitlines()))
            self.configure(node, networks)

    def clear(self) -> None:
        self.source.host.ip('route delete 10.78.0.0/24')
        self.target.host.ip('route delete 10.77.0.0/24', f'address delete 10.78.0.12/24 dev {MIGRATION}',
                            f'address add 10.77.0.12/24 dev {MIGRATION}')
        self.cloud.forward(False)
        self.cloud.ip('address delete 10.77.0.1/24 dev mig', 'address delete 10.78.0.1/24 dev mig')
        for node in (self.source, self.target):
            node.hosts_file()
            self.configure(node, {})


class K7(_Healthy):
    """One of three hosts of the message queue is down."""

    # What was connected to it would have to notice first, which takes stock Nova a minute.
    restarted = ('target',)

    def set(self) -> None:
        # Before the firewall: RabbitMQ, which is one behind all three addresses, would not hear that its consumer on this one is gone, and
        # give it every other message.
        self.target.compute.stop(0)
        firewall(self.target.host, 'out', f'ip daddr {BROKERS[2]} tcp dport 5672', REFUSE)

    def clear(self) -> None:
        open_firewall(self.target.host)


class K8(_Healthy):
    """An endpoint that this migration does not need is down: Nova's own API."""

    def set(self) -> None:
        firewall(self.target.host, 'out', f'tcp dport {PORTS["compute"]}')

    def clear(self) -> None:
        open_firewall(self.target.host)


class K9(_Healthy):
    """The migration network is IPv6."""

    restarted = ('source', 'target')

    def set(self) -> None:
        for node in (self.source, self.target):
            node.host.address(MIGRATION, f'fd77::1{node.number}/64')
            file = node.host.hosts
            file.write(*(line.replace('10.77.0.1', 'fd77::1') if line.endswith('-mig') else line
                         for line in file.path.read_text().splitlines()))
            node.libvirtd.listen('::')
            self.configure(node, {'migcheck': {'migration_networks': 'fd77::/64'}} if self.cloud.plugin else {})

    def clear(self) -> None:
        for node in (self.source, self.target):
            node.host.ip(f'address delete fd77::1{node.number}/64 dev {MIGRATION}')
            node.hosts_file()
            node.libvirtd.listen('0.0.0.0')
            self.configure(node, {})


class K10(_Healthy):
    """Local disks on every host, block migration: no shared storage is expected."""

    born_after = True
    # What the source has published of its share counts until its next report.
    noticed = ('source', 'target')

    def set(self) -> None:
        for node in self.cloud.nodes.values():
            node.unmount_share()

    def clear(self) -> None:
        for node in self.cloud.nodes.values():
            node.host.run('sh', '-c', f'rm -rf {NOVA}/instances/*')
            node.mount_share()
