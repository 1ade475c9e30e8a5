# SPDX-License-Identifier: Apache-2.0
"""Which interface a migration came in by, as far as the kernel's counters can tell.

A counter counts everything that comes in by its interface, not only the migration. So nothing is measured here but bounds: what libvirt
says has arrived must have come by some interface, and what did not even fit into what one of them took in came by another.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
from typing import Iterable, Mapping, Optional

import psutil

_SYS = '/sys/class/net'


def received() -> dict[str, int]:
    """Bytes that each interface has taken in since it is there. One read of ``/proc/net/dev``, 0.2 ms.

    :raises OSError: when there is no such file
    """
    return {name: counters.bytes_recv for name, counters in psutil.net_io_counters(pernic=True, nowrap=False).items()}


@dataclasses.dataclass(frozen=True)
class Interfaces:
    """Those interfaces of a host that hold an address: only there can a connection end.

    :param addresses: interface -> its addresses, loopback and link-local ones aside
    :param below: interface -> those of the others over which all that it takes in comes too (the bond below a VLAN)
    """

    addresses: Mapping[str, frozenset[str]]
    below: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls) -> Interfaces:
        """As they are now.

        :raises OSError: when the kernel does not say
        """
        held = {}
        for name, found in psutil.net_if_addrs().items():
            ips = {a.address.partition('%')[0] for a in found if a.family in (socket.AF_INET, socket.AF_INET6)}
            real = frozenset(ip for ip in ips if not _local(ip))
            if real:
                held[name] = real
        return cls(held, {name: frozenset(_below(name, held)) for name in held})

    def holding(self, addresses: Iterable[str]) -> frozenset[str]:
        """The interfaces that hold any of these addresses."""
        wanted = set(addresses)
        return frozenset(name for name, held in self.addresses.items() if held & wanted)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """By how much the counters rose during a migration.

    :param rises: interface -> bytes, without what it took in for an interface above it
    :param lost: interfaces of which that is not known: they vanished, came meanwhile, or their counter went back
    """

    rises: Mapping[str, int]
    lost: tuple[str, ...] = ()


def between(before: Mapping[str, int], after: Mapping[str, int], interfaces: Interfaces, also: Iterable[str] = ()) -> Traffic:
    """What came in between two readings.

    :param also: interfaces that were meant to carry it; lost when they are no longer there
    """
    rises, lost = {}, set()
    for name in {*interfaces.addresses, *also}:
        rise = after.get(name, -1) - before.get(name, 1 << 70)
        if rise < 0:
            # A counter of 32 bits that wrapped, or an interface that was made anew: nobody can tell how much it was.
            lost.add(name)
        else:
            rises[name] = rise
    own = dict(rises)
    for name, below in interfaces.below.items():
        for lower in below:
            if lower in own:
                if name in lost:
                    lost.add(lower)
                own[lower] = max(0, own[lower] - rises.get(name, 0))
    return Traffic({name: rise for name, rise in own.items() if name not in lost}, tuple(sorted(lost)))


@dataclasses.dataclass(frozen=True)
class Carried:
    """How the bytes of a migration spread over the interfaces.

    :param total: bytes, by libvirt
    :param intended: interfaces over which it was meant to come; empty when nobody has said
    :param by_intended: the most of it that can have come by them
    :param strayed: the least of it that came elsewhere
    :param other: the interface that took in most besides, '' for none
    :param by_other: what that one took in: this migration, or anything else
    :param unknown: why it cannot be told, '' when it can
    """

    total: int
    intended: tuple[str, ...] = ()
    by_intended: int = 0
    strayed: int = 0
    other: str = ''
    by_other: int = 0
    unknown: str = ''


def carried(total: int, traffic: Traffic, intended: Iterable[str]) -> Carried:
    """Bounds on how ``total`` bytes came in.

    What came elsewhere is believed only where another interface's counter accounts for most of it: RDMA, for one, passes them all by.
    """
    meant = tuple(sorted(intended))
    others = {name: rise for name, rise in traffic.rises.items() if name not in meant}
    other = max(others, key=lambda name: (others[name], name), default='')
    by_other = others.get(other, 0)
    if not total:
        return Carried(0, meant, other=other, by_other=by_other, unknown='libvirt does not say how much it was')
    if not meant:
        return Carried(total, other=other, by_other=by_other)
    lost = sorted(set(meant) & set(traffic.lost))
    if lost:
        return Carried(total, meant, other=other, by_other=by_other,
                       unknown=f'{" and ".join(lost)} vanished or had its counter set back meanwhile')
    by_intended = min(total, sum(traffic.rises.get(name, 0) for name in meant))
    strayed = total - by_intended
    unknown = ''
    if strayed and by_other * 2 < strayed:
        strayed, unknown = 0, 'no interface took in as much'
    return Carried(total, meant, by_intended, strayed, other, by_other, unknown)


def speed(interface: str) -> Optional[int]:
    """Bytes a second that its link can carry, None when the driver does not say."""
    try:
        with open(f'{_SYS}/{interface}/speed') as file:
            megabits = int(file.read())
    except (OSError, ValueError):
        return None
    return megabits * 125_000 if megabits > 0 else None


def _local(text: str) -> bool:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return True
    return ip.is_loopback or ip.is_link_local


def _below(name: str, held: Mapping[str, object]) -> Iterable[str]:
    """The nearest interfaces below that hold an address themselves."""
    todo, seen = [name], {name}
    while todo:
        try:
            entries = os.listdir(f'{_SYS}/{todo.pop()}')
        except OSError:
            continue
        for lower in (entry[len('lower_'):] for entry in entries if entry.startswith('lower_')):
            if lower in seen:
                continue
            seen.add(lower)
            if lower in held:
                yield lower
            else:
                todo.append(lower)
