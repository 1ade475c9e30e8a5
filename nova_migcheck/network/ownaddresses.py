# SPDX-License-Identifier: Apache-2.0
"""Check this host's own names and addresses for migrations."""

from __future__ import annotations

from typing import Iterator, Mapping, NamedTuple, Optional, Sequence

from nova_migcheck import wording
from nova_migcheck.checksettings import Settings
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.network import intent
from nova_migcheck.network.hostsfile import HostsFile
from nova_migcheck.network.intent import INBOUND
from nova_migcheck.network.interfaces import (
    Address,
    HostNetwork,
    IPAddress,
    Kernel,
    answers_arp_for_others,
)
from nova_migcheck.network.migration import CHECK, MAX_ADDRESSES, HostMigration
from nova_migcheck.network.resolver import Answer

COLD = 'migration_inbound_addr'

#: Code -> what it means.
CODES = {
    'address-ambiguous': 'A name of this host resolves to addresses on several interfaces.',
    'address-cold': 'migration_inbound_addr is wrong: cold migrations to this host fail.',
    'address-duplicate': 'An address for migrations is in use on another host.',
    'address-hosts-conflict': 'The hosts file has several addresses for a name of this host.',
    'address-interface-missing': 'No interface or address of this host is for migrations.',
    'address-link-down': 'An interface for migrations is down or has no carrier.',
    'address-link-local': 'An address for migrations is link-local.',
    'address-loopback': 'An address for migrations is a loopback address.',
    'address-names-apart': "Nova's and libvirt's name of this host are on two interfaces.",
    'address-not-here': 'An address for migrations is on no interface of this host.',
    'address-shared-subnet': 'Two interfaces in one subnet answer ARP for each other.',
    'address-temporary': 'An address for migrations is a temporary one (RFC 8981).',
    'address-unresolved': 'A name of this host does not resolve on it.',
    'address-wrong-interface': 'An address for migrations is on another interface.',
}


class _Wrong(NamedTuple):
    """What is wrong with an address that other hosts are to use."""

    outcome: Outcome
    code: str
    detail: str
    remedy: str


