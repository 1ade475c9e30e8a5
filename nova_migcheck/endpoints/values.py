# SPDX-License-Identifier: Apache-2.0
"""The values that the parts hand to each other: an endpoint, the target of a probe, and its answer."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import urllib.parse
from typing import NamedTuple, Optional

from nova_migcheck.finding import without_credentials

IDENTITY = 'identity'
MESSAGING = 'message-queue'

DEFAULT_PORTS = {'http': 80, 'https': 443, 'amqp': 5672, 'amqps': 5672, 'memcached': 11211, 'ntp': 123}


class Tls(NamedTuple):
    """How the client that the endpoint is for would verify its server. An empty ``cafile`` is the client's default."""

    cafile: str = ''
    insecure: bool = False
    certfile: str = ''
    keyfile: str = ''
    check_name: bool = True


class Target(NamedTuple):
    """One thing to probe. Two endpoints with an equal target are asked once.

    :param url: without credentials; ``amqps`` is the message queue over TLS
    """

    url: str
    tls: Tls = Tls()

    @property
    def scheme(self) -> str:
        return self.url.partition('://')[0]

    @property
    def host(self) -> str:
        """Name or address, without the brackets of an IPv6 address; empty when the URL has none."""
        try:
            return urllib.parse.urlsplit(self.url).hostname or ''
        except ValueError:
            return ''

    @property
    def port(self) -> int:
        """TCP (UDP for ntp) port.

        :raises ValueError: when the URL gives none and its scheme has none
        """
        port = urllib.parse.urlsplit(self.url).port
        if port is None:
            port = DEFAULT_PORTS.get(self.scheme)
        if not port:
            raise ValueError(f'no port in {self.url}')
        return port


class Endpoint(NamedTuple):
    """Something that this host must reach, and why.

    :param service: the service type: ``placement``, ``identity``, ``message-queue``…
    :param origin: ``/etc/nova/nova.conf [placement] auth_url``, ``keystone catalog: placement, internal, RegionOne``
    :param needed_for: the service type by which it is judged: of an identity URL, what one logs in to by it
    :param group: endpoints with the same non-empty group stand in for each other: one that answers is enough
    :param from_catalog: whether keystone's catalog gave the URL
    """

    target: Target
    service: str
    origin: str
    needed_for: str
    group: str = ''
    from_catalog: bool = False


class Fault(enum.Enum):
    """What kind of wrong it is. The value is how a finding says it of one URL."""

    NAME = 'its name does not resolve'
    RESOLVER = 'no answer from the resolver'
    REFUSED = 'refuses connections'
    UNREACHABLE = 'is unreachable'
    SILENT = 'swallows packets'
    TLS = 'TLS failed'
    NO_ANSWER = 'accepts connections and never answers'
    CLOSED = 'closes connections without an answer'
    STATUS = 'answers with an error'
    PROTOCOL = 'answers, but not as this service does'
    INVALID = 'cannot be asked'

    @property
    def of_address(self) -> bool:
        """Whether it is about reaching the address rather than about what answers there."""
        return self in (Fault.REFUSED, Fault.UNREACHABLE, Fault.SILENT)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of asking one target at one address.

    :param address: the IP address asked; the host's name when that did not resolve
    :param fault: None when it answered well
    :param detail: in a few words: the status, the certificate's dates, the deadline
    :param status: of HTTP
    :param skew: seconds that the server's clock is ahead of ours, when it said so
    :param proxy: URL of the proxy of the environment that was asked instead, without credentials
    """

    address: str
    fault: Optional[Fault] = None
    detail: str = ''
    status: int = 0
    skew: Optional[float] = None
    proxy: str = ''


def is_address(host: str) -> bool:
    """Whether ``host`` is an IPv4 or IPv6 address (a zone index allowed) rather than a name."""
    try:
        ipaddress.ip_address(host.partition('%')[0])
    except ValueError:
        return False
    return True


def in_url(host: str) -> str:
    """A host as it stands in a URL."""
    return f'[{host}]' if ':' in host else host


def clean_url(url: str) -> str:
    """``url`` without credentials, query and fragment, the scheme in lower case."""
    scheme, sep, rest = without_credentials(url.strip()).partition('://')
    return scheme.lower() + sep + rest.partition('?')[0].partition('#')[0]
