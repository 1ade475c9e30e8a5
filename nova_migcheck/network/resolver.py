# SPDX-License-Identifier: Apache-2.0
"""Resolve names on this host under a deadline, which ``getaddrinfo`` itself does not have."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
import time
from typing import Iterable, Optional

from nova_migcheck.deadline import Call
from nova_migcheck.network.interfaces import IPAddress

# The flags of libvirt (virNetSocketNewConnectTCP) and QEMU (inet_parse_connect_saddr). With them,
# a host without an IPv6 address gets no IPv6 answers.
_FLAGS = socket.AI_ADDRCONFIG | socket.AI_V4MAPPED


@dataclasses.dataclass(frozen=True)
class Answer:
    """Hold the resolver's answer for a name: addresses in its order, or why there are none.

    :param literal: whether the name is itself an address, so that the resolver was not asked
    :param timed_out: whether the resolver had not answered at the deadline
    """

    name: str
    addresses: tuple[IPAddress, ...] = ()
    error: str = ''
    literal: bool = False
    timed_out: bool = False


def literal(name: str) -> Optional[IPAddress]:
    """Return the address that ``name`` is, or None if it is no address.

    The brackets of a URI are allowed.
    """
    try:
        return ipaddress.ip_address(name.strip('[]'))
    except ValueError:
        return None


def resolve(names: Iterable[str], timeout: float) -> dict[str, Answer]:
    """Resolve all names at the same time.

    :param timeout: seconds after which a name counts as timed out
    """
    answers: dict[str, Answer] = {}
    calls: dict[str, Call[Answer]] = {}
    for name in dict.fromkeys(names):
        address = literal(name)
        if address is None:
            calls[name] = Call(_ask, name)
        else:
            answers[name] = Answer(name, (address,), literal=True)
    deadline = time.monotonic() + timeout
    for name, call in calls.items():
        try:
            answers[name] = call.wait(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            error = f'the resolver gave no answer within {timeout:g} s'
            answers[name] = Answer(name, error=error, timed_out=True)
    return answers


def _ask(name: str) -> Answer:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=_FLAGS)
    except (OSError, UnicodeError) as e:
        return Answer(name, error=getattr(e, 'strerror', None) or str(e))
    addresses = dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in found)
    return Answer(name, tuple(addresses))
