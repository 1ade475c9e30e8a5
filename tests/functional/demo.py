# SPDX-License-Identifier: Apache-2.0
"""What the plugin does, for a person to look at: the same live migrations with it and without.

A whole Nova runs in this process (see :mod:`tests.functional.cloud`); the checks, the filter and the hook are the real ones.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import socket
import threading
import time
from typing import Any, Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table

from tests.functional.cloud import Cloud, Migration
from tests.functional.hypervisor import Cpu

HASWELL = Cpu('Haswell')
CPUS = {'compute1': HASWELL, 'compute2': HASWELL.without('hle', 'rtm'), 'compute3': HASWELL, 'compute4': HASWELL}
# The scheduler prefers the host with most memory left: the bad ones come first.
MEMORY_USED = {'compute3': 2048, 'compute4': 4096}
REJECTED = re.compile(r'Host (\S+) is rejected as target of .*? from \S+: (.*)')

console = Console(highlight=False, soft_wrap=False, width=min(110, Console().width))


class _Neutron(http.server.BaseHTTPRequestHandler):
    """As much of neutron as it takes to be there: its version document."""

    def do_GET(self) -> None:
        body = json.dumps({'versions': [{'id': 'v2.0', 'status': 'CURRENT', 'links': []}]}).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@contextlib.contextmanager
def neutron() -> Iterator[str]:
    """Its URL."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Neutron)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()


def nobody_listens() -> str:
    """A URL at which a connection is refused."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return f'http://127.0.0.1:{free.getsockname()[1]}'


def endpoints(good: str, bad: str) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """Each host's own nova.conf: where it looks for neutron."""
    return {host: {'neutron': {'endpoint_override': bad if host == 'compute3' else good}, 'glance': {'api_servers': good}}
            for host in CPUS}


@contextlib.contextmanager
def cloud(plugin: bool, host_conf: Any) -> Iterator[Cloud]:
    conf = {'migcheck': {'checks': 'cpu,endpoint'}} if plugin else {}
    # What libraries would print goes nowhere: this screen is for the story.
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stderr(nowhere):
        with console.status(f'starting Nova {"with" if plugin else "without"} the plugin: API, conductor, scheduler, '
                            f'placement, {len(CPUS)} compute hosts'):
            running = Cloud(CPUS, plugin=plugin, conf=conf, host_conf=host_conf, memory_used=MEMORY_USED)
            running.setUp()
        try:
            yield running
        finally:
            running.cleanUp()


def show_hosts(host_conf: Any) -> None:
    table = Table(title='The compute hosts', title_justify='left', title_style='bold', border_style='dim')
    for column in ('host', 'CPU that its hypervisor gives', 'neutron, by its nova.conf'):
        table.add_column(column)
    for host, cpu in CPUS.items():
        lacks = f'[red], without {", ".join(sorted(cpu.removed))}[/]' if cpu.removed else ''
        url = host_conf[host]['neutron']['endpoint_override']
        table.add_row(host, f'{cpu.model}{lacks}', f'[red]{url}, where nobody listens[/]' if host == 'compute3' else url)
    console.print(table)


def act(text: str) -> None:
    console.print()
    console.print(f'[bold]$ {escape(text)}[/]')


def say(text: str) -> None:
    console.print(Padding(text, (0, 0, 0, 2)))


def show_reasons(running: Cloud, title: str, reasons: Mapping[str, str]) -> None:
    table = Table(title=title, title_justify='left', title_style='', border_style='dim', show_lines=True)
    table.add_column('host')
    table.add_column('why')
    for host, why in reasons.items():
        check, _, rest = escape(why.replace(f'{running.path}/', '')).partition(': ')
        table.add_row(f'[red]{host}[/]', f'[bold]{check}[/]: {rest}')
    console.print(Padding(table, (0, 0, 0, 2)))


def show_end(server: str, migration: Migration, took: float) -> None:
    colour = 'green' if migration.status == 'completed' else 'yellow' if migration.state == 'ACTIVE' else 'red'
    say(f'[{colour}]migration {migration.status}; {server} is {migration.state} on {migration.host}[/]  '
        f'[dim]({took:.1f} s)[/]')
    if migration.message.startswith('No valid host'):
        say(f'[dim]openstack server event show:[/] {escape(migration.message)}')


def migrate(running: Cloud, server: str, *words: Any, **how: Any) -> tuple[Migration, float]:
    running.forget_calls()
    with console.status('migrating'):
        begun = time.monotonic()
        return running.live_migrate(server, *words, **how), time.monotonic() - begun


def rejected_by_the_filter(running: Cloud) -> dict[str, str]:
    found = (REJECTED.search(line) for line in running.log.lines('nova_migcheck.scheduler'))
    return {match[1]: match[2] for match in found if match}


def with_plugin(host_conf: Any) -> None:
    with cloud(True, host_conf) as running:
        with console.status('server1 boots on compute1; each host checks itself and publishes its report'):
            server = running.boot('compute1')
            running.check()
        act('openstack server migrate --live-migration server1')
        migration, took = migrate(running, server)
        show_reasons(running, 'The scheduler left these out, and asked them nothing (its log):', rejected_by_the_filter(running))
        show_end('server1', migration, took)

        with console.status('server2 boots on compute1'):
            server = running.boot('compute1')
        act('openstack server migrate --live-migration --host compute3 --os-compute-api-version 2.67 --force server2')
        migration, took = migrate(running, server, 'compute3', force=True)
        show_reasons(running, 'Past the scheduler, it is the compute host itself that refuses (openstack server event '
                              'show):', migration.refusals)
        show_end('server2', migration, took)

        act('openstack server migrate --live-migration server2      # and compute4 is put out of service')
        service, = running.api.get_services(host='compute4', binary='nova-compute')
        running.api.put_service(service['id'], {'status': 'disabled'})
        migration, took = migrate(running, server)
        show_end('server2', migration, took)


def without_plugin(host_conf: Any) -> None:
    with cloud(False, host_conf) as running:
        with console.status('server1 and server2 boot on compute1'):
            servers = [running.boot('compute1'), running.boot('compute1')]
        act('openstack server migrate --live-migration server1')
        migration, took = migrate(running, servers[0])
        show_end('server1', migration, took)
        late = running.log.lines('ERROR', 'Live Migration failure')
        tried = [name for name, host in running.hosts.items() if 'pre_live_migration' in host.calls]
        say(f'begun on {", ".join(tried)}; only the log of compute1 knows:')
        for line in late[:1]:
            say(f'[dim]{escape(line.partition("] ")[2])}[/]')

        act('openstack server migrate --live-migration --host compute3 server2')
        migration, took = migrate(running, servers[1], 'compute3')
        show_end('server2', migration, took)
        say('[dim]on a host that cannot plug a port any more: it says so when the next one is needed[/]')


def main() -> int:
    with neutron() as good:
        host_conf = endpoints(good, nobody_listens())
        show_hosts(host_conf)
        console.print()
        console.print(Rule('[bold]with nova-migcheck[/]', align='left'))
        with_plugin(host_conf)
        console.print()
        console.print(Rule('[bold]the same without it[/]', align='left'))
        without_plugin(host_conf)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
