# SPDX-License-Identifier: Apache-2.0
"""The CPU: QEMU on a host is wrapped so that every CPU it has lacks some features, for libvirt which probes it and for the guest."""

from __future__ import annotations

from tests.lab.cloud.faults import Fault

# Known to QEMU's TCG and had by every machine of the last ten years.
LOST = ('avx2', 'bmi2')


class _Lesser(Fault):
    """The target's CPU is a lesser one, as after a change of microcode, kernel or machine."""

    restarted = ('target',)
    names = LOST

    def set(self) -> None:
        self.target.libvirtd.change_cpu(LOST)

    def clear(self) -> None:
        self.target.libvirtd.change_cpu(())


class C1(_Lesser):
    """The target lacks features that the guest uses."""


class C4(Fault):
    """The guest holds features that its own host has since lost, and the target lacks them too."""

    names = LOST
    restarted = ('source', 'target')

    def set(self) -> None:
        for node in (self.source, self.target):
            node.libvirtd.change_cpu(LOST)

    def clear(self) -> None:
        for node in (self.source, self.target):
            node.libvirtd.change_cpu(())


class C5(Fault):
    """The target cannot say what CPU it has: its libvirtd is down."""

    names = ('libvirt',)

    def set(self) -> None:
        self.target.libvirtd.stop()

    def clear(self) -> None:
        self.target.libvirtd.start()


class C6(Fault):
    """The target has another virt type than the source: KVM and emulation."""

    names = ('kvm', 'qemu')
    restarted = ('target',)

    def set(self) -> None:
        other = {'qemu': 'kvm', 'kvm': 'qemu'}[self.target.virt_type]
        self.configure(self.target, {'libvirt': {'virt_type': other}})

    def clear(self) -> None:
        self.configure(self.target, {})
