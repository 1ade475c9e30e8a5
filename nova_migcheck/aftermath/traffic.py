# SPDX-License-Identifier: Apache-2.0
"""Estimate from the kernel's counters which interface received a migration.

A counter includes all traffic of its interface, not only the migration. So this computes bounds:
all that arrived according to libvirt came through some interface, and what exceeds the counter of
one interface came through another.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import pathlib
import socket
from typing import Any, Iterable, Mapping, Optional

import psutil

from nova_migcheck import wording

_SYS = '/sys/class/net'

# A large part is more than this share of the bytes, and more than the other traffic of libvirtd.
SHARE, OTHER = 0.1, 128 * 1024


def received() -> dict[str, int]:
    """Return the bytes that each interface has received since it was created.

    This reads ``/proc/net/dev`` once, which takes 0.2 ms.

    :raises OSError: if there is no such file
    """
    return {name: counter.bytes_recv for name, counter in _counters().items()}


def sent() -> dict[str, int]:
    """Return the bytes that each interface has sent; as :func:`received`."""
    return {name: counter.bytes_sent for name, counter in _counters().items()}


def _counters() -> Mapping[str, Any]:
    counters: Mapping[str, Any] = psutil.net_io_counters(pernic=True, nowrap=False)
    return counters


@dataclasses.dataclass(frozen=True)
class Interfaces:
    """Hold the interfaces of a host that have an address: a connection can only end there.

    :param addresses: interface -> its addresses, without loopback and link-local ones
    :param below: interface -> the other interfaces that also count what it receives, such as the
        bond below a VLAN
    """

    addresses: Mapping[str, frozenset[str]]
    below: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls) -> Interfaces:
        """Read the current interfaces.

        :raises OSError: if the kernel does not report them
        """
        held = {}
        for name, addresses in psutil.net_if_addrs().items():
            ips = {address.address.partition('%')[0] for address in addresses
                   if address.family in (socket.AF_INET, socket.AF_INET6)}
            routable = frozenset(ip for ip in ips if not _local(ip))
            if routable:
                held[name] = routable
        return cls(held, {name: frozenset(_below(name, held)) for name in held})

    def holding(self, addresses: Iterable[str]) -> frozenset[str]:
        """Return the interfaces that have any of these addresses."""
        wanted = set(addresses)
        return frozenset(name for name, held in self.addresses.items() if held & wanted)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Hold how much each interface received during a migration.

    :param rises: interface -> bytes, without those for an interface above it
    :param lost: interfaces without a usable counter: they disappeared or appeared meanwhile, or
        their counter was reset
    """

    rises: Mapping[str, int]
    lost: tuple[str, ...] = ()


def between(before: Mapping[str, int], after: Mapping[str, int], interfaces: Interfaces,
            also: Iterable[str] = ()) -> Traffic:
    """Return the traffic between two readings of the counters.

    :param also: intended interfaces, which are lost if they no longer exist
    """
    rises, lost = {}, set()
    for name in {*interfaces.addresses, *also}:
        rise = after.get(name, -1) - before.get(name, 1 << 70)
        if rise < 0:
            # A 32-bit counter wrapped, or the interface was created again: the amount is unknown.
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
    return Traffic({name: rise for name, rise in own.items() if name not in lost},
                   tuple(sorted(lost)))


@dataclasses.dataclass(frozen=True)
class Carried:
    """Hold which interfaces received how much of a migration, in bytes.

    :param total: all of it, according to libvirt
    :param intended: the intended interfaces; empty if none are configured
    :param by_intended: the maximum that these can have received
    :param strayed: the minimum that others received
    :param other: of these others, the interface that received the most traffic; '' for none
    :param by_other: all its traffic, of this migration or anything else
    :param unknown: why the receiving interface is unknown, otherwise ''
    """

    total: int
    intended: tuple[str, ...] = ()
    by_intended: int = 0
    strayed: int = 0
    other: str = ''
    by_other: int = 0
    unknown: str = ''

    @property
    def astray(self) -> bool:
        """Return whether a large part of it used an interface that was not intended."""
        return self.strayed > max(OTHER, self.total * SHARE)


def carried(total: int, traffic: Traffic, intended: Iterable[str]) -> Carried:
    """Return bounds on which interfaces received ``total`` bytes.

    Bytes count as strayed only if another interface's counter accounts for most of them. RDMA, for
    example, is in no counter.
    """
    expected = tuple(sorted(intended))
    others = {name: rise for name, rise in traffic.rises.items() if name not in expected}
    other = max(others, key=lambda name: (others[name], name), default='')
    by_other = others.get(other, 0)
    if not total:
        return Carried(0, expected, other=other, by_other=by_other,
                       unknown='libvirt does not report the amount of data')
    if not expected:
        return Carried(total, other=other, by_other=by_other)
    lost = sorted(set(expected) & set(traffic.lost))
    if lost:
        reason = f'{wording.both(lost)} disappeared, or its counter was reset meanwhile'
        return Carried(total, expected, other=other, by_other=by_other, unknown=reason)
    by_intended = min(total, sum(traffic.rises.get(name, 0) for name in expected))
    strayed = total - by_intended
    unknown = ''
    if strayed and by_other * 2 < strayed:
        strayed, unknown = 0, 'no interface received as much'
    return Carried(total, expected, by_intended, strayed, other, by_other, unknown)


def speed(interface: str) -> Optional[int]:
    """Return the speed of its link in bytes per second, None if the driver does not report it."""
    try:
        megabits = int(pathlib.Path(f'{_SYS}/{interface}/speed').read_text())
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
    """Yield the nearest interfaces below that have an address themselves."""
    todo, seen = [name], {name}
    while todo:
        try:
            entries = os.listdir(f'{_SYS}/{todo.pop()}')
        except OSError:
            continue
        lowers = {entry[len('lower_'):] for entry in entries if entry.startswith('lower_')}
        for lower in sorted(lowers - seen):
            seen.add(lower)
            if lower in held:
                yield lower
            else:
                todo.append(lower)


def mebibytes(rate: Optional[float]) -> Optional[float]:
    """Return bytes per second as MiB per second, None if they are unknown."""
    return round(rate / (1 << 20), 1) if rate else None
