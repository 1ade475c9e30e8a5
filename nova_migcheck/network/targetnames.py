# SPDX-License-Identifier: Apache-2.0
"""Check the names and addresses of a target as the source resolves and routes them."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.network.hostsfile import HostsFile
from nova_migcheck.network.intent import INBOUND, Intent
from nova_migcheck.network.interfaces import HostNetwork, IPAddress, Kernel, Route
from nova_migcheck.network.migration import HostMigration
from nova_migcheck.network.resolver import Answer

CHECK = 'transport'
#: Code -> what it means.
CODES = {
    'transport-hosts-conflict': 'The hosts file has several addresses for a name of the target.',
    'transport-link-down': 'The outgoing interface is down or has no carrier.',
    'transport-loopback': 'A name of the target resolves to a loopback address.',
    'transport-names-apart': "Nova's and libvirt's name of the target lead to two networks.",
    'transport-no-route': 'The source has no route to an address of the target.',
    'transport-own-address': 'A name of the target resolves to an address of the source.',
    'transport-unlisted-network': 'An address of the target is outside of migration_networks.',
    'transport-unresolved': 'A name of the target does not resolve on the source.',
    'transport-wrong-address': 'An address of the target is not one that it reports.',
    'transport-wrong-interface': 'The outgoing interface is another than intended.',
}

# Outcome of a look at one address, with the code and the text of its problem.
_Judged = tuple[Outcome, str, str]
_FINE: _Judged = (Outcome.OK, '', '')


class TargetNames:
    """Check the names and addresses of one target.

    :param target: the target's name in Nova
    :param fact: the target's own report of its network
    :param inbound: whether ``live_migration_inbound_addr`` is set on the target
    :param network: this host's network
    :param intended: what is intended for this host's own migrations
    """

    def __init__(self, target: str, fact: HostMigration, inbound: bool, kernel: Kernel,
                 network: HostNetwork, hosts: HostsFile, intended: Intent) -> None:
        self.target, self.fact, self.kernel, self.network = target, fact, kernel, network
        self.hosts, self.intended = hosts, intended
        self.stated = fact.stated or inbound
        self._routes: dict[IPAddress, Optional[Route]] = {}

    def check(self, answer: Answer, origin: str) -> Iterator[Finding]:
        """Check every address of one name (A1, A3, A5, A6, A7)."""
        name = answer.name
        remedy = 'correct the name in the hosts file or in DNS'
        if not answer.addresses:
            outcome = Outcome.UNKNOWN if answer.timed_out else Outcome.FAILURE
            yield Finding(CHECK, outcome, name,
                          f'{name} does not resolve on this host: {answer.error}', origin, remedy,
                          code='transport-unresolved')
            return
        if answer.literal:
            remedy = f'correct [libvirt] {INBOUND} on {self.target}, or the route to it here'
        found = []
        for ip in answer.addresses:
            outcome, code, problem = self._judge(ip, answer.literal)
            if outcome is not Outcome.OK:
                where = origin if answer.literal else self.hosts.origin(name, ip)
                text = problem if answer.literal else f'{name} resolves to {ip}: {problem}'
                found.append(Finding(CHECK, outcome, name, text, where, remedy, code=code))
        yield from self._conflict(answer, found)
        yield from found
        if not found:
            yield Finding(CHECK, Outcome.OK, name, self._route_text(answer), origin)

    def compare(self, connect: Answer, data: Answer) -> Iterator[Finding]:
        """Find Nova's and libvirt's names of the target in different networks (A11)."""
        interfaces = [{self._interface(ip) for ip in answer.addresses if self.is_remote(ip)}
                      for answer in (connect, data)]
        if not all(interfaces) or interfaces[0] & interfaces[1]:
            return
        addresses = (*connect.addresses, *data.addresses)
        if self.intended.listed and all(map(self.intended.covers, addresses)):
            return
        names = f"Nova's name and libvirt's name of {self.target}"
        one, other = (self._route_text(answer, only_remote=True) for answer in (connect, data))
        yield Finding(
            CHECK, Outcome.FAILURE, self.target,
            f'{names} lead to different networks: {one} but {other}; libvirt connects to the first '
            'and QEMU to the second', f'host names of {self.target}',
            f'set [libvirt] {INBOUND} on {self.target}, so that one address is used for both',
            code='transport-names-apart')

    def is_remote(self, ip: IPAddress) -> bool:
        """Return whether an address can be another host's."""
        return not ip.is_loopback and not self.network.holding(ip)

    def _judge(self, ip: IPAddress, literal: bool) -> _Judged:
        """Judge an address of the target. If it has several problems, the worst gives the code."""
        if ip.is_loopback:
            return (Outcome.FAILURE, 'transport-loopback',
                    f'{ip} is a loopback address: this host would contact itself')
        route = self._route(ip)
        if self.network.holding(ip) or (route is not None and route.kind == 'local'):
            return (Outcome.FAILURE, 'transport-own-address',
                    f'{ip} is an address of this host itself')
        if route is None:
            return Outcome.FAILURE, 'transport-no-route', f'{ip} has no route from this host'
        judged = [self._at_target(ip, literal), self._way_out(ip, route)]
        if not self.intended.covers(ip):
            listed = ', '.join(map(str, self.intended.listed))
            judged.append((Outcome.FAILURE, 'transport-unlisted-network',
                           f'{ip} is outside of {listed} ({self.intended.origin})'))
        wrong = [one for one in judged if one is not _FINE]
        if not wrong:
            return _FINE
        first = next((one for one in wrong if one[0] is Outcome.FAILURE), wrong[0])
        return first[0], first[1], '; '.join(text for _outcome, _code, text in wrong)

    def _at_target(self, ip: IPAddress, literal: bool) -> _Judged:
        """Compare an address with the target's own report.

        The target itself has checked an address that it was configured with.
        """
        fact = self.fact
        if literal or ip in fact.addresses or not fact.complete:
            return _FINE
        if ip not in fact.others:
            return (Outcome.FAILURE, 'transport-wrong-address',
                    f'{ip} is no address of {self.target}')
        # A target that resolves its own inbound address to none of its own (Debian's 127.0.1.1) has
        # no intended address. The resolver of this host decides, and this one is the target's.
        if fact.others[ip] == fact.interface or not fact.addresses:
            return _FINE
        intended = (f'{fact.interface or "its migration networks"} '
                    f'({", ".join(map(str, fact.addresses[:4]))})')
        return (Outcome.FAILURE if fact.stated else Outcome.WARNING, 'transport-wrong-address',
                f'{ip} is on {fact.others[ip]} of {self.target}, but migrations to it are '
                f'intended to go to {intended}')

    def _way_out(self, ip: IPAddress, route: Route) -> _Judged:
        """Compare the outgoing interface with the intended one, and check its link (A7, A9)."""
        out = self.network.interface(route.interface)
        if out is None:
            return _FINE
        if not (out.up and out.carrier):
            return (Outcome.FAILURE, 'transport-link-down',
                    f'{ip} is reached over {out.name}, which has no carrier' if out.up else
                    f'{ip} is reached over {out.name}, which is down')
        if not self.intended.interfaces or out.index in self._intended_indexes():
            return _FINE
        # my_ip is only a guess, but the target's inbound address is not.
        if self.stated and not self.intended.stated:
            return _FINE
        return (Outcome.FAILURE if self.intended.stated else Outcome.WARNING,
                'transport-wrong-interface',
                f'{ip} is reached over {out.name} from this host, but migrations are intended to '
                f'go over {self.intended}')

    def _conflict(self, answer: Answer, found: Sequence[Finding]) -> Iterator[Finding]:
        """Find lines of the hosts file with different addresses for the name (A3).

        If the target has all of these addresses, that is only a warning.
        """
        lines = self.hosts.conflict(answer.name, answer.addresses)
        if not lines:
            return
        addresses = [line.address for line in lines]
        first = next((ip for ip in answer.addresses if ip in addresses), addresses[0])
        harmless = not found and all(ip in self.fact.addresses for ip in addresses)
        texts = ', '.join(f'line {line.number} says {line.address}' for line in lines)
        yield Finding(
            CHECK, Outcome.WARNING if harmless else Outcome.FAILURE, answer.name,
            f'{answer.name} has different addresses in {self.hosts.path}: {texts}; {first} is '
            'tried first', f'{self.hosts.path}:{lines[0].number}', 'keep one line for the name',
            code='transport-hosts-conflict')

    def _route(self, ip: IPAddress) -> Optional[Route]:
        if ip not in self._routes:
            self._routes[ip] = self._ask_route(ip)
        return self._routes[ip]

    def _ask_route(self, ip: IPAddress) -> Optional[Route]:
        """Return the route to an address, also in the VRF of an intended interface."""
        route = self.kernel.route(ip)
        intended = self._intended_indexes()
        if route is not None and route.interface in intended:
            return route
        for vrf in {link.vrf for link in self.intended.interfaces if link.vrf}:
            inside = self.kernel.route(ip, vrf=vrf)
            if inside is not None and inside.interface in intended:
                return inside
        return route

    def _intended_indexes(self) -> set[int]:
        return {link.index for link in self.intended.interfaces}

    def _interface(self, ip: IPAddress) -> str:
        route = self._route(ip)
        return self.network.name(route.interface) if route else 'no route'

    def _route_text(self, answer: Answer, only_remote: bool = False) -> str:
        addresses = ', '.join(map(str, answer.addresses))
        interfaces = {self._interface(ip) for ip in answer.addresses
                      if self.is_remote(ip) or not only_remote}
        return f'{answer.name} is {addresses} over {", ".join(sorted(interfaces))}'
