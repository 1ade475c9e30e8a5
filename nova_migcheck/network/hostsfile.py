# SPDX-License-Identifier: Apache-2.0
"""``/etc/hosts`` with its line numbers, so that a finding can say which line is wrong."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Iterable, Optional, Sequence

from nova_migcheck.network.interfaces import IPAddress

PATH = '/etc/hosts'

# Bytes that are looked at: more is a list of blocked advertisers, and ours would be at its top.
_MAX_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class HostsLine:
    """One address on one line (counted from 1) and the names that it is given."""

    number: int
    address: IPAddress
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HostsFile:
    """The lines of a hosts file that give an address. A missing file is an empty one, as it is for the resolver."""

    lines: tuple[HostsLine, ...] = ()
    path: str = PATH

    @classmethod
    def read(cls, path: str = PATH) -> HostsFile:
        """Read a hosts file.

        :raises OSError: when it is there and cannot be read
        """
        try:
            with open(path, 'rb') as file:
                text = file.read(_MAX_BYTES).decode('utf-8', 'surrogateescape')
        except FileNotFoundError:
            return cls(path=path)
        return cls(tuple(_parse(text.split('\n'))), path)

    def of(self, name: str) -> list[HostsLine]:
        """The lines that name ``name``, in their order."""
        wanted = name.lower()
        return [line for line in self.lines if wanted in line.names]

    def origin(self, name: str, address: Optional[IPAddress] = None) -> str:
        """``/etc/hosts:12`` for a name (and its address), or ``resolver`` when no line says so."""
        for line in self.of(name):
            if address is None or line.address == address:
                return f'{self.path}:{line.number}'
        return 'resolver'

    def conflict(self, name: str, answers: Sequence[IPAddress]) -> list[HostsLine]:
        """The lines that give ``name`` different addresses of one family; empty when there is no such conflict.

        :param answers: of the resolver, which may ask elsewhere first, or take the first line only (``multi off``)

        The same address on two lines is none, nor is one IPv4 and one IPv6 address. A loopback address beside a real one
        is: on this host both are answers.
        """
        for version in (4, 6):
            lines = [line for line in self.of(name) if line.address.version == version and line.address in answers]
            if len({line.address for line in lines}) > 1:
                return lines
        return []


def _parse(lines: Iterable[str]) -> Iterable[HostsLine]:
    for number, line in enumerate(lines, 1):
        address, *names = line.partition('#')[0].split() or ['']
        if not names:
            continue
        try:
            yield HostsLine(number, ipaddress.ip_address(address), tuple(name.lower() for name in names))
        except ValueError:
            continue  # the resolver passes over such a line too
