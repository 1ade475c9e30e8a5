# SPDX-License-Identifier: Apache-2.0
"""One HTTP request to one address of a name, verified as if the name had been asked."""

from __future__ import annotations

import email.utils
import ssl
import time
import urllib.parse
from typing import Any, NamedTuple, Optional

from nova_migcheck.endpoints import tls as tls_
from nova_migcheck.endpoints.values import Target, in_url


class Reply(NamedTuple):
    """:param skew: seconds that the server's clock is ahead of ours, when it said so"""

    status: int
    seconds: float
    skew: Optional[float]


def proxy_for(url: str) -> str:
    """The proxy of the environment that requests would use for ``url``; empty for none. It may hold credentials."""
    from requests.utils import get_environ_proxies, select_proxy
    return select_proxy(url, get_environ_proxies(url)) or ''


def session(context: Optional[ssl.SSLContext], server_name: str = '') -> Any:
    """A requests.Session whose TLS connections are made with ``context``, as if to ``server_name`` if that is given.

    Without a context it verifies as its caller says. It reads nothing from the environment: no proxy, no netrc.
    """
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter
    # The operator who set insecure knows, and a warning a minute goes to nova-compute's stderr.
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    made = requests.Session()
    made.trust_env = False
    made.headers['User-Agent'] = 'nova-migcheck'
    if context is None:
        return made
    pool: dict[str, Any] = {'ssl_context': context, 'cert_reqs': context.verify_mode}

    class Adapter(HTTPAdapter):
        """requests would load the CAs anew for each connection, and verify the address instead of the name."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            if server_name:
                kwargs['server_hostname'] = server_name
            kwargs.update(pool)
            super().init_poolmanager(*args, **kwargs)

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
            return super().proxy_manager_for(proxy, **{**kwargs, **pool})

        # requests >= 2.32 asks here for what it would add to the pool of the connection ...
        def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
            parts = urllib.parse.urlsplit(request.url)
            return {'scheme': parts.scheme, 'host': parts.hostname, 'port': parts.port}, {}

        # ... and all releases write it to the pool here.
        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            pass

    made.mount('https://', Adapter())
    return made


def get(target: Target, address: str, proxy: str, timeout: float) -> Reply:
    """Ask for the target's URL at ``address`` (through ``proxy``, which then finds the address itself).

    :param timeout: seconds for the connection, and for each part of the answer
    :raises requests.RequestException: when there was no answer
    :raises nova_migcheck.endpoints.tls.UnusableFile: when a file that TLS needs cannot be used
    """
    context = tls_.context(target.tls) if target.scheme == 'https' else None
    parts = urllib.parse.urlsplit(target.url)
    url, headers = target.url, {'Accept': 'application/json', 'Connection': 'close'}
    if not proxy:
        headers['Host'] = parts.netloc
        url = urllib.parse.urlunsplit(parts._replace(netloc=f'{in_url(address)}:{target.port}'))
    with session(context, '' if proxy else tls_.server_name(target.host)) as asking:
        wall, start = time.time(), time.monotonic()
        with asking.get(url, headers=headers, timeout=timeout, stream=True, allow_redirects=False,
                        proxies={parts.scheme: proxy} if proxy else None) as response:
            seconds = time.monotonic() - start
            return Reply(response.status_code, seconds, None if proxy else _skew(response.headers, wall + seconds / 2))


def _skew(headers: Any, here: float) -> Optional[float]:
    """The server's clock less ours, in seconds. A Date holds whole seconds, cut off: half a second is its middle."""
    if 'Age' in headers or 'Date' not in headers:  # a cache's copy keeps the Date of the original
        return None
    try:
        there = email.utils.parsedate_to_datetime(headers['Date']).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return there + 0.5 - here
