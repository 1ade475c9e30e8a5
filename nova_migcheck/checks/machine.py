# SPDX-License-Identifier: Apache-2.0
"""The machines that QEMU offers on this host, against those that its guests were started with.

libvirt and QEMU notice each of these differences after ``pre_live_migration``, some of them when
all memory is copied.
"""

from __future__ import annotations

import functools
import os
import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar, Iterable, Iterator, Mapping, Optional

from nova_migcheck.checks.base import Check, Fact, Keep, Offer, Result, Server, Settings
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.finding import Finding
from nova_migcheck.libvirtd import connection
from nova_migcheck.machine import comparison, guest, offered


def _between(source: Mapping[str, Any], target: Mapping[str, Any]) -> Iterable[Finding]:
    """Yield why no guest can go from the source to the target."""
    return map(_finding, comparison.between(source, target))


def _same_uuid(uuid: str) -> Finding:
    """Return the finding for two hosts with one host UUID."""
    return MachineCheck().failure(
        'host UUID', f'libvirtd of the source and of the target have the same host UUID {uuid}: '
        'libvirt refuses to migrate a guest to the same host', 'libvirt capabilities',
        'set host_uuid (or host_uuid_source = "machine-id") in libvirtd.conf or virtqemud.conf of '
        'one of them, and restart it', code='machine-same-uuid')


class MachineCheck(Check):
    """Report the machine types, the devices and the versions of this host."""

    NAME = 'machine'
    CODES: ClassVar[Mapping[str, str]] = comparison.CODES
    OFFERS = (Offer('machine', per_host=('uuid',), keep=0, between=_between, distinct='uuid',
                    same=_same_uuid),)
    OPTIONS = {'libvirt': ('virt_type', 'connection_uri', 'live_migration_permit_post_copy')}

    def run(self, settings: Settings) -> Iterator[Result]:
        """Ask libvirt for its capabilities."""
        if connection.uri(settings) is not None:
            yield from connection.ask(self, settings, functools.partial(self._answers, settings))

    def _answers(self, settings: Settings, conn: Any) -> Iterator[Result]:
        capabilities = cpuxml.parse(conn.getCapabilities())
        versions = {'qemu': offered.dotted(conn.getVersion()),
                    'libvirt': offered.dotted(conn.getLibVersion()), 'kernel': os.uname().release}
        memory = settings.memory if isinstance(settings.memory, Mapping) else {}
        if memory.get('versions') != versions:
            memory = {'versions': versions, **_ask(conn, capabilities, settings)}
        yield Fact('machine', offered.fact(
            capabilities, memory['devices'], versions, memory['emulators'],
            bool(settings.get('libvirt', 'live_migration_permit_post_copy', False))))
        yield Keep(memory)
        count = sum(map(len, offered.types(capabilities).values()))
        yield self.ok('machine types', f'QEMU {versions["qemu"]}, {count} types')

    @staticmethod
    def needs(domain: ElementTree.Element) -> Optional[dict[str, Any]]:
        """Return the machine of a guest."""
        return guest.needs(domain, os.uname().release, offered.has_pku())

    @staticmethod
    def compare(needs: Any, target: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
        """Yield what of a guest the target does not offer."""
        return map(_finding, comparison.compare(needs, target.get('machine', {})))

    @staticmethod
    def leaves(domain: ElementTree.Element, server: Server,
               target: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
        """Yield what keeps this guest from leaving now."""
        # Nova leaves out the shares of a server whose flavor names none.
        shares = guest.shares(domain) if 'quota:cpu_shares' in server.extra_specs else None
        return map(_finding, comparison.leaves(
            guest.jobs(domain), guest.mtus(domain), server.mtus, shares or 0,
            target.get('machine', {})))


def _ask(conn: Any, capabilities: ElementTree.Element, settings: Settings) -> dict[str, Any]:
    """Ask for what only changes with libvirt, QEMU or the kernel."""
    import libvirt
    virt = settings.get('libvirt', 'virt_type', 'kvm')
    arch = capabilities.findtext('host/cpu/arch') or ''

    def ask(emulator: Optional[str], machine: Optional[str]) -> Optional[str]:
        try:
            return str(conn.getDomainCapabilities(emulator, arch, machine, virt, 0))
        except libvirt.libvirtError:
            return None
    documents = [ask(None, machine) for machine in offered.aliases(arch)]
    return {'devices': offered.devices(cpuxml.parse(text) for text in documents if text),
            'emulators': {path: ask(path, None) is not None for path in (
                path.format(arch=arch) for path in offered.EMULATORS)}}


def _finding(misfit: comparison.Misfit) -> Finding:
    found = MachineCheck().warning if misfit.warning else MachineCheck().failure
    return found(misfit.subject, misfit.detail, misfit.origin, misfit.remedy, code=misfit.code)
