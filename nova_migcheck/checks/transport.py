# SPDX-License-Identifier: Apache-2.0
"""The way from this host, the source, to one target: name, address, interface, port. Run when a migration is decided.

The source's resolver and the source's routes decide where the bytes of a migration go, so only the source can tell.
"""

from __future__ import annotations

import asyncio
import time
from typing import Awaitable, ClassVar, Iterator, Mapping, Optional, Sequence

from nova_migcheck.checks.base import Check, Result, Settings
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import daemon as daemons
from nova_migcheck.libvirtd import tlsfiles, tlsprobe
from nova_migcheck.libvirtd import uri as migrationuri
from nova_migcheck.network import intent, probe
from nova_migcheck.network.hostsfile import HostsFile
from nova_migcheck.network.interfaces import HostNetwork, IPAddress, Kernel, Route
from nova_migcheck.network.migration import HostMigration
from nova_migcheck.network.resolver import Answer, resolve

_LOOPBACK = '127.0.0.1'
_INBOUND = 'live_migration_inbound_addr'


class TransportCheck(Check):
    """Names, routes and ports from here to ``settings.target``."""

    NAME = 'transport'
    WHEN = 'path'
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {
        'DEFAULT': intent.OPTIONS['DEFAULT'],
        'libvirt': (*intent.OPTIONS['libvirt'], *migrationuri.OPTIONS),
        'migcheck': intent.OPTIONS['migcheck'],
    }

    def run(self, settings: Settings) -> Iterator[Result]:
        start = time.monotonic()
        target = HostMigration.from_json(settings.target.get('migration'))
        name = str(settings.target.get('host') or target.host or '')
        connect = str(settings.target.get('connect') or target.inbound or name)
        if not connect:
            yield self.unknown('target', 'nothing is known of the target, not even its name')
            return
        inbound = bool(target.inbound) or connect != name
        try:
            to = migrationuri.destination(settings, connect, inbound, target.libvirt_host)
        except ValueError as e:
            yield self.failure('libvirt URI', str(e), settings.origin('libvirt', 'live_migration_uri'),
                               'correct the [libvirt] options')
            return
        if to.data == '':
            yield self.unknown(
                name, f"{name} has no {_INBOUND}, and its libvirt's host name, to which QEMU will "
                'connect, is not known here', remedy=f'set [libvirt] {_INBOUND} on {name}')
        hosts = HostsFile()
        try:
            hosts = HostsFile.read()
        except OSError as e:
            yield self.unknown(hosts.path, f'the hosts file cannot be read: {e.strerror}',
                               remedy='make it readable for the user that nova-compute runs as')
        own = str(settings.get('libvirt', _INBOUND, ''))
        # A name server that is down costs 5 s before the next one is asked: worth a second more.
        answers = resolve(filter(None, (to.connect, to.data, own)), settings.timeout * 1.2)
        with Kernel() as kernel:
            network = kernel.network()
            if network.isolated:
                yield self.unknown('interfaces', "only a loopback is to be seen: this is not the host's network namespace",
                                   remedy='run nova-compute with host networking')
                return
            meant = intent.of_host(settings, network, answers[own].addresses if own else ())
            origin = f'[libvirt] {_INBOUND} of {name}' if inbound else f'[DEFAULT] host of {name}'
            way = _Way(self, name, target, inbound, kernel, network, hosts, meant)
            usable = {}
            for used in dict.fromkeys(filter(None, (to.connect, to.data))):
                comes_from = origin if used == connect else f'host name of {name}' if used == to.data else to.uri
                yield from way.name(answers[used], comes_from)
                usable[used] = [ip for ip in answers[used].addresses if way.leads_out(ip)]
            if to.data and to.data != to.connect:
                yield from way.apart(answers[to.connect], answers[to.data])
        # Names in a file cost nothing, so all is done within the timeout; after a slow resolver the ports get their share.
        deadline = max(start + settings.timeout, time.monotonic() + settings.timeout * 0.6)
        yield from self._ports(settings, to, usable, target, deadline)

    def _ports(self, settings: Settings, to: migrationuri.Destination, usable: Mapping[str, Sequence[IPAddress]],
               target: HostMigration, deadline: float) -> Iterator[Finding]:
        """libvirt's port and QEMU's ports, on every address of the names, at once (T1, T2)."""
        services, found = asyncio.run(_probe(to, usable, target.qemu_ports, deadline))
        yield from self._client_certificates(settings, to, target, services)
        if to.port is None:
            yield self.unknown(to.uri, f'it is not known how libvirt connects by {to.transport}', remedy='check it by hand')
        yield from self._libvirt(to, services, daemons.listening(target.daemon, to.transport))
        for address, probes in found.items():
            yield self._qemu(to, address, probes, target)

    def _client_certificates(
            self, settings: Settings, to: migrationuri.Destination, target: HostMigration,
            services: Sequence[probe.Service]) -> Iterator[Finding]:
        """What this host presents as a source, where TLS is wanted (T3).

        Whether it needs a certificate at all is the target's setting. One that it has must be good
        in any case: libvirt and QEMU look at their own certificate before they connect.
        """
        if to.transport == 'tls':
            # One that is absent was not presented: where that was accepted, the target wants none.
            accepted = any(not service.problem and not service.unsure for service in services)
            yield from self._present(
                tlsfiles.of_libvirt_client(to.pkipath), migrationuri.tls_origin(settings),
                not accepted and target.libvirt_verifies is not False)
        if settings.get('libvirt', migrationuri.NATIVE_TLS) and to.data is not None:
            qemu_conf = libvirtconf.read_if_any(libvirtconf.QEMU_CONF)
            # Where the target's report does not say, its setting is taken to be this host's.
            wanted = target.qemu_verifies
            if wanted is None and libvirtconf.qemu_verifies(qemu_conf):
                wanted = True
            yield from self._present(tlsfiles.of_qemu('client', qemu_conf),
                                     settings.origin('libvirt', migrationuri.NATIVE_TLS), wanted)

    def _present(self, files: tlsfiles.TlsFiles, origin: str, wanted: Optional[bool]) -> Iterator[Finding]:
        """Judge this host's files.

        :param wanted: whether the target refuses a source that has none; None when unknown
        """
        for trouble in tlsfiles.troubles(files, visible=libvirtconf.are_libvirtd_s()):
            if trouble.absent and wanted is None:
                yield self.unknown(
                    trouble.path, f'{trouble.detail}; it is not known whether the target wants it',
                    origin, trouble.remedy)
            elif wanted or not trouble.absent:
                yield self.found(trouble.outcome, trouble.path, trouble.detail, origin,
                                 trouble.remedy)

    def _libvirt(self, to: migrationuri.Destination, services: Sequence[probe.Service],
                 listening: str) -> Iterator[Finding]:
        """Judge libvirt's port on each address.

        libvirt tries one address after the other: one that is refused costs nothing, a silent one
        minutes.

        :param listening: what should listen there, in words
        """
        good = [service for service in services if not service.problem or service.unsure]
        for position, service in enumerate(services):
            at = _at(service.probe.address, service.probe.port)
            if not service.problem:
                yield self.ok(at, f'{to.transport} answers', to.uri)
                continue
            if service.unsure:
                yield self.unknown(at, f'libvirt at {to.connect}, {at}: {service.problem}', to.uri, 'compare with virsh from this host')
                continue
            if to.transport in ('ssh', 'libssh') and not to.port_given and not good:
                yield self.unknown(at, f'ssh at {to.connect}, {at}: {service.problem}; its own configuration may name another port', to.uri,
                                   'see that sshd on the target listens there, or name the port in [libvirt] live_migration_uri')
                continue
            waits = service.probe.reach in (probe.Reach.SILENT, probe.Reach.OPEN)
            comes_first = not good or position < services.index(good[0])
            outcome = Outcome.FAILURE if not good or (waits and comes_first) else Outcome.WARNING
            yield self.found(outcome, at, f'libvirt at {to.connect}, {at}: {service.problem}', to.uri,
                             f'see that {listening} on the target listens there and that no '
                             'firewall is between' if not good else f'let {to.connect} resolve only to addresses that answer')

    def _qemu(self, to: migrationuri.Destination, address: IPAddress, probes: Sequence[probe.Probe],
              target: HostMigration) -> Finding:
        first, last = target.qemu_ports
        blocked = [one for one in probes if not one.path_open]
        subject, origin = f'{address} ports {first}-{last}', f'qemu.conf migration_port_min, migration_port_max of {to.connect}'
        tried = ', '.join(str(one.port) for one in sorted(blocked, key=lambda one: one.port))
        remedy = f'open TCP {first}-{last} from this host to {address}'
        if not blocked:
            return self.ok(subject, 'packets get through', origin)
        if len(blocked) < len(probes):
            return self.warning(subject, f"some of QEMU's migration ports on {address} are filtered: {tried}; many "
                                'migrations at once will hang', origin, remedy)
        return self.failure(subject, f"QEMU's migration ports {first}-{last} on {address} are filtered: {tried}: "
                            f'{blocked[0].detail}', origin, remedy)


