# SPDX-License-Identifier: Apache-2.0
"""The machine types that this host's QEMU offers, against the one that a guest was started with.

libvirt refuses a machine type that the target's emulator does not have, after
``pre_live_migration``: ``Emulator '…' does not support machine type 'pc-i440fx-9.9'``. The live
XML of a guest names the canonical type, never an alias such as ``q35``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar, Iterable, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Check, Fact, Offer, Result, Settings
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.finding import Finding
from nova_migcheck.libvirtd import connection


class MachineCheck(Check):
    """Report the machine types of each architecture."""

    NAME = 'machine'
    CODES: ClassVar[Mapping[str, str]] = {
        'machine-type-missing': "The target's QEMU does not have the guest's machine type."}
    OFFERS = (Offer('machine', keep=0),)
    OPTIONS = {'libvirt': ('virt_type', 'connection_uri')}

    def run(self, settings: Settings) -> Iterator[Result]:
        """Ask libvirt for its capabilities."""
        if connection.uri(settings) is not None:
            yield from connection.ask(self, settings, self._answers)

    def _answers(self, conn: Any) -> Iterator[Result]:
        types = _types(cpuxml.parse(conn.getCapabilities()))
        version = conn.getVersion()
        qemu = f'{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}'
        yield Fact('machine', {'qemu': qemu, 'types': {
            arch: ' '.join(sorted(names)) for arch, names in types.items()}})
        yield self.ok('machine types', f'QEMU {qemu}, {sum(map(len, types.values()))} types')

    @staticmethod
    def needs(domain: ElementTree.Element) -> Optional[dict[str, str]]:
        """Return the architecture and the machine type of a guest."""
        kind = domain.find('os/type')
        if kind is None or not kind.get('arch') or not kind.get('machine'):
            return None
        return {'arch': kind.get('arch', ''), 'type': kind.get('machine', '')}

    @staticmethod
    def compare(needs: Any, target: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
        """Yield a failure where the target lists types of the architecture, and not this one."""
        offers = target.get('machine', {})
        listed = offers.get('types', {}).get(needs['arch'])
        if listed and needs['type'] not in listed.split():
            yield MachineCheck().failure(
                'machine type', f'the guest has machine type {needs["type"]}, which QEMU '
                f'{offers.get("qemu", "")} of the target does not have', 'libvirt capabilities',
                'choose a target whose QEMU has it, or set [libvirt] hw_machine_type to a type '
                'that all hosts have and restart the guest', code='machine-type-missing')


def _types(capabilities: ElementTree.Element) -> dict[str, set[str]]:
    """Return architecture -> names of its machine types, aliases included."""
    types: dict[str, set[str]] = {}
    for arch in capabilities.iterfind('guest/arch'):
        names = {machine.text or '' for machine in arch.iterfind('.//machine')}
        types.setdefault(arch.get('name', ''), set()).update(names - {''})
    return types
