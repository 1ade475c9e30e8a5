# SPDX-License-Identifier: Apache-2.0
"""libvirtd's port, QEMU's ports, certificates."""

from __future__ import annotations

from tests.lab.cloud.faults import REFUSE, Fault, firewall, open_firewall


class T1(Fault):
    """The target's libvirtd does not listen on the migration address."""

    names = (r'10\.77\.0\.12', '16509')
    _refused = False

    def set(self) -> None:
        self.target.libvirtd.listen(self.target.management)

    def set_in_a_moment(self) -> None:
        # Nova disables a host whose libvirtd is started again, and chooses another one.
        firewall(
            self.target.host, 'in', f'ip daddr {self.target.migration} tcp dport 16509', REFUSE
        )
        self._refused = True

    def clear(self) -> None:
        if self._refused:
            open_firewall(self.target.host)
        else:
            self.target.libvirtd.listen('0.0.0.0')


class T2(Fault):
    """A firewall on the target swallows what comes to QEMU's ports."""

    names = ('49152',)

    def set(self) -> None:
        firewall(self.target.host, 'in', 'tcp dport 49152-49215')

    def clear(self) -> None:
        open_firewall(self.target.host)


class T3(Fault):
    """Native TLS is wanted, and the certificate is missing."""

    names = (r'/etc/pki/\S+\.pem',)
    restarted = ('source', 'target')

    def set(self) -> None:
        for node in (self.source, self.target):
            self.configure(node, {'libvirt': {'live_migration_with_native_tls': True}})

    def clear(self) -> None:
        for node in (self.source, self.target):
            self.configure(node, {})