class OwnAddresses:
    """Hold what one run has found out about this host, and check it.

    :param intended: what is intended for the migrations of this host
    """

    def __init__(self, settings: Settings, kernel: Kernel, network: HostNetwork,
                 hosts: HostsFile, answers: Mapping[str, Answer],
                 intended: intent.Intent) -> None:
        self.settings, self.kernel, self.network = settings, kernel, network
        self.hosts, self.answers, self.intended = hosts, answers, intended
        # A guess from my_ip never causes a failure.
        self.bad = Outcome.FAILURE if intended.stated else Outcome.WARNING

    def interfaces(self, inbound: Sequence[IPAddress]) -> Iterator[Finding]:
        """Check that there is an interface for migrations, and that it has a link (A9)."""
        intended = self.intended
        # A problem with the inbound address is reported for each of its addresses.
        if intended.problem and intended.rule != intent.INBOUND:
            outcome = self.bad if intended.certain else Outcome.UNKNOWN
            yield _finding(
                outcome, 'migration interface', intended.problem, intended.origin,
                intended.remedy, code='address-interface-missing')
        dead = [link for link in intended.interfaces if not (link.up and link.carrier)]
        used = {address.interface for ip in inbound for address in self.network.holding(ip)}
        for link in dead:
            all_dead = len(dead) == len(intended.interfaces)
            outcome = self.bad if all_dead or link.index in used else Outcome.WARNING
            detail = (f'{link.name}, over which migrations are intended to go, has no carrier'
                      if link.up else
                      f'{link.name}, over which migrations are intended to go, is down')
            remedy = 'check its cable or its ports' if link.up else f'bring {link.name} up'
            yield _finding(outcome, link.name, detail, intended.origin, remedy,
                           code='address-link-down')

    def inbound(self, answer: Answer) -> Iterator[Finding]:
        """Check that live_migration_inbound_addr is on the intended interface (A1, A2)."""
        origin = self.settings.origin('libvirt', INBOUND)
        name = f'{INBOUND} {answer.name}'
        if not answer.addresses:
            # The source's resolver decides, not this one.
            outcome = Outcome.UNKNOWN if answer.timed_out else Outcome.WARNING
            yield _finding(
                outcome, answer.name, f'{name} does not resolve on this host: {answer.error}',
                origin, 'correct the name, or set the address itself', code='address-unresolved')
            return
        found = list(self._ambiguous(answer, origin))
        for ip in answer.addresses:
            wrong = self._wrong(ip)
            if wrong is None:
                continue
            named = ip.is_loopback and not answer.literal
            text = INBOUND if answer.literal else (
                f'{name} resolves to {ip} ({self.hosts.origin(answer.name, ip)})')
            found.append(_finding(
                Outcome.WARNING if named else wrong.outcome, str(ip), f'{text}: {wrong.detail}',
                origin, wrong.remedy, code=wrong.code))
        if not found:
            addresses = ', '.join(map(str, answer.addresses))
            found.append(_finding(
                Outcome.OK, INBOUND, f'{answer.name} is {addresses} on {self.intended}', origin))
        yield from found

    def own_names(self, answers: Sequence[Answer]) -> Iterator[Finding]:
        """Check the names by which a host without an inbound address is reached (A4, A5, A11)."""
        for answer in answers:
            yield from self._own_name(answer)
        places = {answer.name: places for answer in answers
                  if (places := self._places(answer.addresses))}
        if len(places) == 2 and not set.intersection(*map(set, places.values())):
            one, other = (
                f'{name} is {", ".join(map(str, self.answers[name].addresses))} '
                f'on {", ".join(where)}' for name, where in places.items())
            yield _finding(
                Outcome.WARNING, 'host names',
                "Nova's name and libvirt's name of this host are on different interfaces: "
                f'{one} but {other}',
                '[DEFAULT] host', f'set [libvirt] {INBOUND}, so that one address is used for both',
                code='address-names-apart')

    def _own_name(self, answer: Answer) -> Iterator[Finding]:
        origin = 'host name' if answer.name != self.settings.host else '[DEFAULT] host'
        remedy = f'set [libvirt] {INBOUND} on this host, or correct the name'
        if not answer.addresses:
            outcome = Outcome.UNKNOWN if answer.timed_out else Outcome.WARNING
            yield _finding(
                outcome, answer.name,
                f'{answer.name} does not resolve on this host: {answer.error}', origin, remedy,
                code='address-unresolved')
            return
        found = list(self._ambiguous(answer, origin))
        for ip in answer.addresses:
            wrong = self._wrong(ip)
            if wrong is None or (found and ip.is_loopback):
                continue
            if self.intended.stated or not self.network.holding(ip):
                found.append(_finding(
                    Outcome.WARNING, answer.name,
                    f'{answer.name} resolves to {ip} ({self.hosts.origin(answer.name, ip)}): '
                    f'{wrong.detail}; other hosts may resolve it in the same way', origin,
                    remedy, code=wrong.code))
        addresses = ', '.join(map(str, answer.addresses))
        yield from found or [
            _finding(Outcome.OK, answer.name, f'{answer.name} is {addresses}', origin)]

    def shared_subnets(self) -> Iterator[Finding]:
        """Check that no other interface answers for the migration address (A8).

        Only IPv4: neighbour discovery answers on the interface that holds the address.
        """
        ours = {link.index for link in self.intended.interfaces}
        addresses = [address for address in self.network.candidates()
                     if address.ip.version == 4 and not address.host_prefix]
        seen: set[frozenset[int]] = set()
        for a in addresses:
            if a.ip not in self.intended.addresses or a.interface not in ours:
                continue
            for b in addresses:
                pair = frozenset((a.interface, b.interface))
                if len(pair) == 2 and a.network == b.network and pair not in seen:
                    seen.add(pair)
                    yield from self._shared(a, b)

    def cold(self, answer: Answer) -> Iterator[Finding]:
        """Check migration_inbound_addr, which only cold migrations and resizes use."""
        origin = self.settings.origin('libvirt', COLD)
        if answer.timed_out:
            yield _finding(
                Outcome.UNKNOWN, COLD, f'{COLD} {answer.name} cannot be resolved: {answer.error}',
                origin, 'check the resolver of this host', code='address-cold')
            return
        name = f'{COLD} {answer.name}'
        problems = [f'{name} does not resolve: {answer.error}'] if answer.error else []
        for ip in answer.addresses:
            if ip.is_loopback:
                problems.append(f'{name} is {ip}, a loopback address')
            elif not self._here(ip):
                problems.append(f'{name} is {ip}, which is on no interface of this host')
        for problem in problems:
            yield _finding(
                Outcome.WARNING, COLD, f'{problem}: cold migrations to this host will fail',
                origin, f'correct [libvirt] {COLD}', code='address-cold')

    def fact(self, libvirt_host: str, inbound: str) -> HostMigration:
        """Return what other hosts need for the ``transport`` check and to compare two hosts."""
        intended, limit = self.intended, MAX_ADDRESSES
        ours = {link.index for link in intended.interfaces}
        held = [address for address in self.network.addresses
                if not (address.ip.is_loopback or address.ip.is_link_local)]
        # A temporary or deprecated address on an intended interface can be used as well.
        also = (address.ip for address in held if address.interface in ours
                and not address.candidate and intended.covers(address.ip))
        addresses = tuple(dict.fromkeys((*intended.addresses, *also)))
        others = {address.ip: address.interface for address in held if address.ip not in addresses}
        mtus = {link.mtu for link in intended.interfaces}
        return HostMigration(
            host=self.settings.host, libvirt_host=libvirt_host, inbound=inbound,
            addresses=addresses[:limit],
            others={ip: self.network.name(index) for ip, index in list(others.items())[:limit]},
            complete=len(addresses) <= limit and len(others) <= limit,
            interface=intended.interfaces[0].name if len(intended.interfaces) == 1 else '',
            networks=intended.networks[:limit], intended_by=intended.rule,
            mtu=mtus.pop() if len(mtus) == 1 else 0, option_networks=intended.listed[:limit])

    def _wrong(self, ip: IPAddress) -> Optional[_Wrong]:
        """Return what is wrong with an address that other hosts are to use."""
        if ip.is_loopback:
            return _Wrong(Outcome.FAILURE, 'address-loopback', f'{ip} is a loopback address: '
                          'another host would contact itself', 'use an address of this host')
        if ip.is_link_local:
            return _Wrong(Outcome.FAILURE, 'address-link-local', f'{ip} is a link-local address, '
                          'which is meaningless on another host', 'use a routable address')
        if not self._here(ip):
            return _Wrong(Outcome.FAILURE, 'address-not-here',
                          f'{ip} is on no interface of this host',
                          f'set [libvirt] {INBOUND} to an address of this host')
        intended, held = self.intended, self.network.holding(ip)
        if any(address.duplicate for address in held):
            return _Wrong(Outcome.FAILURE, 'address-duplicate', f'{ip} is in use on another host '
                          '(duplicate address detection failed)', 'give one of them another')
        use = (f'use an address of {intended.names}: '
               f'{", ".join(map(str, intended.addresses[:4]))}')
        if not intended.covers(ip) or self._elsewhere(held):
            where = ', '.join(self.network.name(address.interface) for address in held)
            return _Wrong(Outcome.FAILURE, 'address-wrong-interface',
                          f'{ip} is on {where or "no interface, only routed to this host"}, but '
                          f'migrations are intended to go over {intended}', use)
        if held and all(address.temporary for address in held):
            return _Wrong(Outcome.WARNING, 'address-temporary',
                          f'{ip} is a temporary address (RFC 8981) and will go away', use)
        return None

    def _elsewhere(self, held: Sequence[Address]) -> bool:
        """Return whether only other interfaces than the intended ones hold an address.

        An address that is routed to the host (on lo or dummy0) comes in over any interface.
        """
        intended = {link.index for link in self.intended.interfaces}
        if not intended or intended & {address.interface for address in held}:
            return False
        links = [self.network.interface(address.interface) for address in held]
        return not all(link is not None and link.virtual for link in links)

    def _ambiguous(self, answer: Answer, origin: str) -> Iterator[Finding]:
        """Find a name with several addresses, not all of them on the intended interface (A4)."""
        lines = self.hosts.conflict(answer.name, answer.addresses)
        if not lines:
            places = self._places(answer.addresses)
            if self.intended.rule == intent.INBOUND and len(places) > 1:
                yield _finding(
                    Outcome.FAILURE, answer.name,
                    f'{answer.name} resolves to addresses on {wording.both(places)}: '
                    f'{", ".join(map(str, answer.addresses))}', origin,
                    f'set [libvirt] {INBOUND} to one address', code='address-ambiguous')
            return
        texts = ', '.join(f'line {line.number} says {line.address}' for line in lines)
        listed = [line.address for line in lines]
        first = next((ip for ip in answer.addresses if ip in listed), listed[0])
        real = {ip for ip in listed if not ip.is_loopback}
        intended = {link.index for link in self.intended.interfaces}
        right = all(intended & {a.interface for a in self.network.holding(ip)}
                    and self.intended.covers(ip) for ip in real)
        # If the name itself determines the interface, it must determine exactly one.
        right = right and (len(intended) == 1 or self.intended.rule != intent.INBOUND)
        yield _finding(
            Outcome.FAILURE if len(real) > 1 and not right else Outcome.WARNING, answer.name,
            f'{answer.name} has different addresses in {self.hosts.path}: {texts}; {first} is '
            'tried first', f'{self.hosts.path}:{lines[0].number}', 'keep one line for the name',
            code='address-hosts-conflict')

    def _shared(self, a: Address, b: Address) -> Iterator[Finding]:
        one, two = self.network.interface(a.interface), self.network.interface(b.interface)
        if one is None or two is None or one.vrf != two.vrf or two.virtual:
            return
        if not (two.up and two.carrier):
            return
        if one.index in (two.master, two.parent) or two.index in (one.master, one.parent):
            return  # stacked on each other (keepalived's use_vmac): the same wire
        answers = answers_arp_for_others(two.name)
        if answers is False or self._source_routed(a, b):
            return
        yield _finding(
            self.bad if answers else Outcome.UNKNOWN, str(a.network),
            f'{one.name} and {two.name} are both in {a.network} and each answers ARP for the '
            f"other's address: a migration to {a.ip} may arrive on {two.name}",
            f'{one.name} {a.ip}, {two.name} {b.ip}',
            f'put them into different subnets, or set net.ipv4.conf.{two.name}.arp_ignore=1 and '
            'arp_announce=2', code='address-shared-subnet')

    def _source_routed(self, a: Address, b: Address) -> bool:
        """Return whether packets from each address leave by its interface (policy routing)."""
        held = {address.ip for address in self.network.addresses}
        to = next((ip for ip in a.network.hosts() if ip not in held), None)
        if to is None:
            return False
        routes = [(self.kernel.route(to, source=address.ip), address) for address in (a, b)]
        return all(route is not None and route.interface == address.interface
                   for route, address in routes)

    def _here(self, ip: IPAddress) -> bool:
        if self.network.holding(ip):
            return True
        # `ip route add local …` assigns a whole prefix to this host.
        route = self.kernel.route(ip)
        return route is not None and route.kind == 'local'

    def _places(self, addresses: Sequence[IPAddress]) -> list[str]:
        """Return the interfaces that hold any of these addresses, except for loopback ones."""
        return list(dict.fromkeys(
            self.network.name(address.interface) for ip in addresses if not ip.is_loopback
            for address in self.network.holding(ip)))


def _finding(outcome: Outcome, subject: str, detail: str, origin: str, remedy: str = '',
             code: str = '') -> Finding:
    return Finding(CHECK, outcome, subject, detail, origin, remedy, code=code)
