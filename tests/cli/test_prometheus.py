# SPDX-License-Identifier: Apache-2.0
"""The alerts and the dashboard in a real Prometheus, which scrapes what the commands have written.
"""

from __future__ import annotations

import pathlib
import re
import runpy
import time

import pytest

from nova_migcheck.aftermath.tally import Tally
from tests.cli.commands import piped
from tests.cli.conftest import _fleet
from tests.cli.databases import conf
from tests.prometheus import ALERTS, ROOT, firing, running, until

DASHBOARD = runpy.run_path(str(ROOT / 'tools/dashboard.py'))
QUERIES = [panel['targets'][0]['expr'] for panel in DASHBOARD['dashboard']()['panels']]
#: What no panel shows: how many findings, the CPU time of each check, and when the counting began.
NOT_SHOWN = {
    'nova_migcheck_findings',
    'nova_migcheck_check_cpu_seconds',
    'nova_migcheck_migrations_since_timestamp_seconds',
    'nova_migcheck_migration_strayed_total',
}


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


@pytest.mark.nova
def test_alerts_and_panels(thousand, three, nova_conf, tmp_path, tmp_path_factory):
    counted = Tally(1_764_000_000.0, timed=1, seconds=3.0, stopped=1, downtime=0.06)
    write(tmp_path, _fleet(tmp_path_factory, 1), nova_conf, counted)
    with running(tmp_path, ('fleet', 'compute1')) as ask:
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
