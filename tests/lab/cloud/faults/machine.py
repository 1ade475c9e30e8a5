# SPDX-License-Identifier: Apache-2.0
"""The machine that QEMU gives to a guest: what libvirt believes of the target's QEMU is changed."""

from __future__ import annotations

import pathlib
import re

from tests.lab.cloud.compute_node import RHEL_QEMU
from tests.lab.cloud.faults import Fault
from tests.lab.libvirtd import QEMU


class M1(Fault):
    """The target's QEMU does not have the guest's machine type."""

    restarted = ('target',)
    names = (r'pc-i440fx-[\d.]+', r'QEMU \d')

    def set(self) -> None:
        self.target.libvirtd.change_qemu(
            lambda text: re.sub(
                r"\s*<machine [^>]*name='pc-i440fx-[^>]*alias='pc'[^>]*/>", '', text
            )
        )

    def clear(self) -> None:
        self.target.libvirtd.change_qemu()


class M2(Fault):
    """The target's QEMU has another path, as on RHEL, than the guest's."""

    restarted = ('target',)
    names = (QEMU, RHEL_QEMU)

    def set(self) -> None:
        self.target.libvirtd.move_qemu(True)

    def clear(self) -> None:
        self.target.libvirtd.move_qemu(False)


class M3(Fault):
    """The target's libvirtd has the source's host UUID: it was cloned."""

    # A nova-compute that has lost its libvirtd takes itself out of the scheduler's choice.
    restarted = ('target',)
    names = ('host UUID', 'host_uuid')

    def set(self) -> None:
        self.own = self.target.libvirtd.host_uuid
        self.target.libvirtd.identify(self.source.libvirtd.host_uuid)

    def clear(self) -> None:
        self.target.libvirtd.identify(self.own)


class M4(Fault):
    """The target's QEMU does not offer the guest's video device."""

    restarted = ('source', 'target')
    born_after = True
    names = ('video virtio', r'QEMU \d')

    def set(self) -> None:
        # A guest has a video device only with a console.
        for node in (self.source, self.target):
            self.configure(node, {'vnc': {'enabled': True}})
        self.target.libvirtd.change_qemu(
            lambda text: re.sub(r"\s*<flag name='virtio-(gpu-pci|vga|gpu)'/>", '', text)
        )

    def clear(self) -> None:
        self.target.libvirtd.change_qemu()
        for node in (self.source, self.target):
            self.configure(node, {})


class M6(Fault):
    """The source permits post-copy, and the target's QEMU may not use userfaultfd."""

    restarted = ('source',)
    noticed = ('source', 'target')
    names = ('unprivileged_userfaultfd = 0',)

    def set(self) -> None:
        self.configure(self.source, {'libvirt': {'live_migration_permit_post_copy': True}})
        # As long as QEMU's user may not open it, libvirt asks QEMU again for each capabilities.
        kvm = pathlib.Path('/dev/kvm')
        group = f'+{kvm.stat().st_gid}' if kvm.exists() else 'kvm'
        self.target.libvirtd.run_qemu_as('libvirt-qemu', group)

    def clear(self) -> None:
        self.configure(self.source, {})
        self.target.libvirtd.run_qemu_as('root', 'root')


def may_use_userfaultfd() -> bool:
    """Whether any user may, as this machine's kernel is set."""
    path = pathlib.Path('/proc/sys/vm/unprivileged_userfaultfd')
    return not path.exists() or path.read_text().strip() != '0'
