# SPDX-License-Identifier: Apache-2.0
"""Probe everything at once, under one deadline.

Threads do the waiting. Nothing interrupts ``getaddrinfo``, so a thread that waits for a dead
resolver is abandoned. The threads are daemons, and end with the process of the check.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
import urllib.parse
from typing import Any, Callable, Mapping

from nova_migcheck.checksettings import Settings
from nova_migcheck.endpoints import catalog, probe, sources, web
from nova_migcheck.endpoints.catalog import Catalog, Missing
from nova_migcheck.endpoints.memory import GREETED_SELDOM, Memory
from nova_migcheck.endpoints.observations import Picture
from nova_migcheck.endpoints.values import Answer, Endpoint, Fault, Target, Tls, in_url, is_address

# Seconds without an answer after which a target is suspected, and its service is looked for at
# other addresses. A connection on a healthy network takes milliseconds; with one lost SYN, 1 s.
_SUSPECT_AFTER = 1.2
_LOOK_AGAIN = 0.25
# Minimum of the margin in seconds; otherwise it is a tenth of the deadline. Probes stop by this
# margin before the deadline, so that they can report what they waited for. It is also the tolerated
# scheduling delay.
_MARGIN = 0.2
# Maximum number of other addresses from nova.conf at which a dead service is looked for.
_ELSEWHERE = 3

# Options that do not affect authentication.
_NOT_LOGIN = frozenset({
    'service_type', 'service_name', 'valid_interfaces', 'region_name', 'endpoint_override',
    'timeout', 'collect_timing', 'split_loggers', 'connect_retries', 'connect_retry_delay',
    'status_code_retries', 'status_code_retry_delay', 'retriable_status_codes', 'auth_section',
    'min_version', 'max_version'})


class Survey:
    """Run one round of probes. Call :meth:`run` only once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sections = [s for s in sources.sections(settings) if s.needed_for]
        if any(self._login_options(section).get('auth_type') for section in self._sections):
            catalog.prepare()
        import requests  # noqa: F401  before the clock starts, not in the first probe
        self._start = time.monotonic()
        self._deadline = self._start + settings.timeout
        self._events: queue.SimpleQueue[tuple[tuple[Any, ...], Any]] = queue.SimpleQueue()
        self._pending: set[tuple[Any, ...]] = set()
        self._names: dict[str, list[tuple[Target, str]]] = {}
        self._addresses: dict[str, Any] = {}
        self._asked: dict[Target, float] = {}
        self._suspect_after = min(_SUSPECT_AFTER, settings.timeout / 3)
        self._by_catalog: dict[str, tuple[list[Endpoint], list[Missing]]] = {}
        self._alternatives: dict[Target, list[Target]] = {}
        self._margin = max(_MARGIN, settings.timeout / 10)
        self._memory = Memory(settings)
        self._tried: set[str] = set()
        self.picture = Picture(seconds=settings.timeout)

    def run(self) -> Picture:
        """Wait for all answers or the deadline, and return what was observed."""
        for endpoint in sources.configured(self._settings):
            self._need(endpoint)
        self._log_in()
        self._wait(self._start + self._suspect_after)
        self._suspect()
        while self._pending and time.monotonic() < self._deadline:
            self._wait(min(self._deadline, time.monotonic() + _LOOK_AGAIN))
            self._suspect()
        self._give_up()
        self._find_elsewhere()
        return self.picture

    def memory(self) -> dict[str, Any]:
        """Return what the next round needs."""
        doubtful = [leader for leader, used in self._by_catalog.items() if self._is_doubtful(*used)]
        return self._memory.to_json(self.picture, self._tried, doubtful)

    # -- waiting

    def _spawn(self, key: tuple[Any, ...], function: Callable[..., Any], *args: Any) -> None:
        spawned = time.monotonic()

        def work() -> None:
            self._notice(spawned)
            try:
                result = function(*args)
            except Exception as error:
                result = error
            self._events.put((key, result))
        self._pending.add(key)
        threading.Thread(target=work, daemon=True, name=str(key[0])).start()

    def _notice(self, due: float) -> None:
        """Notice that this host runs its threads late, and so cannot rely on timeouts."""
        if time.monotonic() - due > self._margin:
            self.picture.starved = True

    def _wait(self, until: float) -> None:
        while self._pending and (left := until - time.monotonic()) > 0:
            try:
                key, result = self._events.get(timeout=left)
            except queue.Empty:
                self._notice(until)
                return
            self._pending.discard(key)
            self._handle(key, result)

    def _handle(self, key: tuple[Any, ...], result: Any) -> None:
        if key[0] == 'name':
            self._addresses[key[1]] = result
            for target, proxy in self._names[key[1]]:
                self._ask_each(target, key[1], proxy)
        elif key[0] == 'ask':
            _, target, address = key
            if isinstance(result, Exception):  # our bug must not look like a fault of the service
                raise result
            self.picture.answers.setdefault(target, {})[address] = result
        elif key[0] == 'login':
            self.picture.logins[key[1]] = result
            if isinstance(result, Catalog):
                self.picture.cached.pop(key[1], None)
                self._use(key[1], result)

    # -- probes

    def _need(self, endpoint: Endpoint) -> None:
        self.picture.endpoints.setdefault(endpoint.target, []).append(endpoint)
        self._probe(endpoint.target)

    def _probe(self, target: Target) -> None:
        if target in self._asked:
            return
        self._asked[target] = time.monotonic()
        well = self._memory.answers(target)
        if well is not None:
            self.picture.answers[target] = well
            return
        try:
            host, _port = target.host, target.port
            proxy = web.proxy_for(target.url) if target.scheme in probe.WEB else ''
            if proxy:
                host = urllib.parse.urlsplit(
                    proxy if '://' in proxy else f'//{proxy}').hostname or ''
            if not host:
                raise ValueError('the URL has no host')
        except ValueError as error:
            self.picture.answers[target] = {
                target.url: Answer(target.url, Fault.INVALID, str(error))}
            return
        self._names.setdefault(host, []).append((target, proxy))
        if is_address(host):
            self._addresses[host] = [host]
        if host in self._addresses:
            self._ask_each(target, host, proxy)
        elif len(self._names[host]) == 1:
            self._spawn(('name', host), probe.resolve, host)

    def _ask_each(self, target: Target, host: str, proxy: str) -> None:
        result = self._addresses[host]
        if isinstance(result, Exception):
            # These two errors mean that the name does not exist. All others are the resolver's.
            absent = isinstance(result, socket.gaierror) and result.errno in (
                socket.EAI_NONAME, socket.EAI_NODATA)
            fault = Fault.NAME if absent else Fault.RESOLVER
            detail = getattr(result, 'strerror', None) or str(result)
            self.picture.answers[target] = {host: Answer(host, fault, detail)}
            return
        for address in result:
            greet = (target.scheme not in GREETED_SELDOM
                     or not self._memory.has_greeted(target, address))
            self._spawn(('ask', target, address), probe.ask, target, address,
                        self._deadline - self._margin, self._settings.timeout, proxy, greet)

    # -- catalogs

    def _log_in(self) -> None:
        """Log in once for each user, unless its cached catalog is recent enough.

        One login per minute from each host would be a load for keystone.
        """
        leaders: dict[Any, str] = {}
        for section in self._sections:
            options = self._login_options(section)
            if options.get('auth_type'):
                login = tuple(sorted((name, repr(value)) for name, value in options.items()
                                     if name not in _NOT_LOGIN))
                self.picture.shared_login[section.group] = leaders.setdefault(login, section.group)
        for leader in leaders.values():
            cached = self._memory.young_catalog(leader)
            failed = self._memory.failed_login(leader)
            if cached:
                self._use(leader, cached)
            elif failed:
                self.picture.logins[leader] = failed
            else:
                self._start_login(leader)

    def _login_options(self, section: sources.Section) -> Mapping[str, Any]:
        return self._settings.options.get(sources.login_group(self._settings, section.group), {})

    def _start_login(self, leader: str) -> None:
        self._tried.add(leader)
        timeout = max(0.1, self._deadline - self._margin - time.monotonic())
        self._spawn(('login', leader), catalog.login, self._settings, leader, timeout)

    def _use(self, leader: str, listed: Catalog) -> None:
        """Replace the endpoints of the leader's sections by those of this catalog."""
        old_endpoints, old_missing = self._by_catalog.pop(leader, ([], []))
        for endpoint in old_endpoints:
            self.picture.endpoints[endpoint.target].remove(endpoint)
        for one in old_missing:
            self.picture.missing.remove(one)
        endpoints: list[Endpoint] = []
        missing: list[Missing] = []
        for section in self._sections:
            # A section without a login acts for the user: any catalog of this cloud will do.
            first = next(iter(self.picture.shared_login.values()), '')
            if self.picture.shared_login.get(section.group, first) != leader:
                continue
            result = catalog.look_up(self._settings, section, listed)
            if isinstance(result, Endpoint):
                endpoints.append(result)
                self._need(result)
            elif result is not None:
                missing.append(result)
        self.picture.missing += missing
        self._by_catalog[leader] = (endpoints, missing)

    # -- what has failed or is slow

    def _suspect(self) -> None:
        """Follow up on what has failed or is slow, while there is time."""
        for leader in set(self.picture.shared_login.values()):
            cached, used = self._memory.catalogs.get(leader), self._by_catalog.get(leader)
            if used is None and cached and not isinstance(self.picture.logins.get(leader), Catalog):
                self.picture.cached[leader] = time.time() - cached.fetched
                self._use(leader, cached)
            elif used and leader not in self.picture.logins \
                    and ('login', leader) not in self._pending and self._is_doubtful(*used) \
                    and self._memory.may_log_in(leader):
                self._start_login(leader)
        live = list(dict.fromkeys(
            e.target.host for endpoints in self.picture.endpoints.values() for e in endpoints
            if not e.from_catalog and e.target.scheme in probe.WEB
            and self.picture.is_well(e.target)))
        for target, endpoints in list(self.picture.endpoints.items()):
            if target.scheme in probe.WEB and endpoints and target not in self._alternatives \
                    and live and self._is_dead(target):
                self._look_elsewhere(target, live)

    def _is_doubtful(self, endpoints: list[Endpoint], missing: list[Missing]) -> bool:
        """Return whether a cached catalog may be out of date: it lists dead URLs, or lacks some."""
        return bool(missing) or not all(self.picture.is_well(e.target) for e in endpoints)

    def _look_elsewhere(self, target: Target, hosts: list[str]) -> None:
        """Probe the service at other hosts."""
        parts = urllib.parse.urlsplit(target.url)
        # The certificate may be for another name: only whether the service answers is of interest.
        tls = Tls(insecure=True) if target.scheme == 'https' else Tls()
        for host in [host for host in hosts if host != target.host][:_ELSEWHERE]:
            other = Target(urllib.parse.urlunsplit(
                parts._replace(netloc=f'{in_url(host)}:{target.port}')), tls)
            self._alternatives.setdefault(target, []).append(other)
            self._probe(other)

    def _is_dead(self, target: Target) -> bool:
        """Return whether no address was reached so far."""
        answers = self.picture.answers.get(target)
        if not answers:
            return time.monotonic() - self._asked[target] > self._suspect_after
        return all(a.fault and (a.fault.of_address or a.fault in (Fault.NAME, Fault.RESOLVER))
                   for a in answers.values())

    def _find_elsewhere(self) -> None:
        for target, others in self._alternatives.items():
            well = next(filter(self.picture.is_well, others), None)
            if well is not None and not self.picture.is_well(target):
                self.picture.elsewhere[target] = well

    def _give_up(self) -> None:
        waited = probe.waited(self._settings.timeout)
        # An address that drops the packets of one probe drops those of one that is not over yet.
        silent = {address for answers in self.picture.answers.values()
                  for address, answer in answers.items() if answer.fault is Fault.SILENT}
        for key in self._pending:
            if key[0] == 'name':
                for target, _proxy in self._names[key[1]]:
                    self.picture.answers[target] = {key[1]: Answer(key[1], Fault.RESOLVER, waited)}
            elif key[0] == 'ask':
                self.picture.answers.setdefault(key[1], {})[key[2]] = Answer(
                    key[2], Fault.SILENT if key[2] in silent else Fault.NO_ANSWER, waited)
            elif key[0] == 'login':
                self.picture.logins[key[1]] = TimeoutError(waited)
