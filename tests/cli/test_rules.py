# SPDX-License-Identifier: Apache-2.0
"""The alerts fire and are silent as promtool says, on metrics that the commands write."""

from __future__ import annotations

import pathlib
import re
import subprocess

from tests.cli.commands import piped
from tests.cli.databases import conf
from tests.prometheus import ALERTS, ROOT, RULES

#: Written by nova-compute's own host: tests/cli/test_prometheus.py has them scraped.
OF_MIGRATIONS = {'nova_migcheck_migrations_total', 'nova_migcheck_migration_strayed_total'}


def promtool(*words: str) -> None:
    done = subprocess.run(['promtool', *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_right() -> None:
    promtool('check', 'rules', str(RULES))


def test_they_fire_and_are_silent(tmp_path: pathlib.Path) -> None:
    test = tmp_path / 'test.yml'
    text = (ROOT / 'tests/cli/migcheck.rules.test.yml').read_text()
    test.write_text(text.replace('RULES', str(RULES)))
    promtool('test', 'rules', str(test))
    tested = set(re.findall(r'alertname: (\w+)', test.read_text()))
    assert tested == {alert['alert'] for alert in ALERTS}


def test_the_metrics_are_there(three, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'fleet.prom'
    piped(tmp_path, 'hosts', conf(three), '--prometheus', str(path))
    written = set(re.findall(r'^(nova_migcheck_\w+)', path.read_text(), re.M)) | OF_MIGRATIONS
    for alert in ALERTS:
        assert set(re.findall(r'nova_migcheck_\w+', alert['expr'])) <= written, alert['alert']
