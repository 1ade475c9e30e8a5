# SPDX-License-Identifier: Apache-2.0
"""Report what this host's hypervisor provides, and what its running guests have.

It publishes two facts for the comparison when a migration is decided:

``cpu``
    :meth:`nova_migcheck.cpu.Cpu.to_dict` of what the hypervisor gives to a guest of ``[libvirt]
    virt_type``. It is asked in each round (about 3 ms), since it changes when libvirtd restarts
    and when QEMU or the microcode is upgraded.
``guests``
    :meth:`nova_migcheck.cpu.population.GuestCpus.to_dict`: the CPU that guests have by default,
    and the guests that have another.

A guest's XML is read once. The result is cached by UUID and by libvirt's domain ID, which changes
at each start of the guest. So for a host-passthrough guest, what the host provided when the guest
was first seen is cached too: if the host loses a feature later, the guest still has it.
"""

from __future__ import annotations

import functools
import logging
import xml.etree.ElementTree as ElementTree
from typing import Any, ClassVar, Collection, Iterator, Mapping, NamedTuple, Optional, Union

from nova_migcheck.checks import registry
from nova_migcheck.checks.base import Check, Fact, Keep, Result, Settings
from nova_migcheck.checks.needs import Needs
from nova_migcheck.checks.registry import Registry
from nova_migcheck.cpu import Cpu, comparison, hypervisor
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.population import GuestCpus
from nova_migcheck.libvirtd import connection

LOG = logging.getLogger(__name__)

_LIST_DOMAINS_ACTIVE = 1  # virConnectListAllDomainsFlags
_XML_MIGRATABLE = 8  # virDomainXMLFlags
# Values of [libvirt] cpu_mode with which a guest has its host's CPU.
_FROM_HOST = (None, '', 'host-model', 'host-passthrough', 'maximum')


class CpuCheck(Check):
    """Tell the CPU of this host and of its guests."""

    NAME = 'cpu'
    WHEN = 'host'
    READS_GUESTS = True
    CODES: ClassVar[Mapping[str, str]] = {
        'cpu-guest-unknown': 'The CPU of a running guest is unknown.',
        'cpu-host-unknown': 'The hypervisor does not say which CPU it provides to guests.',
        **comparison.CODES}
    OPTIONS = {'libvirt': ['virt_type', 'connection_uri', 'cpu_mode', 'cpu_model_extra_flags']}

    def run(self, settings: Settings) -> Iterator[Result]:
        """Ask libvirt about the host and its guests."""
        virt_type = settings.get('libvirt', 'virt_type', 'kvm')
        if connection.uri(settings) is None:
            yield self.ok(f'virt_type {virt_type}', 'its guests have no CPU to compare',
                          settings.origin('libvirt', 'virt_type'))
            return
        yield from connection.ask(
            self, settings, functools.partial(self._answers, settings, virt_type))

    def _answers(self, settings: Settings, virt_type: str, conn: Any) -> Iterator[Result]:
        try:
            host = hypervisor.host_cpu(conn, virt_type)
        except hypervisor.CannotSay as error:
            yield self.unknown(
                str(connection.uri(settings)),
                f'the hypervisor does not say what it provides to {virt_type} guests: {error}',
                settings.origin('libvirt', 'virt_type'),
                'see "virsh domcapabilities --virttype kvm"; is /dev/kvm there?'
                if virt_type == 'kvm' else f'see "virsh domcapabilities --virttype {virt_type}"',
                code='cpu-host-unknown')
            return
        yield Fact('cpu', host.to_dict())
        guests = _Guests(settings.memory, registry.of_entries(settings.guests), settings.changed)
        found = guests.read(conn, host)
        from_host = (settings.get('libvirt', 'cpu_mode') in _FROM_HOST
                     and not settings.get('libvirt', 'cpu_model_extra_flags'))
        yield Fact('guests', GuestCpus.gather(host, found, from_host).to_dict(host))
        yield Fact('needs', Needs.gather(guests.needs).to_json())
        yield Keep(guests.memory())
        for uuid, why in guests.unknown.items():
            yield self.unknown(uuid, f'cannot determine the CPU of this running guest: {why}',
                               'its live XML in libvirt', f'look at "virsh dumpxml {uuid}"',
                               code='cpu-guest-unknown')
        yield self.ok(
            str(connection.uri(settings)),
            f'{virt_type}: {host.vendor or "unknown vendor"} {host.model}, {len(host.features)} '
            f'features; {len(found)} guests', settings.origin('libvirt', 'connection_uri'))


