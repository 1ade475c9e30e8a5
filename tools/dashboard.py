#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write ``etc/grafana/migcheck.json``, the dashboard for Grafana, from the table below."""

from __future__ import annotations

import json
import pathlib
from typing import Any

PLACE = pathlib.Path(__file__).resolve().parent.parent / 'etc/grafana/migcheck.json'
SOURCE = {'type': 'prometheus', 'uid': '${datasource}'}
# Grafana divides a page into 24 columns.
WIDTH, HEIGHT = 8, 8

# (title, kind of panel, unit, query, what a series is called)
PANELS = (
    ('Alerts', 'table', 'short', 'ALERTS{alertname=~"NovaMigcheck.*",alertstate="firing"}', ''),
    (
        'Hosts by the state of their report',
        'stat',
        'short',
        'sum by (report) (nova_migcheck_hosts)',
        '{{report}}',
    ),
    (
        'Hosts that cannot be emptied',
        'stat',
        'short',
        'sum(nova_migcheck_sources_without_target)',
        'hosts',
    ),
    (
        'Hosts on which a check fails',
        'timeseries',
        'short',
        'sum by (check) (nova_migcheck_hosts_by_outcome{outcome="failure"})',
        '{{check}}',
    ),
    (
        'Hosts by the code of a finding',
        'table',
        'short',
        'sum by (code, check, outcome) (nova_migcheck_hosts_by_code)',
        '',
    ),
    (
        'Share of pairs of source and target',
        'timeseries',
        'percentunit',
        'sum by (state) (nova_migcheck_pairs) / scalar(sum(nova_migcheck_pairs))',
        '{{state}}',
    ),
    (
        'Oldest reports',
        'timeseries',
        's',
        'topk(10, max by (host) (nova_migcheck_report_age_seconds))',
        '{{host}}',
    ),
    ('Different CPUs', 'stat', 'short', 'max(nova_migcheck_cpus)', 'CPUs'),
    (
        'Age of the metrics of all hosts',
        'stat',
        's',
        'time() - max(nova_migcheck_fleet_timestamp_seconds)',
        'age',
    ),
    (
        'Live migrations in an hour',
        'timeseries',
        'short',
        'sum by (direction, result) (increase(nova_migcheck_migrations_total[1h]))',
        '{{direction}} {{result}}',
    ),
    (
        'Duration of live migrations, mean',
        'timeseries',
        's',
        'sum(rate(nova_migcheck_migration_seconds_sum[1h]))'
        ' / sum(rate(nova_migcheck_migration_seconds_count[1h]))',
        'mean',
    ),
    (
        'Downtime of live migrations, mean',
        'timeseries',
        's',
        'sum(rate(nova_migcheck_migration_downtime_seconds_sum[1h]))'
        ' / sum(rate(nova_migcheck_migration_downtime_seconds_count[1h]))',
        'mean',
    ),
    (
        'Data of live migrations',
        'timeseries',
        'Bps',
        'sum(rate(nova_migcheck_migration_bytes_total[1h]))',
        'all',
    ),
    (
        'Data on an interface that was not intended',
        'timeseries',
        'Bps',
        'sum by (instance) (rate(nova_migcheck_migration_stray_bytes_total[1h])) > 0',
        '{{instance}}',
    ),
    (
        'Ends of the last live migrations that hosts have published',
        'stat',
        'short',
        'sum by (ended) (nova_migcheck_migrations)',
        '{{ended}}',
    ),
    (
        'Ends of the last rehearsals that hosts have published',
        'stat',
        'short',
        'sum by (ended) (nova_migcheck_rehearsals)',
        '{{ended}}',
    ),
    (
        'Outcomes of the checks on the hosts',
        'timeseries',
        'short',
        'sum by (check, outcome) (nova_migcheck_check == 1)',
        '{{check}} {{outcome}}',
    ),
    (
        'Longest rounds of checks',
        'timeseries',
        's',
        'topk(10, nova_migcheck_round_seconds)',
        '{{instance}}',
    ),
    (
        'Oldest rounds of checks',
        'timeseries',
        's',
        'topk(10, time() - nova_migcheck_round_timestamp_seconds)',
        '{{instance}}',
    ),
)


def panel(number: int, title: str, kind: str, unit: str, query: str, legend: str) -> dict[str, Any]:
    """Return a panel in Grafana's form."""
    target = {'datasource': SOURCE, 'expr': query, 'legendFormat': legend, 'refId': 'A'}
    if kind != 'timeseries':
        target.update(
            instant=True, range=False, format='table' if kind == 'table' else 'time_series'
        )
    return {
        'id': number + 1,
        'title': title,
        'type': kind,
        'datasource': SOURCE,
        'targets': [target],
        'gridPos': {
            'h': HEIGHT,
            'w': WIDTH,
            'x': number * WIDTH % 24,
            'y': number * WIDTH // 24 * HEIGHT,
        },
        'fieldConfig': {'defaults': {'unit': unit, 'min': 0}, 'overrides': []},
    }


def dashboard() -> dict[str, Any]:
    """Return the dashboard in the form that Grafana imports."""
    return {
        'title': 'nova-migcheck',
        'uid': 'nova-migcheck',
        'tags': ['openstack', 'nova'],
        'schemaVersion': 38,
        'version': 1,
        'editable': True,
        'refresh': '1m',
        'time': {'from': 'now-24h', 'to': 'now'},
        'timezone': 'browser',
        'templating': {
            'list': [{'name': 'datasource', 'type': 'datasource', 'query': 'prometheus'}]
        },
        'panels': [panel(number, *each) for number, each in enumerate(PANELS)],
    }


def text() -> str:
    """Return the content of the file."""
    return json.dumps(dashboard(), indent=2) + '\n'


if __name__ == '__main__':
    PLACE.write_text(text())