class _Way:
    """Judges names and addresses of the target as this host sees them."""

    def __init__(self, check: TransportCheck, target: str, fact: HostMigration, inbound: bool, kernel: Kernel, network: HostNetwork,
                 hosts: HostsFile, meant: intent.Intent) -> None:
        self.check, self.target, self.fact, self.kernel, self.network = check, target, fact, kernel, network
        self.hosts, self.meant = hosts, meant
        self.stated = fact.stated or inbound
        self._routes: dict[IPAddress, Optional[Route]] = {}

    def name(self, answer: Answer, origin: str) -> Iterator[Finding]:
        """Every answer for one name (A1, A3, A5, A6, A7)."""
        name, remedy = answer.name, 'correct the name in the hosts file or in DNS'
        if not answer.addresses:
            outcome = Outcome.UNKNOWN if answer.timed_out else Outcome.FAILURE
            yield self.check.found(outcome, name, f'{name} does not resolve on this host: {answer.error}', origin, remedy)
            return
        found = []
        for ip in answer.addresses:
            outcome, what = self._judge(ip, answer.literal)
            if outcome is not Outcome.OK:
                said = str(ip) if answer.literal else f'{name} resolves to {ip}, which'
                where = origin if answer.literal else self.hosts.origin(name, ip)
                found.append(self.check.found(outcome, name, f'{said} {what}', where, remedy if not answer.literal else
                                              f'correct [libvirt] {_INBOUND} on {self.target}, or the route to it here'))
        yield from self._conflict(answer, found)
        yield from found
        if not found:
            ways = {self._interface(ip) for ip in answer.addresses}
            yield self.check.ok(name, f'{name} is {", ".join(map(str, answer.addresses))}, by {", ".join(sorted(ways))}',
                                origin)

    def apart(self, connect: Answer, data: Answer) -> Iterator[Finding]:
        """Nova's name and libvirt's name of the target lead to different networks (A11)."""
        ways = [{self._interface(ip) for ip in answer.addresses if self.leads_out(ip)} for answer in (connect, data)]
        if not all(ways) or ways[0] & ways[1]:
            return
        listed = all(self.meant.listed and self.meant.covers(ip) for answer in (connect, data) for ip in answer.addresses)
        if not listed:
            told = ' but '.join(f'{answer.name} is {", ".join(map(str, answer.addresses))} by {", ".join(sorted(way))}'
                                for answer, way in zip((connect, data), ways))
            yield self.check.failure(
                self.target, f"Nova's name and libvirt's name of {self.target} lead to different networks: {told}; libvirt "
                'connects to the first and QEMU to the second', f'host names of {self.target}',
                f'set [libvirt] {_INBOUND} on {self.target}, so that one address is used for both')

    def leads_out(self, ip: IPAddress) -> bool:
        """Whether an address can be another host's."""
        return not ip.is_loopback and not self.network.holding(ip)

    def _judge(self, ip: IPAddress, literal: bool) -> tuple[Outcome, str]:
        """How an address of the target looks from here, with all that is wrong with it in words."""
        if ip.is_loopback:
            return Outcome.FAILURE, 'is a loopback address: this host would contact itself'
        route = self._route(ip)
        if self.network.holding(ip) or (route is not None and route.kind == 'local'):
            return Outcome.FAILURE, 'is an address of this host itself'
        if route is None:
            return Outcome.FAILURE, 'has no route from here'
        judged = [self._at_target(ip, literal), self._way_out(route)]
        if not self.meant.covers(ip):
            listed = ', '.join(map(str, self.meant.listed))
            judged.append((Outcome.FAILURE, f'lies outside of {listed} ({self.meant.origin})'))
        wrong = [(outcome, text) for outcome, text in judged if outcome is not Outcome.OK]
        if not wrong:
            return Outcome.OK, ''
        failed = any(outcome is Outcome.FAILURE for outcome, _text in wrong)
        return Outcome.FAILURE if failed else Outcome.WARNING, ' and '.join(text for _outcome, text in wrong)

    def _at_target(self, ip: IPAddress, literal: bool) -> tuple[Outcome, str]:
        """What the target itself says of an address. One that it was configured with it has judged itself."""
        fact = self.fact
        if literal or ip in fact.addresses or not fact.complete:
            return Outcome.OK, ''
        if ip not in fact.others:
            return Outcome.FAILURE, f'is no address of {self.target}'
        if fact.others[ip] == fact.interface:
            return Outcome.OK, ''
        text = f'is on {fact.others[ip]} of {self.target}, while migrations to it are meant to go to '
        text += f'{fact.interface or "its migration networks"} ({", ".join(map(str, fact.addresses[:4]))})'
        return Outcome.FAILURE if fact.stated else Outcome.WARNING, text

    def _way_out(self, route: Route) -> tuple[Outcome, str]:
        """The outgoing interface against the one that is meant here, and its link (A7, A9)."""
        out = self.network.interface(route.interface)
        if out is None:
            return Outcome.OK, ''
        if not (out.up and out.carrier):
            return Outcome.FAILURE, f'is reached over {out.name}, which {"has no carrier" if out.up else "is down"}'
        if not self.meant.interfaces or out.index in {link.index for link in self.meant.interfaces}:
            return Outcome.OK, ''
        text = f'is reached over {out.name} from here, while migrations are meant to go over {self.meant}'
        if self.meant.stated:
            return Outcome.FAILURE, text
        # my_ip is no statement, and the target's inbound address is one.
        return (Outcome.OK, '') if self.stated else (Outcome.WARNING, text)

    def _conflict(self, answer: Answer, found: Sequence[Finding]) -> Iterator[Finding]:
        """Two hosts-file lines with different addresses for the name (A3), unless the target holds all of them."""
        lines = self.hosts.conflict(answer.name, answer.addresses)
        if not lines:
            return
        told = ', '.join(f'line {line.number} says {line.address}' for line in lines)
        first = next((ip for ip in answer.addresses if ip in [line.address for line in lines]), lines[0].address)
        harmless = not found and all(line.address in self.fact.addresses for line in lines)
        yield self.check.found(
            Outcome.WARNING if harmless else Outcome.FAILURE, answer.name, f'{answer.name} has different addresses in '
            f'{self.hosts.path}: {told}; {first} is tried first', f'{self.hosts.path}:{lines[0].number}',
            'keep one line for the name')

    def _route(self, ip: IPAddress) -> Optional[Route]:
        if ip not in self._routes:
            self._routes[ip] = self._ask_route(ip)
        return self._routes[ip]

    def _ask_route(self, ip: IPAddress) -> Optional[Route]:
        route = self.kernel.route(ip)
        meant = {link.index for link in self.meant.interfaces}
        if route is not None and route.interface in meant:
            return route
        for vrf in {link.vrf for link in self.meant.interfaces if link.vrf}:
            inside = self.kernel.route(ip, vrf=vrf)
            if inside is not None and inside.interface in meant:
                return inside
        return route

    def _interface(self, ip: IPAddress) -> str:
        route = self._route(ip)
        return self.network.name(route.interface) if route else 'no route'


async def _probe(to: migrationuri.Destination, usable: Mapping[str, Sequence[IPAddress]], ports: tuple[int, int],
                 deadline: float) -> tuple[list[probe.Service], dict[IPAddress, list[probe.Probe]]]:
    services = [_ask(to, ip, to.port, deadline) for ip in usable.get(to.connect, ())] if to.port else []
    data = list(usable.get(to.data, ())) if to.data else []
    answered, paths = await asyncio.gather(
        asyncio.gather(*services), asyncio.gather(*(probe.qemu(ip, ports, deadline) for ip in data)))
    return list(answered), dict(zip(data, paths))


def _ask(to: migrationuri.Destination, ip: IPAddress, port: int, deadline: float) -> Awaitable[probe.Service]:
    if to.transport == 'tls':
        return tlsprobe.tls(ip, port, deadline, to.connect, tlsfiles.of_libvirt_client(to.pkipath), to.verify)
    return (probe.libvirt if to.transport == 'tcp' else probe.ssh)(ip, port, deadline)


def _at(address: IPAddress, port: int) -> str:
    return f'[{address}]:{port}' if address.version == 6 else f'{address}:{port}'


