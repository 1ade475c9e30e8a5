# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus with our alerts, which scrapes files as node_exporter hands them out."""

from __future__ import annotations

import contextlib
import functools
import http.server
import pathlib
import socket
import subprocess
import threading
import time
from typing import Any, Callable, Iterator, Sequence

import requests
import yaml

ROOT = pathlib.Path(__file__).parents[1]
RULES = ROOT / 'etc/prometheus/migcheck.rules.yml'
ALERTS = yaml.safe_load(RULES.read_text())['groups'][0]['rules']

#: Asks it a query, for the samples of the answer.
Ask = Callable[[str], list[dict[str, Any]]]


class _Files(http.server.SimpleHTTPRequestHandler):
    """As node_exporter hands out the files."""

    def guess_type(self, path: Any) -> str:
        return 'text/plain; version=0.0.4'

    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def running(
    directory: pathlib.Path, names: Sequence[str], interval: str = '500ms', at_once: bool = True
) -> Iterator[Ask]:
    """Run one that scrapes ``NAME.prom`` of a directory for each of the names.

    :param interval: between two scrapes, and between two looks at the alerts
    :param at_once: whether an alert fires at once. For how long a fault must last is what promtool
        tests
    """
    with http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(_Files, directory=str(directory))
    ) as files:
        threading.Thread(target=files.serve_forever, args=(0.05,), daemon=True).start()
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            address = f'127.0.0.1:{free.getsockname()[1]}'
        _configure(directory, names, interval, at_once, files.server_port)
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

            def ready() -> bool:
                assert process.poll() is None, (directory / 'log').read_text()
                with contextlib.suppress(requests.ConnectionError):
                    return requests.get(f'http://{address}/-/ready', timeout=10).ok
                return False

            try:
                until(ready)
                yield functools.partial(_ask, address)
            finally:
                process.terminate()
                process.wait(30)
                files.shutdown()


def _configure(
    directory: pathlib.Path, names: Sequence[str], interval: str, at_once: bool, port: int
) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules['groups'][0]['rules'] if at_once else ():
        rule.pop('for', None)
    (directory / 'rules.yml').write_text(yaml.safe_dump(rules))
    scraped = [
        {
            'job_name': name,
            'metrics_path': f'/{name}.prom',
            'static_configs': [{'targets': [f'127.0.0.1:{port}'], 'labels': {'instance': name}}],
        }
        for name in names
    ]
    intervals = {
        'scrape_interval': interval,
        'scrape_timeout': interval,
        'evaluation_interval': interval,
    }
    text = {'global': intervals, 'rule_files': ['rules.yml'], 'scrape_configs': scraped}
    (directory / 'prometheus.yml').write_text(yaml.safe_dump(text))


def _ask(address: str, query: str) -> list[dict[str, Any]]:
    answer = requests.get(f'http://{address}/api/v1/query', {'query': query}, timeout=10)
    assert answer.status_code == 200, (query, answer.text)
    return answer.json()['data']['result']


def firing(ask: Ask) -> set[str]:
    return {each['metric']['alertname'] for each in ask('ALERTS{alertstate="firing"}')}


def until(reached: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while True:
        found = reached()
        if found:
            return found
        assert time.monotonic() < end
        time.sleep(0.1)
