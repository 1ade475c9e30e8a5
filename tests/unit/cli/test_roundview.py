# SPDX-License-Identifier: Apache-2.0
"""A round on a terminal: nothing found, and nothing silent."""

from __future__ import annotations

import io

from nova_migcheck.cli import roundview
from nova_migcheck.cli.shown import age
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rounds.runner import Round

DEAD = Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8780', 'connection refused')


def shown(findings, *checks):
    out = io.StringIO()
    roundview.show(out, 'compute1', Round(started=1000, seconds=0.25, findings=findings), checks)
    return out.getvalue().splitlines()


def test_nothing_was_found() -> None:
    silent, total = shown([], 'cpu', 'tls')
    assert silent.endswith(' no findings: cpu, tls')
    assert total.startswith('compute1, ') and total.endswith(', took 0.2 s')


def test_no_check_was_silent() -> None:
    lines = shown([DEAD], 'endpoint')
    assert 'connection refused' in '\n'.join(lines) and 'no findings' not in '\n'.join(lines)
    assert lines[-1].startswith('1 failure on compute1, ')


def test_ages() -> None:
    assert [age(seconds) for seconds in (None, 0, 119, 120, 7200, 200000, -5)] == [
        '', '0 s', '119 s', '2 min', '2 h', '2 d', '-5 s']
