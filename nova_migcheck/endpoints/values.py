# SPDX-License-Identifier: Apache-2.0
"""Define the values of this package: an endpoint, the target of a probe, and its answer."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import urllib.parse
from typing import Any, NamedTuple, Optional, Sequence

from nova_migcheck.endpoints.losses import Losses
from nova_migcheck.finding import without_credentials

IDENTITY = 'identity'
MESSAGING = 'message-queue'

DEFAULT_PORTS = {'http': 80, 'https': 443, 'amqp': 5672, 'amqps': 5672, 'memcached': 11211,
                 'ntp': 123}


class Tls(NamedTuple):
    """Hold the settings with which Nova's own client verifies the server.

    An empty ``cafile`` is the client's default.
    """

    cafile: str = ''
    insecure: bool = False
    certfile: str = ''
    keyfile: str = ''
    check_name: bool = True


class Target(NamedTuple):
    """Identify one thing to probe. Endpoints with an equal target are probed once.

    :param url: without credentials; the scheme ``amqps`` is the message queue over TLS
    """

    url: str
    tls: Tls = Tls()

    @property
    def scheme(self) -> str:
        """Return the URL's scheme."""
        return self.url.partition('://')[0]

    @property
    def host(self) -> str:
        """Return the name or address, without the brackets of an IPv6 address, or ''."""
        try:
            return urllib.parse.urlsplit(self.url).hostname or ''
        except ValueError:
            return ''

    @property
    def port(self) -> int:
        """Return the TCP port (UDP for ntp).

        :raises ValueError: if the URL has none and its scheme has no default
        """
        port = urllib.parse.urlsplit(self.url).port
        if port is None:
            port = DEFAULT_PORTS.get(self.scheme)
        if not port:
            raise ValueError(f'no port in {self.url}')
        return port


class Endpoint(NamedTuple):
    """Hold something that this host must reach, and why.

    :param service: the service type: ``placement``, ``identity``, ``message-queue``…
    :param origin: where the URL comes from: ``/etc/nova/nova.conf [placement] auth_url``,
        ``keystone catalog: placement, internal, RegionOne``
    :param needed_for: the service type that decides how severe a fault is; for an identity URL,
        the service for which one logs in there
    :param group: of the endpoints with the same non-empty group, one that answers is enough
    :param from_catalog: whether the URL comes from keystone's catalog
    """

    target: Target
    service: str
    origin: str
    needed_for: str
    group: str = ''
    from_catalog: bool = False


class Fault(enum.Enum):
    """Classify what is wrong. The value is the predicate of a finding about a URL."""

    NAME = 'does not resolve'
    RESOLVER = 'no answer from the resolver'
    REFUSED = 'refuses connections'
    UNREACHABLE = 'is unreachable'
    SILENT = 'drops packets'
    TLS = 'TLS failed'
    NO_ANSWER = 'accepts connections and never answers'
    CLOSED = 'closes connections without an answer'
    STATUS = 'answers with an error'
    PROTOCOL = 'answers with another protocol'
    INVALID = 'cannot be checked'

    @property
    def of_address(self) -> bool:
        """Return whether the address is not reached, whatever the service."""
        return self in (Fault.REFUSED, Fault.UNREACHABLE, Fault.SILENT)

    @property
    def code(self) -> str:
        """Return the code of a finding about it."""
        return f'endpoint-{self.name.lower().replace("_", "-")}'


@dataclasses.dataclass(frozen=True)
class Answer:
    """Hold the result of probing one target at one address.

    :param address: the IP address; the host's name if that did not resolve
    :param fault: None if it answered without fault
    :param detail: the HTTP status, the certificate's dates, the deadline, and the like
    :param status: the HTTP status, otherwise 0
    :param skew: seconds by which the server's clock is ahead of this host's, if it sent a time
    :param proxy: URL of the environment's proxy, if it was used, without credentials
    :param losses: what the connection had to send again
    """

    address: str
    fault: Optional[Fault] = None
    detail: str = ''
    status: int = 0
    skew: Optional[float] = None
    proxy: str = ''
    losses: Losses = dataclasses.field(default=Losses(), compare=False)

    def well_to_json(self) -> list[Any]:
        """Return an answer without fault, for a later round."""
        return [self.address, self.detail, self.status, self.skew, self.proxy]

    @classmethod
    def well_from_json(cls, value: Sequence[Any]) -> Answer:
        """Read what :meth:`well_to_json` returned."""
        address, detail, status, skew, proxy = value
        return cls(address, None, detail, status, skew, proxy)


def is_address(host: str) -> bool:
    """Return whether ``host`` is an IPv4 or IPv6 address, with or without a zone index."""
    try:
        ipaddress.ip_address(host.partition('%')[0])
    except ValueError:
        return False
    return True


def in_url(host: str) -> str:
    """Return the host as a URL contains it: an IPv6 address in brackets."""
    return f'[{host}]' if ':' in host else host


def clean_url(url: str) -> str:
    """Return ``url`` without credentials, query and fragment, and its scheme in lower case."""
    scheme, sep, rest = without_credentials(url.strip()).partition('://')
    return scheme.lower() + sep + rest.partition('?')[0].partition('#')[0]
