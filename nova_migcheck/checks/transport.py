# SPDX-License-Identifier: Apache-2.0
"""Check the path from this host, the source, to one target: name, address, interface, port.

It runs when a migration is decided. Only the source can check this: its resolver and its routes
determine where a migration goes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Awaitable, ClassVar, Generator, Iterator, Mapping, Optional, Sequence

from nova_migcheck.checks.base import Check, Result, Settings
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import daemon as daemons
from nova_migcheck.libvirtd import target as targetlibvirt
from nova_migcheck.libvirtd import tlsfiles, tlsprobe
from nova_migcheck.libvirtd import uri as migrationuri
from nova_migcheck.network import hostsfile, intent, pathmtu, probe, targetnames
from nova_migcheck.network.intent import INBOUND
from nova_migcheck.network.interfaces import IPAddress, Kernel
from nova_migcheck.network.migration import HostMigration
from nova_migcheck.network.resolver import resolve
from nova_migcheck.network.targetnames import TargetNames

# A name of the target -> addresses of it.
_Addresses = Mapping[str, Sequence[IPAddress]]


@dataclasses.dataclass(frozen=True)
class _Target:
    """Hold what this host knows about the target.

    :param name: its name in Nova
    :param connect: the name or address by which Nova contacts it
    :param fact: its own report of its network
    """

    name: str
    connect: str
    fact: HostMigration

    @classmethod
    def of(cls, settings: Settings) -> _Target:
        fact = HostMigration.from_json(settings.target.get('migration'))
        name = str(settings.target.get('host') or fact.host or '')
        return cls(name, str(settings.target.get('connect') or fact.inbound or name), fact)

    @property
    def inbound(self) -> bool:
        """Return whether ``live_migration_inbound_addr`` is set on the target."""
        return bool(self.fact.inbound) or self.connect != self.name

    def origin(self, used: str, to: migrationuri.Destination) -> str:
        """Return where one of the names in ``to`` comes from."""
        if used != self.connect:
            return f'host name of {self.name}' if used == to.data else to.uri
        if self.inbound:
            return f'[libvirt] {INBOUND} of {self.name}'
        return f'[DEFAULT] host of {self.name}'


class TransportCheck(Check):
    """Check the names, routes and ports from this host to ``settings.target``."""

    NAME = 'transport'
    WHEN = 'path'
    CODES: ClassVar[Mapping[str, str]] = {
        'transport-libvirt-silent': 'libvirt on the target is silent, or refuses this host.',
        'transport-libvirt-unclear': "Whether libvirt's port on the target answers is unknown.",
        'transport-login': "Nobody can log in to the target's libvirt: its SASL does not work.",
        'transport-no-host-name': "libvirt's host name of the target is unknown.",
        'transport-no-port': "The port of libvirt's transport is unknown.",
        'transport-path-mtu': 'Large packets are dropped on the way to the target.',
        'transport-no-target': 'Nothing is known about the target.',
        'transport-qemu-elsewhere': "The target's QEMU waits for migrations at another address.",
        'transport-qemu-filtered': "QEMU's migration ports on the target are filtered.",
        'transport-uri': 'The URI for live migrations is wrong.',
        **tlsfiles.codes(NAME, without='name'), **targetnames.CODES, **targetlibvirt.CODES}
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {
        'DEFAULT': intent.OPTIONS['DEFAULT'],
        'libvirt': (*intent.OPTIONS['libvirt'], *migrationuri.OPTIONS, 'connection_uri'),
        'migcheck': (*intent.OPTIONS['migcheck'], 'ask_target'),
    }

    def run(self, settings: Settings) -> Iterator[Result]:
        start = time.monotonic()
        target = _Target.of(settings)
        if not target.connect:
            yield self.unknown('target', 'nothing is known about the target, not even its name',
                               code='transport-no-target')
            return
        try:
            to = migrationuri.destination(settings, target.connect, target.inbound,
                                          target.fact.libvirt_host)
        except ValueError as e:
            yield self.failure('libvirt URI', str(e),
                               settings.origin('libvirt', 'live_migration_uri'),
                               'correct the [libvirt] options', code='transport-uri')
            return
        if to.data == '':
            yield self.unknown(
                target.name, f"{target.name} has no {INBOUND}, and its libvirt's host name, to "
                'which QEMU will connect, is unknown on this host',
                remedy=f'set [libvirt] {INBOUND} on {target.name}', code='transport-no-host-name')
        usable = yield from self._names(settings, to, target)
        if usable is not None:
            # Usually everything is done within the timeout. After a slow resolver, the ports still
            # get their share of time.
            now = time.monotonic()
            deadline = max(start + settings.timeout, now + settings.timeout * 0.6)
            yield from self._ports(settings, to, usable, target.fact, deadline)

    def _names(self, settings: Settings, to: migrationuri.Destination,
               target: _Target) -> Generator[Finding, None, Optional[_Addresses]]:
        """Check the names of the target.

        :returns: each name with those of its addresses that may be the target's; None if this
            process cannot see the host's network
        """
        hosts = yield from hostsfile.read_for(self.NAME)
        own = str(settings.get('libvirt', INBOUND, ''))
        # The resolver waits 5 s for a dead name server before it asks the next one, so it gets a
        # second more.
        answers = resolve(filter(None, (to.connect, to.data, own)), settings.timeout * 1.2)
        with Kernel() as kernel:
            network = kernel.network()
            if network.isolated:
                yield self.unknown(
                    'interfaces', 'only the loopback interface is visible: this is not the '
                    "host's network namespace", remedy='run nova-compute with host networking',
                    code='network-namespace')
                return None
            intended = intent.of_host(settings, network, answers[own].addresses if own else ())
            names = TargetNames(target.name, target.fact, target.inbound, kernel, network, hosts,
                                intended)
            usable = {}
            for used in dict.fromkeys(filter(None, (to.connect, to.data))):
                yield from names.check(answers[used], target.origin(used, to))
                usable[used] = [ip for ip in answers[used].addresses if names.is_remote(ip)]
            if to.data and to.data != to.connect:
                yield from names.compare(answers[to.connect], answers[to.data])
            return usable

    def _ports(self, settings: Settings, to: migrationuri.Destination,
               usable: _Addresses, target: HostMigration, deadline: float) -> Iterator[Finding]:
        """Probe libvirt's and QEMU's ports on every address of the names together (T1, T2)."""
        services, paths, holes = asyncio.run(_probe(to, usable, target.qemu_ports, deadline))
        yield from self._client_certificates(settings, to, target, services)
        if to.port is None:
            yield self.unknown(to.uri, f"the port of libvirt's transport {to.transport} is unknown",
                               remedy='check it by hand', code='transport-no-port')
        yield from self._libvirt(to, services, daemons.listening(target.daemon, to.transport))
        for address, probes in paths.items():
            yield self._qemu(to, address, probes, target)
        data = usable.get(to.data or '', ())
        if data and not any(map(target.qemu_waits_at, data)):
            yield self._elsewhere(to, data, target)
        for address, hole in holes.items():
            if hole is not None:
                yield self._dropped(address, hole, target)
        asks = settings.get('migcheck', 'ask_target', 'auto') != 'never'
        if asks and services and not any(service.problem for service in services):
            yield from targetlibvirt.ask(
                settings, to, str(settings.target.get('host') or to.connect))

    def _elsewhere(self, to: migrationuri.Destination, data: Sequence[IPAddress],
                   target: HostMigration) -> Finding:
        listens, wanted = (', '.join(map(str, ips)) for ips in (target.qemu_listens, data))
        return self.failure(
            str(to.data), f'QEMU on the target waits for migrations at {listens} only, but this '
            f'host sends the guest to {wanted}', f'qemu.conf migration_address of {to.connect}',
            f'remove migration_address there, or set it to {wanted}',
            code='transport-qemu-elsewhere')

    def _dropped(self, address: IPAddress, hole: pathmtu.Hole, target: HostMigration) -> Finding:
        mtu = (f'The MTU is {hole.mtu} here, {target.mtu} there' if target.mtu else
               f'The MTU is {hole.mtu} here')
        return self.failure(
            str(address), f'packets of {hole.lost} bytes to {address} are never acknowledged, '
            f'those of {hole.passed} bytes are: something on the way drops large ones, and a '
            f'migration would hang. {mtu}', 'TCP from this host',
            f'let the switches on the way pass frames of {hole.lost} bytes, or set the MTU of both '
            f'hosts to {hole.passed}', code='transport-path-mtu')

    def _client_certificates(
            self, settings: Settings, to: migrationuri.Destination, target: HostMigration,
            services: Sequence[probe.Service]) -> Iterator[Finding]:
        """Check the certificates that this host presents as a source, if TLS is on (T3).

        The target's settings decide whether a certificate is required. If one is present, it must
        be good in any case: libvirt and QEMU check their own certificate before they connect.
        """
        if to.transport == 'tls':
            # If the target accepted this host without a certificate, it requires none.
            accepted = any(not service.problem and not service.unsure for service in services)
            yield from self._present(
                tlsfiles.of_libvirt_client(to.pkipath), migrationuri.tls_origin(settings),
                not accepted and target.libvirt_verifies is not False)
        if settings.get('libvirt', migrationuri.NATIVE_TLS) and to.data is not None:
            qemu_conf = libvirtconf.read_if_any(libvirtconf.QEMU_CONF)
            # If the target's report does not contain its setting, assume this host's.
            required = target.qemu_verifies
            if required is None and libvirtconf.qemu_verifies(qemu_conf):
                required = True
            yield from self._present(tlsfiles.of_qemu('client', qemu_conf),
                                     settings.origin('libvirt', migrationuri.NATIVE_TLS), required)

    def _present(self, files: tlsfiles.TlsFiles, origin: str,
                 required: Optional[bool]) -> Iterator[Finding]:
        """Check this host's files.

        :param required: whether the target refuses a source without them; None if unknown
        """
        for trouble in tlsfiles.troubles(files, visible=libvirtconf.are_libvirtd_s()):
            if trouble.absent and required is None:
                yield self.unknown(
                    trouble.path, f'{trouble.detail}; it is unknown whether the target requires it',
                    origin, trouble.remedy, code=f'{self.NAME}-{trouble.kind}')
            elif required or not trouble.absent:
                yield self.found(trouble.outcome, trouble.path, trouble.detail, origin,
                                 trouble.remedy, code=f'{self.NAME}-{trouble.kind}')

    def _libvirt(self, to: migrationuri.Destination, services: Sequence[probe.Service],
                 listening: str) -> Iterator[Finding]:
        """Check libvirt's port on each address.

        libvirt tries one address after the other. An address that refuses costs no time, but a
        silent one costs minutes.

        :param listening: the service that should listen there, in words
        """
        good = [service for service in services if not service.problem or service.unsure]
        for position, service in enumerate(services):
            at = _at(service.probe.address, service.probe.port)
            detail = f'libvirt at {to.connect}, {at}: {service.problem}'
            if not service.problem:
                yield self.ok(at, f'{to.transport} answers', to.uri)
                continue
            if service.login:
                yield self.failure(
                    at, detail, to.uri, 'on the target, see mech_list in /etc/sasl2/libvirt.conf, '
                    'and that what it needs is there: a keytab for gssapi, a password file '
                    '(saslpasswd2 -a libvirt USER) for the others; scram and digest-md5 need their '
                    'SASL modules', code='transport-login')
                continue
            if service.unsure:
                yield self.unknown(at, detail, to.uri, 'try it with virsh on this host',
                                   code='transport-libvirt-unclear')
                continue
            if to.transport in ('ssh', 'libssh') and not to.port_given and not good:
                yield self.unknown(
                    at, f'ssh at {to.connect}, {at}: {service.problem}; the configuration of ssh '
                    'may contain another port', to.uri,
                    'check that sshd on the target listens there, or put the port into [libvirt] '
                    'live_migration_uri', code='transport-libvirt-unclear')
                continue
            waits = service.probe.reach in (probe.Reach.SILENT, probe.Reach.OPEN)
            fails = not good or (waits and position < services.index(good[0]))
            remedy = f'let {to.connect} resolve only to addresses that answer'
            if service.remedy:
                remedy = service.remedy
            elif not good:
                remedy = (f'check that {listening} on the target listens there and that no '
                          'firewall blocks it')
            yield self.found(Outcome.FAILURE if fails else Outcome.WARNING, at, detail, to.uri,
                             remedy, code='transport-libvirt-silent')

    def _qemu(self, to: migrationuri.Destination, address: IPAddress,
              probes: Sequence[probe.Probe], target: HostMigration) -> Finding:
        first, last = target.qemu_ports
        subject = f'{address} ports {first}-{last}'
        origin = f'qemu.conf migration_port_min, migration_port_max of {to.connect}'
        blocked = [one for one in probes if not one.path_open]
        if not blocked:
            return self.ok(subject, 'packets get through', origin)
        ports = ', '.join(map(str, sorted(one.port for one in blocked)))
        remedy = f'open TCP {first}-{last} from this host to {address}'
        if len(blocked) < len(probes):
            return self.warning(
                subject, f"some of QEMU's migration ports on {address} are filtered: {ports}; if "
                'many migrations run at the same time, some will hang', origin, remedy,
                code='transport-qemu-filtered')
        return self.failure(
            subject, f"QEMU's migration ports {first}-{last} on {address} are filtered: {ports}: "
            f'{blocked[0].detail}', origin, remedy, code='transport-qemu-filtered')


async def _probe(
        to: migrationuri.Destination, usable: _Addresses, ports: tuple[int, int], deadline: float
        ) -> tuple[list[probe.Service], dict[IPAddress, list[probe.Probe]],
                   dict[IPAddress, Optional[pathmtu.Hole]]]:
    connect, data = usable.get(to.connect, ()), usable.get(to.data or '', ())
    services = [_ask(to, ip, to.port, deadline) for ip in connect] if to.port else []
    # Only libvirt's plain port can be asked for much without a login. It shows the path of the data
    # if libvirt listens on the address of the data, too.
    asked = list(dict.fromkeys((*connect, *data))) if to.transport == 'tcp' and to.port else []
    answers, paths, holes = await asyncio.gather(
        asyncio.gather(*services),
        asyncio.gather(*(probe.qemu(ip, ports, deadline) for ip in data)),
        asyncio.gather(*(pathmtu.look(ip, to.port or 0, deadline) for ip in asked)))
    return list(answers), dict(zip(data, paths)), dict(zip(asked, holes))


def _ask(to: migrationuri.Destination, ip: IPAddress, port: int,
         deadline: float) -> Awaitable[probe.Service]:
    if to.transport == 'tls':
        files = tlsfiles.of_libvirt_client(to.pkipath)
        return tlsprobe.tls(ip, port, deadline, to.connect, files, to.verify)
    return (probe.libvirt if to.transport == 'tcp' else probe.ssh)(ip, port, deadline)


def _at(address: IPAddress, port: int) -> str:
    return f'[{address}]:{port}' if address.version == 6 else f'{address}:{port}'
