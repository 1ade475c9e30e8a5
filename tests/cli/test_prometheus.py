# SPDX-License-Identifier: Apache-2.0
"""The alerts and the dashboard in a real Prometheus, which scrapes what the commands have written.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import pathlib
import re
import runpy
import socket
import subprocess
import threading
import time
from typing import Any, Callable, Iterator

import pytest
import requests
import yaml

from nova_migcheck.aftermath.tally import Tally
from tests.cli.commands import piped
from tests.cli.conftest import _fleet
from tests.cli.databases import conf
from tests.cli.test_rules import ALERTS, RULES

ROOT = pathlib.Path(__file__).parents[2]
DASHBOARD = runpy.run_path(str(ROOT / 'tools/dashboard.py'))
QUERIES = [panel['targets'][0]['expr'] for panel in DASHBOARD['dashboard']()['panels']]
#: What no panel shows: how many findings, the CPU time of each check, and when the counting began.
NOT_SHOWN = {
    'nova_migcheck_findings',
    'nova_migcheck_check_cpu_seconds',
    'nova_migcheck_migrations_since_timestamp_seconds',
    'nova_migcheck_migration_strayed_total',
}


class _Files(http.server.SimpleHTTPRequestHandler):
    """As node_exporter hands out the files."""

    def guess_type(self, path: Any) -> str:
        return 'text/plain; version=0.0.4'

    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def prometheus(directory: pathlib.Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """One that scrapes ``fleet.prom`` and ``compute1.prom`` twice a second. What it gives asks it a
    query.
    """
    with http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(_Files, directory=str(directory))
    ) as files:
        threading.Thread(target=files.serve_forever, args=(0.05,), daemon=True).start()
        # As written, but for how long a fault must last: that is what promtool tests.
        rules = yaml.safe_load(RULES.read_text())
        for rule in rules['groups'][0]['rules']:
            rule.pop('for', None)
        (directory / 'rules.yml').write_text(yaml.safe_dump(rules))
        scraped = [
            {
                'job_name': name,
                'metrics_path': f'/{name}.prom',
                'static_configs': [
                    {'targets': [f'127.0.0.1:{files.server_port}'], 'labels': {'instance': name}}
                ],
            }
            for name in ('fleet', 'compute1')
        ]
        (directory / 'prometheus.yml').write_text(
            yaml.safe_dump(
                {
                    'global': {
                        'scrape_interval': '500ms',
                        'scrape_timeout': '500ms',
                        'evaluation_interval': '500ms',
                    },
                    'rule_files': ['rules.yml'],
                    'scrape_configs': scraped,
                }
            )
        )
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            address = f'127.0.0.1:{free.getsockname()[1]}'
        with (
            open(directory / 'log', 'w') as log,
            subprocess.Popen(
                [
                    'prometheus',
                    f'--config.file={directory}/prometheus.yml',
                    f'--storage.tsdb.path={directory}/data',
                    f'--web.listen-address={address}',
                ],
                stdout=log,
                stderr=log,
            ) as process,
        ):

            def ask(query: str) -> list[dict[str, Any]]:
                answer = requests.get(
                    f'http://{address}/api/v1/query', {'query': query}, timeout=10
                )
                assert answer.status_code == 200, (query, answer.text)
                return answer.json()['data']['result']

            def ready() -> bool:
                assert process.poll() is None, (directory / 'log').read_text()
                with contextlib.suppress(requests.ConnectionError):
                    return requests.get(f'http://{address}/-/ready', timeout=10).ok
                return False

            try:
                until(ready)
                yield ask
            finally:
                process.terminate()
                process.wait(30)
                files.shutdown()


def until(reached: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while True:
        found = reached()
        if found:
            return found
        assert time.monotonic() < end
        time.sleep(0.1)


def write(directory: pathlib.Path, fleet: pathlib.Path, nova_conf: str, counted: Tally) -> None:
    """As the two timers do."""
    piped(directory, 'hosts', conf(fleet), '--prometheus', str(directory / 'fleet.prom'))
    counted.write(str(directory))
    piped(
        directory,
        'check',
        '--only',
        'address',
        '--prometheus',
        str(directory / 'compute1.prom'),
        nova_conf,
    )


def firing(ask: Callable[[str], list[dict[str, Any]]]) -> set[str]:
    return {each['metric']['alertname'] for each in ask('ALERTS{alertstate="firing"}')}


@pytest.mark.nova
def test_alerts_and_panels(thousand, three, nova_conf, tmp_path, tmp_path_factory):
    counted = Tally(1_764_000_000.0, timed=1, seconds=3.0, stopped=1, downtime=0.06)
    write(tmp_path, _fleet(tmp_path_factory, 1), nova_conf, counted)
    with prometheus(tmp_path) as ask:
        until(lambda: ask('nova_migcheck_hosts') and ask('nova_migcheck_round_seconds'))
        taken = time.time()
        until(lambda: ask(f'timestamp(nova_migcheck_hosts) > {taken} + 2'))
        assert firing(ask) == set()

        # One host is left without a target, a migration failed although its target had accepted it,
        # and the data of another one strayed.
        counted.ended['out failed'] += 1
        counted.timed, counted.seconds, counted.stopped, counted.downtime = 3, 9.0, 3, 0.2
        counted.data, counted.stray, counted.strayed = 1 << 30, 1 << 20, 1
        write(tmp_path, three, nova_conf, counted)
        until(
            lambda: (
                firing(ask)
                == {
                    'NovaMigcheckHostCannotBeEmptied',
                    'NovaMigcheckCheckFailsOnManyHosts',
                    'NovaMigcheckMigrationsFail',
                    'NovaMigcheckMigrationsStray',
                }
            )
        )
        # A tenth of the hosts fails, and another tenth is silent.
        write(tmp_path, thousand, nova_conf, counted)
        until(
            lambda: (
                firing(ask)
                == {
                    'NovaMigcheckReportStale',
                    'NovaMigcheckCheckFailsOnManyHosts',
                    'NovaMigcheckMigrationsFail',
                    'NovaMigcheckMigrationsStray',
                }
            )
        )
        for query in QUERIES:
            assert until(lambda query=query: ask(query)), query
        # The timer stands still; for a day, as its file says.
        text = (tmp_path / 'fleet.prom').read_text()
        old = re.sub(
            r'(?m)^(nova_migcheck_fleet_timestamp_seconds) .*', rf'\1 {time.time() - 86400}', text
        )
        (tmp_path / 'fleet.prom').write_text(old)
        until(lambda: 'NovaMigcheckMetricsOld' in firing(ask))
        written = set(
            re.findall(r'(?m)^(nova_migcheck_\w+)', text + (tmp_path / 'compute1.prom').read_text())
        )
    shown = {name for query in QUERIES for name in re.findall(r'nova_migcheck_\w+', query)}
    assert shown - written == set()
    assert written - shown == NOT_SHOWN


def test_each_alert_was_seen_to_fire():
    source = pathlib.Path(__file__).read_text()
    assert {alert['alert'] for alert in ALERTS} == set(re.findall(r"'(NovaMigcheck\w+)'", source))


def test_the_dashboard_is_generated():
    assert DASHBOARD['PLACE'].read_text() == DASHBOARD['text']()
