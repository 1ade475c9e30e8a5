# SPDX-License-Identifier: Apache-2.0
"""What this host's hypervisor provides, and what its running guests have.

Two facts for the comparison that is made when a migration is decided:

``cpu``
    :meth:`nova_migcheck.cpu.Cpu.to_dict` of what the hypervisor gives to a guest of ``[libvirt] virt_type``. It is
    asked anew in each round (about 3 ms): it changes when libvirtd restarts, QEMU is upgraded or the microcode is.
``guests``
    :meth:`nova_migcheck.cpu.population.GuestCpus.to_dict`: what the guests have: the default, and who differs from it.

A guest's XML is read once: what it said is kept by UUID and libvirt's domain ID, which a guest gets anew at each start.
So for a host-passthrough guest what the host provided when it was first seen is kept too, and a host that has lost a
feature since does not make it forgotten.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from typing import Any, Iterator, Optional, Union

from nova_migcheck.checks.base import Check, Fact, Keep, Result, Settings
from nova_migcheck.cpu import Cpu, hypervisor
from nova_migcheck.cpu.population import GuestCpus
from nova_migcheck.libvirtd import daemon

_DEFAULT_URIS = {'kvm': 'qemu:///system', 'qemu': 'qemu:///system'}
_DONE = object()
_LIST_DOMAINS_ACTIVE = 1  # virConnectListAllDomainsFlags
_XML_MIGRATABLE = 8  # virDomainXMLFlags
# virConnectCredentialType: authname, echoprompt, realm, passphrase, noechoprompt, external
_CREDENTIALS = [2, 6, 8, 5, 7, 9]


class CpuCheck(Check):
    """Tell the CPU of this host and of its guests."""

    NAME = 'cpu'
    WHEN = 'host'
    OPTIONS = {'libvirt': ['virt_type', 'connection_uri', 'cpu_mode', 'cpu_model_extra_flags']}

    def run(self, settings: Settings) -> Iterator[Result]:
        """Ask libvirtd. What has not come within one ``timeout`` for the connection and one for the answers is unknown:
        a call to a libvirtd that hangs can only be left behind."""
        virt_type = settings.get('libvirt', 'virt_type', 'kvm')
        uri = settings.get('libvirt', 'connection_uri') or _DEFAULT_URIS.get(virt_type)
        if virt_type not in _DEFAULT_URIS or uri is None:
            yield self.ok(f'virt_type {virt_type}', 'its guests have no CPU of their own to compare',
                          settings.origin('libvirt', 'virt_type'))
            return
        results: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._ask, args=(settings, uri, virt_type, results), daemon=True).start()
        deadline = time.monotonic() + settings.timeout
        while True:
            try:
                result = results.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                name, remedy = _daemon()
                yield self.unknown(uri, f'{name} has not answered within {settings.timeout:g} s',
                                   settings.origin('libvirt', 'connection_uri'),
                                   f'look at {remedy} and its log; restart it if it hangs')
                return
            if result is _DONE:
                return
            if isinstance(result, Exception):
                raise result
            if result is None:  # connected
                deadline = time.monotonic() + settings.timeout
                continue
            yield result

    def _ask(self, settings: Settings, uri: str, virt_type: str, results: queue.Queue[Any]) -> None:
        try:
            for result in self._answers(settings, uri, virt_type):
                results.put(result)
            results.put(_DONE)
        except Exception as error:  # a bug: shown as every check's bugs are
            results.put(error)

    def _answers(self, settings: Settings, uri: str, virt_type: str) -> Iterator[Optional[Result]]:
        origin = settings.origin('libvirt', 'connection_uri')
        try:
            import libvirt
        except ImportError as error:
            yield self.unknown(uri, f'libvirt cannot be asked: {error}', origin,
                               'install libvirt-python in the environment of nova-compute')
            return
        libvirt.registerErrorHandler(lambda context, error: None, None)  # it would print to stderr
        try:
            # As Nova connects: credentials come from libvirt's auth.conf or not at all. Not read-only: domain
            # capabilities are given to writers only.
            conn = libvirt.openAuth(uri, [_CREDENTIALS, lambda credentials, opaque: -1 if credentials else 0, None], 0)
        except libvirt.libvirtError as error:
            name, remedy = _daemon()
            yield self.unknown(uri, f'{name} does not answer: {error}', origin,
                               f'start {remedy}, or correct [libvirt] connection_uri')
            return
        try:
            yield None
            try:
                host = hypervisor.host_cpu(conn, virt_type)
            except hypervisor.CannotSay as error:
                yield self.unknown(uri, f'the hypervisor does not say what it provides to {virt_type} guests: {error}',
                                   settings.origin('libvirt', 'virt_type'),
                                   f'see "virsh domcapabilities --virttype {virt_type}"' + (
                                       '; is /dev/kvm there?' if virt_type == 'kvm' else ''))
                return
            yield Fact('cpu', host.to_dict())
            guests = _Guests(settings.memory)
            found = guests.read(conn, host)
            from_host = (settings.get('libvirt', 'cpu_mode') in (None, '', 'host-model', 'host-passthrough', 'maximum')
                         and not settings.get('libvirt', 'cpu_model_extra_flags'))
            yield Fact('guests', GuestCpus.gather(host, found, from_host).to_dict(host))
            yield Keep(guests.to_keep())
            for uuid, why in guests.unsaid.items():
                yield self.unknown(uuid, f'the CPU of this running guest cannot be told: {why}',
                                   'its live XML in libvirt', f'look at "virsh dumpxml {uuid}"')
            yield self.ok(uri, f'{virt_type}: {host.vendor or "unknown vendor"} {host.model}, {len(host.features)} '
                               f'features; {len(found)} guests', origin)
        except libvirt.libvirtError as error:
            name, remedy = _daemon()
            yield self.unknown(uri, f'{name} broke off: {error}', origin,
                               f'look at {remedy} and its log')
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                conn.close()


class _Guests:
    """Running guests, each read once.

    What is kept between rounds is JSON: the different CPUs, and for each UUID its domain ID and the number of its CPU,
    or why that could not be told.
    """

    def __init__(self, memory: Any) -> None:
        self._known: dict[str, tuple[int, Union[Cpu, str]]] = {}
        try:
            cpus = [Cpu.from_dict(value) for value in memory['cpus']]
            for uuid, (domain_id, said) in memory['guests'].items():
                self._known[uuid] = int(domain_id), said if isinstance(said, str) else cpus[said]
        except (TypeError, KeyError, ValueError, IndexError, AttributeError):
            self._known = {}  # nothing kept, or by another version of this package: they are read again

    @property
    def unsaid(self) -> dict[str, str]:
        """UUID -> why its CPU cannot be told."""
        return {uuid: said for uuid, (_, said) in self._known.items() if isinstance(said, str)}

    def read(self, conn: Any, host: Cpu) -> dict[str, Optional[Cpu]]:
        """UUID -> CPU of each running guest, None where it cannot be told."""
        running: dict[str, tuple[int, Union[Cpu, str]]] = {}
        expand = hypervisor.expander(conn)
        for domain in conn.listAllDomains(_LIST_DOMAINS_ACTIVE):
            uuid, domain_id = domain.UUIDString(), domain.ID()
            known = self._known.get(uuid)
            if known is None or known[0] != domain_id:
                xml = _live_xml(domain)
                if xml is None:
                    continue
                try:
                    known = domain_id, hypervisor.guest_cpu(
                        conn, xml, host, expand, functools.partial(_live_xml, domain, _XML_MIGRATABLE))
                except hypervisor.CannotSay as error:
                    known = domain_id, str(error)
            running[uuid] = known
        self._known = running
        return {uuid: None if isinstance(said, str) else said for uuid, (_, said) in running.items()}

    def to_keep(self) -> Any:
        """What :meth:`__init__` takes in the next round."""
        numbers: dict[Cpu, int] = {}
        guests = {uuid: [domain_id, said if isinstance(said, str) else numbers.setdefault(said, len(numbers))]
                  for uuid, (domain_id, said) in self._known.items()}
        return {'cpus': [cpu.to_dict() for cpu in numbers], 'guests': guests}


def _daemon() -> tuple[str, str]:
    """Return the name of the daemon that is asked, for a finding and for its remedy."""
    name = daemon.of_guests()
    return (name, name) if name else ('libvirtd', 'libvirtd (or virtqemud)')


def _live_xml(domain: Any, flags: int = 0) -> Optional[str]:
    """The XML of a guest as it runs, None when it has just ended."""
    import libvirt
    try:
        return str(domain.XMLDesc(flags))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise

