# SPDX-License-Identifier: Apache-2.0
"""What a cloud of hosts asks of its services: requests per host and minute, after all were restarted together.

Hours of a clock that is turned by hand; the requests are real ones, to servers that count them. Each host has the rounds that the
reporter would have, without the processes.
"""

from __future__ import annotations

import collections
import heapq
import http.server
import json
import random
import socket
import socketserver
import statistics
import sys
import threading
import time
import types
from typing import Any, Iterator

from nova_migcheck.checks.base import Keep
from nova_migcheck.checks.endpoint import EndpointCheck
from nova_migcheck.checksettings import Settings
from nova_migcheck.compute import reporter
from nova_migcheck.endpoints import catalog, memory, survey
from tests.bench.measure import Row, tell

MINUTES = 20
HOSTS = 1000
# With their own login each; keystone is asked as the first of the HTTP endpoints.
SERVICES = {'placement': 'placement', 'neutron': 'network', 'cinder': 'volumev3', 'glance': 'image'}
BROKERS = ('127.0.0.2', '127.0.0.3', '127.0.0.4')
CACHES = ('127.0.0.2', '127.0.0.3')
# One keystone worker: seconds of a login, how many hosts have nothing but it, and how long one of them waits at most.
LOGIN = 0.1
ON_ONE_WORKER = 200
DEADLINE = 5.0

counted: collections.Counter[tuple[str, int]] = collections.Counter()
logins: list[tuple[float, int]] = []
now = 0.0
host = 0


def count(kind: str) -> None:
    counted[kind, int(now // 60)] += 1


class Web(http.server.BaseHTTPRequestHandler):
    """Every HTTP service, told apart by the port; keystone gives a token and lists the others."""

    def do_GET(self) -> None:
        count('HTTP GET')
        self._answer(200, {})

    def do_POST(self) -> None:
        count('login')
        logins.append((now, host))
        self.rfile.read(int(self.headers['Content-Length']))
        self._answer(201, {'token': {
            'methods': ['password'], 'user': {'id': 'u', 'name': 'u', 'domain': {'id': 'd', 'name': 'd'}}, 'expires_at':
            '2099-01-01T00:00:00.000000Z', 'issued_at': '2020-01-01T00:00:00.000000Z', 'catalog': self.server.catalog}})  # type: ignore[attr-defined]

    def _answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('X-Subject-Token', 'token')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_args: Any) -> None:
        pass


class Broker(socketserver.BaseRequestHandler):
    """Begins AMQP as RabbitMQ does, when it is spoken to."""

    def handle(self) -> None:
        count('message queue')
        if self.request.recv(8):
            self.request.sendall(b'\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce')


class Cache(socketserver.BaseRequestHandler):
    """memcached."""

    def handle(self) -> None:
        count('memcached')
        if self.request.recv(64):
            self.request.sendall(b'VERSION 1.6.18\r\n')


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


def serve(handler: Any, address: str = '127.0.0.1') -> Any:
    server = _Server((address, 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return server


def cloud() -> dict[str, dict[str, Any]]:
    """Start the services, and return the options of a nova.conf that leads to them."""
    webs = {kind: serve(Web) for kind in ('identity', *SERVICES.values())}
    url = {kind: f'http://127.0.0.1:{web.server_address[1]}' for kind, web in webs.items()}
    webs['identity'].catalog = [{'type': kind, 'name': kind, 'id': kind, 'endpoints': [
        {'interface': 'internal', 'region': 'One', 'region_id': 'One', 'url': url[kind], 'id': kind}]} for kind in SERVICES.values()]
    login = {'auth_type': 'v3password', 'auth_url': f'{url["identity"]}/v3', 'password': 'p', 'project_name': 'service',
             'user_domain_name': 'd', 'project_domain_name': 'd'}
    brokers = ','.join(f'u:p@{one}:{serve(Broker, one).server_address[1]}' for one in BROKERS)
    caches = [f'{one}:{serve(Cache, one).server_address[1]}' for one in CACHES]
    return {'DEFAULT': {'transport_url': f'rabbit://{brokers}/'}, 'cache': {'enabled': True, 'memcache_servers': caches},
            'keystone_authtoken': {'memcached_servers': caches},
            'migcheck': {'extra_endpoints': [f'http://127.0.0.1:{serve(Web).server_address[1]}' for _ in range(2)]},
            **{group: {**login, 'username': group, **({'catalog_info': 'volumev3:volumev3:internalURL'} if group == 'cinder' else {})}
               for group in SERVICES}}


def rounds(hosts: int, minutes: int) -> Iterator[tuple[float, int]]:
    """When which host has a round, as ``Reporter._loop`` does it."""
    due = [(random.uniform(0, reporter.FIRST), number) for number in range(hosts)]
    heapq.heapify(due)
    while due[0][0] < minutes * 60:
        at, number = heapq.heappop(due)
        yield at, number
        heapq.heappush(due, (at + 60 * random.uniform(1 - reporter._VARIES, 1 + reporter._VARIES), number))


def play(hosts: int, minutes: int) -> int:
    """Let all hosts run, and return how many findings that are not ok they have had."""
    global now, host
    options, check, kept, wrong = cloud(), EndpointCheck(), {}, 0
    turned = types.SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
    for module in (memory, survey, catalog):
        module.time = turned  # type: ignore[attr-defined]
    for at, number in rounds(hosts, minutes):
        now, host = at, number
        for result in check.run(Settings(options=options, memory=kept.get(host), thorough=False)):
            if isinstance(result, Keep):
                kept[host] = result.value
            elif str(result.outcome) != 'ok' and result.check == 'endpoint':
                wrong += 1
                if wrong == 1:
                    print(result, file=sys.stderr)
    time.sleep(1)
    return wrong


def longest_wait() -> float:
    """Return how long a login waited for one keystone worker that all of these hosts share."""
    free = longest = 0.0
    for at, number in logins:
        if number < ON_ONE_WORKER:
            free = max(free, at) + LOGIN
            longest = max(longest, free - at)
    return longest


def main() -> list[Row]:
    # Loopback has no name to resolve, and a proxy of the machine is not the cloud's.
    socket.setdefaulttimeout(10)
    wrong = play(HOSTS, MINUTES)
    by_minute = [sum(number for (kind, minute), number in counted.items() if minute == one and kind in ('HTTP GET', 'login')) / HOSTS
                 for one in range(MINUTES)]
    steady = statistics.mean(by_minute[10:])
    ten = statistics.mean(by_minute[:10])
    rows = [Row(f'{HOSTS} hosts: {kind}, per host and minute, steady',
                sum(counted[kind, minute] for minute in range(10, MINUTES)) / (MINUTES - 10) / HOSTS, 'a minute')
            for kind in ('HTTP GET', 'login', 'message queue', 'memcached')]
    return [
        *rows,
        Row(f'{HOSTS} hosts: HTTP requests with logins, per host and minute, steady', steady, 'a minute', 3.0),
        Row('the busiest of the ten minutes after all were restarted together, to the mean of the ten', max(by_minute[:10]) / ten, '', 2.0),
        Row('that minute to the steady rate', max(by_minute[:10]) / steady, '', 2.0),
        Row(f'longest wait for a login, {ON_ONE_WORKER} hosts and one keystone worker of {LOGIN} s', longest_wait(), 's', DEADLINE),
        Row('findings of these hosts that are not ok', float(wrong), '', 0.0),
    ]


if __name__ == '__main__':
    tell(main())
