# SPDX-License-Identifier: Apache-2.0
"""This host's own names and addresses: does a migration to it arrive on the interface that was meant?

What other hosts make of this host's names is theirs to say (the ``transport`` check, on the source): a line like Debian's
``127.0.1.1`` for the own name does no harm to a migration that comes from elsewhere, so it is a warning here.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Iterator, Mapping, Optional, Sequence

from nova_migcheck.checks.base import Check, Fact, Offer, Result, Settings
from nova_migcheck.deadline import Call
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import daemon as daemons
from nova_migcheck.libvirtd import hostname as libvirthost
from nova_migcheck.libvirtd import uri as migrationuri
from nova_migcheck.network import intent
from nova_migcheck.network import migration as networks
from nova_migcheck.network.hostsfile import HostsFile
from nova_migcheck.network.interfaces import Address, HostNetwork, IPAddress, Kernel, answers_arp_for_others
from nova_migcheck.network.resolver import Answer, resolve

_INBOUND = 'live_migration_inbound_addr'
_COLD = 'migration_inbound_addr'


class AddressCheck(Check):
    """Names, addresses and interfaces of this host."""

    NAME = 'address'
    WHEN = 'host'
    OFFERS = (Offer('migration', ('host', 'libvirt_host', 'inbound', 'addresses', 'others'),
                    keep=1, between=networks.compare),)
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {
        'DEFAULT': intent.OPTIONS['DEFAULT'],
        'libvirt': ('connection_uri', _INBOUND, _COLD, *migrationuri.OPTIONS),
        'migcheck': intent.OPTIONS['migcheck'],
    }

    def run(self, settings: Settings) -> Iterator[Result]:
        deadline = time.monotonic() + settings.timeout
        asked = Call(libvirthost.name, settings)
        hosts = HostsFile()
        try:
            hosts = HostsFile.read()
        except OSError as e:
            yield self.unknown(hosts.path, f'the hosts file cannot be read: {e.strerror}',
                               remedy='make it readable for the user that nova-compute runs as')
        inbound, cold = str(settings.get('libvirt', _INBOUND, '')), str(settings.get('libvirt', _COLD, ''))
        answers = resolve(filter(None, (settings.host, inbound, '' if '%s' in cold else cold)), settings.timeout)
        libvirt_host = str(libvirtconf.read_if_any(libvirtconf.QEMU_CONF).get('migration_host', ''))
        try:
            libvirt_host = libvirt_host or asked.wait(max(0.1, deadline - time.monotonic()))
        except TimeoutError:
            daemon = daemons.of_guests() or networks.LIBVIRTD
            yield self.unknown(
                daemon, f'it did not say its host name within {settings.timeout:g} s',
                remedy=f'look at {daemon} on this host')
        # As Nova does, which puts libvirt's host name in.
        cold = cold.replace('%s', libvirt_host) if libvirt_host or '%s' not in cold else ''
        late = [name for name in (libvirt_host, cold) if name and name not in answers]
        answers.update(resolve(late, max(1.0, deadline - time.monotonic())))

        with Kernel() as kernel:
            network = kernel.network()
            if network.isolated:
                yield self.unknown('interfaces', "only a loopback is to be seen: this is not the host's network namespace",
                                   remedy='run nova-compute with host networking')
                yield Fact('migration', networks.HostMigration(settings.host, libvirt_host, inbound).to_json())
                return
            meant = intent.of_host(settings, network, answers[inbound].addresses if inbound else ())
            host = _Host(self, settings, kernel, network, hosts, answers, meant)
            yield from host.interfaces(answers[inbound].addresses if inbound else ())
            if inbound:
                yield from host.inbound(answers[inbound])
            else:
                yield from host.own_names([answers[name] for name in dict.fromkeys((settings.host, libvirt_host)) if name])
                if libvirt_host.startswith('localhost'):
                    daemon = daemons.of_guests() or networks.LIBVIRTD
                    yield self.failure(
                        libvirt_host, f"{daemon}'s host name is {libvirt_host}: it refuses migrations",
                        'host name of this host', f'give this host a name, or set [libvirt] {_INBOUND}')
            yield from host.shared_subnets()
            if cold and cold != inbound:
                yield from host.cold(answers[cold])
            yield host.fact(libvirt_host, inbound)


class _Host:
    """What one run has learned about this host."""

    def __init__(self, check: AddressCheck, settings: Settings, kernel: Kernel, network: HostNetwork, hosts: HostsFile,
                 answers: Mapping[str, Answer], meant: intent.Intent) -> None:
        self.check, self.settings, self.kernel, self.network = check, settings, kernel, network
        self.hosts, self.answers, self.meant = hosts, answers, meant
        # A guess from my_ip condemns nothing.
        self.bad = Outcome.FAILURE if meant.stated else Outcome.WARNING

    def interfaces(self, inbound: Sequence[IPAddress]) -> Iterator[Finding]:
        """There is an interface for migrations, and it has a link (A9)."""
        meant = self.meant
        if meant.problem and meant.rule != intent.INBOUND:  # that one is said address by address
            outcome = self.bad if meant.certain else Outcome.UNKNOWN
            yield self.check.found(outcome, 'migration interface', meant.problem, meant.origin, meant.remedy)
        dead = [link for link in meant.interfaces if not (link.up and link.carrier)]
        used = {address.interface for ip in inbound for address in self.network.holding(ip)}
        for link in dead:
            what = 'has no carrier' if link.up else 'is down'
            outcome = self.bad if len(dead) == len(meant.interfaces) or link.index in used else Outcome.WARNING
            yield self.check.found(outcome, link.name, f'{link.name}, over which migrations are meant to go, {what}',
                                   meant.origin, f'bring {link.name} up' if not link.up else 'look at its cable or its ports')

    def inbound(self, answer: Answer) -> Iterator[Finding]:
        """live_migration_inbound_addr leads to this host, and to the interface that was meant (A1, A2)."""
        origin, name = self.settings.origin('libvirt', _INBOUND), f'{_INBOUND} {answer.name}'
        if not answer.addresses:
            # The source's resolver decides, not this one.
            outcome = Outcome.UNKNOWN if answer.timed_out else Outcome.WARNING
            yield self.check.found(outcome, answer.name, f'{name} does not resolve on this host: {answer.error}', origin,
                                   'correct the name, or set the address itself')
            return
        found = list(self._ambiguous(answer, origin))
        for ip in answer.addresses:
            said = name if answer.literal else f'{name} resolves to {ip} ({self.hosts.origin(answer.name, ip)}), which'
            wrong = self._wrong(ip)
            if wrong is not None:
                outcome, what, remedy = wrong
                if ip.is_loopback and not answer.literal:
                    outcome = Outcome.WARNING
                found.append(self.check.found(outcome, str(ip), f'{said} {what}', origin, remedy))
        if not found:
            addresses = ', '.join(map(str, answer.addresses))
            found.append(self.check.ok(_INBOUND, f'{answer.name} is {addresses} on {self.meant}', origin))
        yield from found

    def own_names(self, answers: Sequence[Answer]) -> Iterator[Finding]:
        """The names by which this host is reached when it has no inbound address (A4, A5, A11)."""
        for answer in answers:
            origin = 'host name' if answer.name != self.settings.host else '[DEFAULT] host'
            remedy = f'set [libvirt] {_INBOUND} on this host, or correct the name'
            if not answer.addresses:
                outcome = Outcome.UNKNOWN if answer.timed_out else Outcome.WARNING
                yield self.check.found(outcome, answer.name, f'{answer.name} does not resolve on this host: {answer.error}',
                                       origin, remedy)
                continue
            found = list(self._ambiguous(answer, origin))
            for ip in answer.addresses:
                wrong = self._wrong(ip)
                if wrong is not None and not (found and ip.is_loopback):
                    text = f'{answer.name} resolves to {ip} ({self.hosts.origin(answer.name, ip)}), which {wrong[1]}'
                    if self.meant.stated or not self.network.holding(ip):
                        found.append(self.check.warning(answer.name, f'{text}; other hosts may see it so, too', origin, remedy))
            yield from found or [self.check.ok(answer.name, f'it is {", ".join(map(str, answer.addresses))}', origin)]
        places = {answer.name: places for answer in answers if (places := self._places(answer.addresses))}
        if len(places) == 2 and not set.intersection(*map(set, places.values())):
            told = ' but '.join(f'{name} leads to {", ".join(self._addresses(name))} on {", ".join(where)}'
                                for name, where in places.items())
            yield self.check.warning(
                'host names', f"Nova's name and libvirt's name of this host lie on different interfaces: {told}",
                '[DEFAULT] host', f'set [libvirt] {_INBOUND}, so that one address is used for both')

    def shared_subnets(self) -> Iterator[Finding]:
        """No other interface answers for the migration address (A8).

        Only IPv4: neighbour discovery answers on the interface that holds the address.
        """
        ours = {link.index: link for link in self.meant.interfaces}
        addresses = [address for address in self.network.candidates()
                     if address.ip.version == 4 and not address.host_prefix]
        mine = [address for address in addresses if address.ip in self.meant.addresses and address.interface in ours]
        seen = set()
        for a in mine:
            for b in addresses:
                pair = (a.interface, b.interface)
                if b.interface == a.interface or a.network != b.network or pair in seen or pair[::-1] in seen:
                    continue
                seen.add(pair)
                yield from self._shared(a, b)

    def cold(self, answer: Answer) -> Iterator[Finding]:
        """migration_inbound_addr: cold migrations and resizes copy disks to it. It stops no live migration."""
        origin, remedy = self.settings.origin('libvirt', _COLD), f'correct [libvirt] {_COLD}'
        for ip in answer.addresses:
            if ip.is_loopback or not self._here(ip):
                yield self.check.warning(_COLD, f'{_COLD} {answer.name} leads to {ip}, which '
                                         f'{"is a loopback address" if ip.is_loopback else "is on no interface of this host"}: '
                                         'cold migrations to this host will fail', origin, remedy)
        if answer.error:
            yield self.check.warning(_COLD, f'{_COLD} {answer.name} does not resolve: {answer.error}', origin, remedy)

    def fact(self, libvirt_host: str, inbound: str) -> Fact:
        """What another host's ``transport`` check and the comparison of two hosts need to know."""
        meant, limit = self.meant, networks.MAX_ADDRESSES
        mine = {link.index for link in meant.interfaces}
        held = [address for address in self.network.addresses if not (address.ip.is_loopback or address.ip.is_link_local)]
        # A temporary or deprecated address beside the ones that are meant leads there, too.
        beside = (address.ip for address in held
                  if address.interface in mine and not address.candidate and meant.covers(address.ip))
        addresses = tuple(dict.fromkeys((*meant.addresses, *beside)))
        others = {address.ip: address.interface for address in held if address.ip not in addresses}
        mtus = {link.mtu for link in meant.interfaces}
        return Fact('migration', networks.HostMigration(
            host=self.settings.host, libvirt_host=libvirt_host, inbound=inbound, addresses=addresses[:limit],
            others={ip: self.network.name(index) for ip, index in list(others.items())[:limit]},
            complete=len(addresses) <= limit and len(others) <= limit,
            interface=meant.interfaces[0].name if len(meant.interfaces) == 1 else '', networks=meant.networks[:limit],
            intended_by=meant.rule, mtu=mtus.pop() if len(mtus) == 1 else 0, option_networks=meant.listed[:limit],
            **_what_serves(self.settings, inbound)).to_json())

    def _wrong(self, ip: IPAddress) -> Optional[tuple[Outcome, str, str]]:
        """What is wrong with an address that others are told to use: how bad, in words, and the remedy."""
        meant, held = self.meant, self.network.holding(ip)
        if ip.is_loopback:
            return Outcome.FAILURE, 'is a loopback address: another host would contact itself', 'use an address of this host'
        if ip.is_link_local:
            return Outcome.FAILURE, 'is a link-local address, which means nothing on another host', 'use a routable address'
        if not self._here(ip):
            return Outcome.FAILURE, 'is on no interface of this host', f'set [libvirt] {_INBOUND} to an address of this host'
        if any(address.duplicate for address in held):
            return Outcome.FAILURE, 'is in use on another host (duplicate address detection failed)', 'give one of them another'
        where = ', '.join(self.network.name(address.interface) for address in held) or 'routed to this host'
        right = f'use an address of {meant.names}: {", ".join(map(str, meant.addresses[:4]))}'
        if not meant.covers(ip):
            return Outcome.FAILURE, f'is on {where}, but migrations are meant to go over {meant}', right
        elsewhere = meant.interfaces and not {a.interface for a in held} & {link.index for link in meant.interfaces}
        # An address that is routed to the host (on lo or dummy0) comes in over any of its interfaces.
        if elsewhere and not all((link := self.network.interface(a.interface)) and link.virtual for a in held):
            return Outcome.FAILURE, f'is on {where}, but migrations are meant to go over {meant}', right
        if all(address.temporary for address in held) and held:
            return Outcome.WARNING, 'is a temporary address (RFC 8981) and will go away', right
        return None

    def _ambiguous(self, answer: Answer, origin: str) -> Iterator[Finding]:
        """A name with several addresses of one family that do not all lie where migrations are meant to go (A4)."""
        lines = self.hosts.conflict(answer.name, answer.addresses)
        real = dict.fromkeys(line.address for line in lines if not line.address.is_loopback)
        if not lines:
            places = self._places(answer.addresses)
            if self.meant.rule == intent.INBOUND and len(places) > 1:
                yield self.check.failure(answer.name, f'{answer.name} leads to {" and ".join(places)}: '
                                         f'{", ".join(map(str, answer.addresses))}', origin,
                                         f'set [libvirt] {_INBOUND} to one address')
            return
        told = ', '.join(f'line {line.number} says {line.address}' for line in lines)
        first = next((ip for ip in answer.addresses if ip in [line.address for line in lines]), lines[0].address)
        detail = f'{answer.name} has different addresses in {self.hosts.path}: {told}; {first} is tried first'
        meant = {link.index for link in self.meant.interfaces}
        right = all({a.interface for a in self.network.holding(ip)} & meant and self.meant.covers(ip) for ip in real)
        # Where the name itself says what is meant, it must mean one interface.
        if len(real) > 1 and not (right and (len(meant) == 1 or self.meant.rule != intent.INBOUND)):
            yield self.check.failure(answer.name, detail, f'{self.hosts.path}:{lines[0].number}', 'keep one line for the name')
        else:
            yield self.check.warning(answer.name, detail, f'{self.hosts.path}:{lines[0].number}', 'keep one line for the name')

    def _shared(self, a: Address, b: Address) -> Iterator[Finding]:
        one, two = self.network.interface(a.interface), self.network.interface(b.interface)
        if one is None or two is None or one.vrf != two.vrf or two.virtual or not (two.up and two.carrier):
            return
        if one.index in (two.master, two.parent) or two.index in (one.master, one.parent):
            return  # stacked on each other (keepalived's use_vmac): the same wire
        answers = answers_arp_for_others(two.name)
        if answers is False or self._source_routed(a, b):
            return
        outcome = self.bad if answers else Outcome.UNKNOWN
        yield self.check.found(
            outcome, str(a.network), f'{one.name} and {two.name} are both in {a.network} and each answers ARP for the '
            f"other's address: a migration to {a.ip} may arrive on {two.name}", f'{one.name} {a.ip}, {two.name} {b.ip}',
            f'put them into different subnets, or set net.ipv4.conf.{two.name}.arp_ignore=1 and arp_announce=2')

    def _source_routed(self, a: Address, b: Address) -> bool:
        """Whether what is sent from each address leaves by the interface that holds it (policy routing)."""
        held = {address.ip for address in self.network.addresses}
        to = next((ip for ip in a.network.hosts() if ip not in held), None)
        routes = [(self.kernel.route(to, source=address.ip), address) for address in (a, b)] if to else []
        return bool(routes) and all(route is not None and route.interface == address.interface for route, address in routes)

    def _here(self, ip: IPAddress) -> bool:
        if self.network.holding(ip):
            return True
        route = self.kernel.route(ip)  # `ip route add local …` makes a whole prefix this host's own
        return route is not None and route.kind == 'local'

    def _places(self, addresses: Sequence[IPAddress]) -> list[str]:
        """The interfaces that hold any of these addresses, loopback ones aside."""
        return list(dict.fromkeys(self.network.name(address.interface) for ip in addresses if not ip.is_loopback
                                  for address in self.network.holding(ip)))

    def _addresses(self, name: str) -> list[str]:
        return [str(ip) for ip in self.answers[name].addresses]


def _what_serves(settings: Settings, inbound: str) -> dict[str, Any]:
    """Return what a source meets at this host, as arguments of ``HostMigration``."""
    try:
        to = migrationuri.destination(settings, inbound or settings.host, bool(inbound), '')
    except ValueError:
        serving: tuple[daemons.Daemon, ...] = ()  # the transport check says so
    else:
        serving = daemons.of_port(to.port)
    qemu_conf = libvirtconf.read_libvirtd_s(libvirtconf.QEMU_CONF)
    ports = libvirtconf.migration_ports(libvirtconf.read_if_any(libvirtconf.QEMU_CONF))
    return {'daemon': serving[0].name if len(serving) == 1 else '',
            'libvirt_verifies': daemons.verifies_clients(serving),
            'qemu_verifies': None if qemu_conf is None else libvirtconf.qemu_verifies(qemu_conf),
            'qemu_ports': ports}
