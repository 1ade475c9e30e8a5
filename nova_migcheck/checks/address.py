# SPDX-License-Identifier: Apache-2.0
"""Check whether a migration to this host's names and addresses uses the intended interface.

How other hosts resolve this host's names is for them to check (the ``transport`` check, on the
source). A line like Debian's ``127.0.1.1`` for the own name does no harm to a migration that comes
from elsewhere, so it is a warning here.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, ClassVar, Iterator, Mapping, Sequence

from nova_migcheck.checks.base import Check, Fact, Offer, Result, Settings
from nova_migcheck.deadline import Call
from nova_migcheck.finding import Finding
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import daemon as daemons
from nova_migcheck.libvirtd import hostname as libvirthost
from nova_migcheck.libvirtd import uri as migrationuri
from nova_migcheck.network import hostsfile, intent, ownaddresses
from nova_migcheck.network import migration as networks
from nova_migcheck.network.intent import INBOUND
from nova_migcheck.network.interfaces import Kernel
from nova_migcheck.network.ownaddresses import COLD, OwnAddresses
from nova_migcheck.network.resolver import resolve


class AddressCheck(Check):
    """Check the names, addresses and interfaces of this host."""

    NAME = 'address'
    TRANSIENT = ('address',)
    WHEN = 'host'
    CODES: ClassVar[Mapping[str, str]] = {
        'address-localhost': "libvirt's name of this host is localhost: it refuses migrations.",
        **ownaddresses.CODES, **networks.CODES}
    OFFERS = (Offer('migration', ('host', 'libvirt_host', 'inbound', 'addresses', 'others',
                                  'qemu_listens'),
                    keep=1, between=networks.compare),)
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {
        'DEFAULT': intent.OPTIONS['DEFAULT'],
        'libvirt': ('connection_uri', INBOUND, COLD, *migrationuri.OPTIONS),
        'migcheck': intent.OPTIONS['migcheck'],
    }

    def run(self, settings: Settings) -> Iterator[Result]:
        deadline = time.monotonic() + settings.timeout
        asked = Call(libvirthost.for_migrations, settings)
        hosts = yield from hostsfile.read_for(self.NAME)
        inbound = str(settings.get('libvirt', INBOUND, ''))
        cold = str(settings.get('libvirt', COLD, ''))
        answers = resolve(filter(None, (settings.host, inbound, '' if '%s' in cold else cold)),
                          settings.timeout)
        libvirt_host = ''
        daemon = daemons.of_guests() or networks.LIBVIRTD
        try:
            libvirt_host = asked.wait(max(0.1, deadline - time.monotonic()))
        except TimeoutError:
            yield self.unknown(
                daemon, f'{daemon} did not report its host name within {settings.timeout:g} s',
                remedy=f'check {daemon} on this host', code='libvirt-silent')
        # Nova replaces %s by libvirt's host name.
        cold = cold.replace('%s', libvirt_host) if libvirt_host or '%s' not in cold else ''
        late = [name for name in (libvirt_host, cold) if name and name not in answers]
        answers.update(resolve(late, max(1.0, deadline - time.monotonic())))
        with Kernel() as kernel:
            network = kernel.network()
            if network.isolated:
                yield self._isolated()
                yield Fact('migration', networks.HostMigration(
                    settings.host, libvirt_host, inbound).to_json())
                return
            addresses = answers[inbound].addresses if inbound else ()
            host = OwnAddresses(settings, kernel, network, hosts, answers,
                                intent.of_host(settings, network, addresses))
            yield from host.interfaces(addresses)
            if inbound:
                yield from host.inbound(answers[inbound])
            else:
                names = dict.fromkeys(filter(None, (settings.host, libvirt_host)))
                yield from host.own_names([answers[name] for name in names])
                if libvirt_host.startswith('localhost'):
                    yield self._localhost(libvirt_host, daemon)
            yield from host.shared_subnets()
            if cold and cold != inbound:
                yield from host.cold(answers[cold])
            yield Fact('migration', dataclasses.replace(
                host.fact(libvirt_host, inbound), **_what_serves(settings, inbound)).to_json())

    def _isolated(self) -> Finding:
        return self.unknown(
            'interfaces', "only the loopback interface is visible: this is not the host's network "
            'namespace', remedy='run nova-compute with host networking', code='network-namespace')

    def _localhost(self, name: str, daemon: str) -> Finding:
        return self.failure(
            name, f"{daemon}'s host name is {name}: it refuses migrations",
            'host name of this host', f'give this host a name, or set [libvirt] {INBOUND}',
            code='address-localhost')


def _what_serves(settings: Settings, inbound: str) -> dict[str, Any]:
    """Return what a source contacts on this host, as arguments of ``HostMigration``."""
    try:
        to = migrationuri.destination(settings, inbound or settings.host, bool(inbound), '')
    except ValueError:
        serving: tuple[daemons.Daemon, ...] = ()  # the transport check reports it
    else:
        serving = daemons.of_port(to.port)
    qemu_conf = libvirtconf.read_libvirtd_s(libvirtconf.QEMU_CONF)
    ports = libvirtconf.migration_ports(libvirtconf.read_if_any(libvirtconf.QEMU_CONF))
    listens = str((qemu_conf or {}).get('migration_address', ''))
    answer = resolve([listens], settings.timeout)[listens] if listens else None
    return {'daemon': serving[0].name if len(serving) == 1 else '',
            'libvirt_verifies': daemons.verifies_clients(serving),
            'qemu_verifies': None if qemu_conf is None else libvirtconf.qemu_verifies(qemu_conf),
            'qemu_ports': ports, 'qemu_listens': answer.addresses if answer else ()}
