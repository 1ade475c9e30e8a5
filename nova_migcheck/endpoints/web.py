# SPDX-License-Identifier: Apache-2.0
"""Send one HTTP request to one address of a name, and verify the server by that name."""

from __future__ import annotations

import email.utils
import ssl
import time
import urllib.parse
from typing import Any, NamedTuple, Optional

from nova_migcheck.endpoints import tls as tls_
from nova_migcheck.endpoints.losses import Watched
from nova_migcheck.endpoints.values import Target, in_url


class Reply(NamedTuple):
    """Hold the status and the timing of an HTTP response.

    :param skew: seconds by which the server's clock is ahead of this host's, if it sent a date
    """

    status: int
    seconds: float
    skew: Optional[float]


def proxy_for(url: str) -> str:
    """Return the proxy from the environment that requests would use, or ''.

    It may hold credentials.
    """
    from requests.utils import get_environ_proxies, select_proxy
    return select_proxy(url, get_environ_proxies(url)) or ''


def _watch(adapter: Any, watched: Watched) -> None:
    """Let a requests adapter hand over the socket of each connection that it makes."""
    manager = adapter.poolmanager
    pools = dict(manager.pool_classes_by_scheme)
    for scheme, pool in pools.items():

        class Connection(pool.ConnectionCls):  # type: ignore[name-defined]
            """urllib3's own connection."""

            def _new_conn(self) -> Any:
                sock = super()._new_conn()
                watched.watch(sock)
                return sock

        pools[scheme] = type(pool.__name__, (pool,), {'ConnectionCls': Connection})
    manager.pool_classes_by_scheme = pools


def session(context: Optional[ssl.SSLContext], server_name: str = '') -> Any:
    """Return a requests.Session that makes its TLS connections with ``context``.

    It reads neither proxies nor netrc from the environment.

    :param context: None if the caller sets how the session verifies
    :param server_name: the name to verify, '' for the one in the URL
    """
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter
    # The operator has set insecure: a warning each minute on nova-compute's stderr adds nothing.
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    made = requests.Session()
    made.trust_env = False
    made.headers['User-Agent'] = 'nova-migcheck'
    if context is None:
        return made
    pool: dict[str, Any] = {'ssl_context': context, 'cert_reqs': context.verify_mode}

    class Adapter(HTTPAdapter):
        """Use our context and server name.

        requests would load the CAs again for each connection, and verify the address.
        """

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            if server_name:
                kwargs['server_hostname'] = server_name
            kwargs.update(pool)
            super().init_poolmanager(*args, **kwargs)

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
            return super().proxy_manager_for(proxy, **{**kwargs, **pool})

        # requests >= 2.32 calls this for its own TLS settings of the connection's pool.
        def build_connection_pool_key_attributes(self, request: Any, verify: Any,
                                                 cert: Any = None) -> Any:
            parts = urllib.parse.urlsplit(request.url)
            return {'scheme': parts.scheme, 'host': parts.hostname, 'port': parts.port}, {}

        # All releases write their TLS settings to the pool here.
        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            pass

    made.mount('https://', Adapter())
    return made


def get(target: Target, address: str, proxy: str, timeout: float, watched: Watched) -> Reply:
    """Request the target's URL at ``address``, or through ``proxy``, which resolves the name.

    :param timeout: seconds for the connection, and for each part of the answer
    :param watched: is given the connection, unless it goes through a proxy
    :raises requests.RequestException: if there is no answer
    :raises nova_migcheck.endpoints.tls.UnusableFile: if a file that TLS needs cannot be used
    """
    context = tls_.context(target.tls) if target.scheme == 'https' else None
    parts = urllib.parse.urlsplit(target.url)
    url, headers = target.url, {'Accept': 'application/json', 'Connection': 'close'}
    if not proxy:
        headers['Host'] = parts.netloc
        url = urllib.parse.urlunsplit(parts._replace(netloc=f'{in_url(address)}:{target.port}'))
    with session(context, '' if proxy else tls_.server_name(target.host)) as client:
        if not proxy:
            _watch(client.get_adapter(url), watched)
        wall, start = time.time(), time.monotonic()
        with client.get(url, headers=headers, timeout=timeout, stream=True, allow_redirects=False,
                        proxies={parts.scheme: proxy} if proxy else None) as response:
            seconds = time.monotonic() - start
            return Reply(response.status_code, seconds,
                         None if proxy else _skew(response.headers, wall + seconds / 2))


def _skew(headers: Any, here: float) -> Optional[float]:
    """Return the server's time minus this host's, in seconds.

    A Date is cut off to whole seconds: half a second is added for the middle.
    """
    if 'Age' in headers or 'Date' not in headers:  # a cache's copy keeps the Date of the original
        return None
    try:
        there = email.utils.parsedate_to_datetime(headers['Date']).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return there + 0.5 - here
