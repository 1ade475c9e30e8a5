# SPDX-License-Identifier: Apache-2.0
"""Read ``/etc/hosts`` with its line numbers, so that a finding can name the wrong line."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Generator, Iterable, Optional, Sequence

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.network.interfaces import IPAddress

PATH = '/etc/hosts'

# Number of bytes to read. A longer file is a list of blocked sites, which follows the host's own
# lines.
_MAX_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class HostsLine:
    """Hold one line: its number, counted from 1, its address, and the names of that address."""

    number: int
    address: IPAddress
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HostsFile:
    """Hold the lines of a hosts file that name an address.

    A missing file counts as an empty one, as it does for the resolver.
    """

    lines: tuple[HostsLine, ...] = ()
    path: str = PATH

    @classmethod
    def read(cls, path: str = PATH) -> HostsFile:
        """Read a hosts file.

        :raises OSError: if it exists and cannot be read
        """
        try:
            with open(path, 'rb') as file:
                text = file.read(_MAX_BYTES).decode('utf-8', 'surrogateescape')
        except FileNotFoundError:
            return cls(path=path)
        return cls(tuple(_parse(text.split('\n'))), path)

    def of(self, name: str) -> list[HostsLine]:
        """Return the lines for a name, in their order."""
        lower = name.lower()
        return [line for line in self.lines if lower in line.names]

    def origin(self, name: str, address: Optional[IPAddress] = None) -> str:
        """Return ``/etc/hosts:12`` for a name and its address, or ``resolver`` if not found."""
        for line in self.of(name):
            if address is None or line.address == address:
                return f'{self.path}:{line.number}'
        return 'resolver'

    def conflict(self, name: str, answers: Sequence[IPAddress]) -> list[HostsLine]:
        """Return the lines that give ``name`` different addresses of one family.

        The same address on two lines is no conflict, nor is one IPv4 and one IPv6 address. A
        loopback address and a real one are a conflict: the resolver of this host returns both.

        :param answers: the resolver's addresses. It may ask another source first, or take the
            first line only (``multi off``).
        """
        for version in (4, 6):
            lines = [line for line in self.of(name)
                     if line.address.version == version and line.address in answers]
            if len({line.address for line in lines}) > 1:
                return lines
        return []


def read_for(check: str) -> Generator[Finding, None, HostsFile]:
    """Read the hosts file; where it cannot be read, return an empty one, and report that.

    :param check: which has the finding
    """
    try:
        return HostsFile.read()
    except OSError as e:
        yield Finding(check, Outcome.UNKNOWN, PATH, f'the hosts file cannot be read: {e.strerror}',
                      remedy='make it readable for the user that nova-compute runs as',
                      code='hosts-file-unreadable')
        return HostsFile()


def _parse(lines: Iterable[str]) -> Iterable[HostsLine]:
    for number, line in enumerate(lines, 1):
        address, *names = line.partition('#')[0].split() or ['']
        if not names:
            continue
        try:
            yield HostsLine(number, ipaddress.ip_address(address),
                            tuple(name.lower() for name in names))
        except ValueError:
            continue  # the resolver skips such a line, too