class _Guest(NamedTuple):
    """A running guest.

    :ivar domain_id: libvirt's ID, which changes at each start of the guest
    :ivar cpu: its CPU, or why that is unknown
    :ivar needs: what else it needs of a target, as JSON; '' if unknown
    """

    domain_id: int
    cpu: Union[Cpu, str]
    needs: str


class _Guests:
    """Read the running guests, each once.

    The cache between rounds is JSON: the different CPUs and needs, and for each UUID its domain ID,
    the index of its CPU (or why that is unknown) and the index of its needs.

    :param memory: the cache of the round before
    :param changed: UUIDs of those whose needs are read again. Their CPU stays what it was
    """

    def __init__(self, memory: Any, registry: Registry, changed: Collection[str] = ()) -> None:
        self._registry, self._changed = registry, changed
        self._cached: dict[str, _Guest] = {}
        try:
            cpus = [Cpu.from_dict(value) for value in memory['cpus']]
            for uuid, (domain_id, cpu, needs) in memory['guests'].items():
                self._cached[uuid] = _Guest(
                    int(domain_id), cpu if isinstance(cpu, str) else cpus[cpu],
                    memory['needs'][needs])
        except (TypeError, KeyError, ValueError, IndexError, AttributeError):
            self._cached = {}  # nothing cached, or by another version: read all again

    @property
    def unknown(self) -> dict[str, str]:
        """Return UUID -> why its CPU is unknown."""
        return {uuid: one.cpu for uuid, one in self._cached.items() if isinstance(one.cpu, str)}

    @property
    def needs(self) -> dict[str, str]:
        """Return UUID -> what it needs of a target besides its CPU."""
        return {uuid: one.needs for uuid, one in self._cached.items()}

    def read(self, conn: Any, host: Cpu) -> dict[str, Optional[Cpu]]:
        """Return UUID -> CPU of each running guest, None where it is unknown."""
        running: dict[str, _Guest] = {}
        expand = hypervisor.expander(conn)
        for domain in conn.listAllDomains(_LIST_DOMAINS_ACTIVE):
            uuid, domain_id = domain.UUIDString(), domain.ID()
            guest = self._cached.get(uuid)
            if guest is None or guest.domain_id != domain_id:
                xml = _live_xml(domain)
                if xml is None:
                    continue
                root = _parsed(uuid, xml)
                migratable = functools.partial(_live_xml, domain, _XML_MIGRATABLE)
                try:
                    cpu: Union[Cpu, str] = hypervisor.guest_cpu(
                        conn, xml if root is None else root, host, expand, migratable)
                except hypervisor.CannotSay as error:
                    cpu = str(error)
                guest = _Guest(domain_id, cpu, self._needs(root))
            elif uuid in self._changed:
                xml = _live_xml(domain)
                if xml is None:
                    continue
                guest = guest._replace(needs=self._needs(_parsed(uuid, xml)))
            running[uuid] = guest
        self._cached = running
        return {uuid: None if isinstance(one.cpu, str) else one.cpu
                for uuid, one in running.items()}

    def _needs(self, domain: Optional[ElementTree.Element]) -> str:
        return '' if domain is None else self._registry.needs(domain)

    def memory(self) -> Any:
        """Return the cache for the next round."""
        cpus: dict[Cpu, int] = {}
        needs: dict[str, int] = {}
        guests = {}
        for uuid, one in self._cached.items():
            cpu = (one.cpu if isinstance(one.cpu, str)
                   else cpus.setdefault(one.cpu, len(cpus)))
            guests[uuid] = [one.domain_id, cpu, needs.setdefault(one.needs, len(needs))]
        return {'cpus': [cpu.to_dict() for cpu in cpus], 'needs': list(needs), 'guests': guests}


def _parsed(uuid: str, xml: str) -> Optional[ElementTree.Element]:
    """Return the XML of a guest, parsed once for all that is read of it; None if it cannot be."""
    try:
        return cpuxml.parse(xml)
    except ValueError as e:
        LOG.warning('The XML of the guest %s cannot be read: %s', uuid, e)
        return None


def _live_xml(domain: Any, flags: int = 0) -> Optional[str]:
    """Return the XML of a running guest, None if it has just ended."""
    import libvirt
    try:
        return str(domain.XMLDesc(flags))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise

