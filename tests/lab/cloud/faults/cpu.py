# SPDX-License-Identifier: Apache-2.0
"""The CPU: QEMU on a host is wrapped so that every CPU it has lacks some features, for libvirt which probes it and for the guest."""

from __future__ import annotations

import pathlib
import re

from tests.lab.cloud.faults import TARGET, Fault

OTHER_VENDOR = {'AuthenticAMD': 'GenuineIntel', 'GenuineIntel': 'AuthenticAMD'}
# Known to QEMU's TCG and had by every machine of the last ten years.
LOST = ('avx2', 'bmi2')
# What a nested KVM passes on too.
_LOST_OF_KVM = ('clflushopt', 'clwb')


class _Lesser(Fault):
    """The target's CPU is a lesser one, as after a change of microcode, kernel or machine."""

    restarted = ('target',)
    names = LOST

    def set(self) -> None:
        self.target.libvirtd.change_cpu(LOST)

    def clear(self) -> None:
        self.target.libvirtd.change_cpu()


class C1(_Lesser):
    """The target lacks features that the guest uses."""


class C2(_Lesser):
    """The target's CPU is another vendor's."""

    names = ('Intel', 'AMD')

    def set(self) -> None:
        self.target.libvirtd.change_cpu(vendor=OTHER_VENDOR[_vendor() if self.target.virt_type == 'kvm' else 'AuthenticAMD'])


class C3(_Lesser):
    """The guest has its host's CPU as it is (host-passthrough), and the target has less."""

    restarted = ('source', 'target')
    born_after = kvm = True
    names = _LOST_OF_KVM

    def set(self) -> None:
        for node, lost in ((self.source, ()), (self.target, _LOST_OF_KVM)):
            # A nested KVM cannot set the register that comes with it, and then starts no guest.
            node.libvirtd.change_cpu(('arch-capabilities', *lost))
            self.configure(node, {'libvirt': {'virt_type': 'kvm', 'cpu_mode': 'host-passthrough'}})

    def clear(self) -> None:
        for node in (self.source, self.target):
            node.libvirtd.change_cpu()
            self.configure(node, {})


class C4(Fault):
    """The guest holds features that its own host has since lost, and the target lacks them too."""

    names = LOST
    restarted = ('source', 'target')

    def set(self) -> None:
        for node in (self.source, self.target):
            node.libvirtd.change_cpu(LOST)

    def clear(self) -> None:
        for node in (self.source, self.target):
            node.libvirtd.change_cpu()


class C5(Fault):
    """The target cannot say what CPU it has, its libvirtd is down, and the operator has on_unknown = reject."""

    names = (TARGET, 'libvirt.*(connect|answer)')
    restarted = ('target',)
    # nova-compute takes itself out of the scheduler's choice when it loses libvirtd: only a forced migration comes that far.
    named = force = True

    def set(self) -> None:
        self.configure(self.target, {'migcheck': {'on_unknown': 'reject'}} if self.cloud.plugin else {})

    def ready(self) -> None:
        # nova-compute does not start without it.
        self.target.libvirtd.stop()

    def clear(self) -> None:
        self.configure(self.target, {})
        self.target.libvirtd.start()


class C6(Fault):
    """The target has another virt type than the source: KVM and emulation."""

    names = ('kvm', 'qemu')
    restarted = ('target',)
    kvm = True

    def set(self) -> None:
        other = {'qemu': 'kvm', 'kvm': 'qemu'}[self.target.virt_type]
        self.configure(self.target, {'libvirt': {'virt_type': other}})

    def clear(self) -> None:
        self.configure(self.target, {})


def _vendor() -> str:
    """As this machine's own CPU says it."""
    found = re.search(r'^vendor_id\s*: (\w+)', pathlib.Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    return found[1] if found else ''
