# SPDX-License-Identifier: Apache-2.0
"""Every answer of this host's resolver for a name, under a deadline that ``getaddrinfo`` itself does not have."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
import time
from typing import Iterable, Optional

from nova_migcheck.deadline import Call
from nova_migcheck.network.interfaces import IPAddress

# What libvirt (virNetSocketNewConnectTCP) and QEMU (inet_parse_connect_saddr) ask for: no IPv6 answers on a host that has
# no IPv6 address.
_FLAGS = socket.AI_ADDRCONFIG | socket.AI_V4MAPPED


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the resolver said of a name: addresses in its order, or why there are none.

    :param literal: the name is an address itself, nobody was asked
    :param timed_out: it had not answered when the time was up
    """

    name: str
    addresses: tuple[IPAddress, ...] = ()
    error: str = ''
    literal: bool = False
    timed_out: bool = False


def literal(name: str) -> Optional[IPAddress]:
    """The address that ``name`` is, with or without the brackets of a URI; None when it is a name."""
    try:
        return ipaddress.ip_address(name.strip('[]'))
    except ValueError:
        return None


def resolve(names: Iterable[str], timeout: float) -> dict[str, Answer]:
    """Ask for all names at once.

    :param timeout: seconds after which what has not answered counts as timed out
    """
    wanted = list(dict.fromkeys(names))
    answers = {name: Answer(name, (address,), literal=True) for name, address in
               ((name, literal(name)) for name in wanted) if address is not None}
    asked = {name: Call(_ask, name) for name in wanted if name not in answers}
    deadline = time.monotonic() + timeout
    for name, waiting in asked.items():
        try:
            answers[name] = waiting.wait(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            answers[name] = Answer(name, error=f'the resolver gave no answer within {timeout:g} s', timed_out=True)
    return answers


def _ask(name: str) -> Answer:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=_FLAGS)
    except (OSError, UnicodeError) as e:
        return Answer(name, error=getattr(e, 'strerror', None) or str(e))
    return Answer(name, tuple(dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in found)))
