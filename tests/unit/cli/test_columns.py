# SPDX-License-Identifier: Apache-2.0
"""What one cell of a list holds, and how a finding is told on a terminal."""

from __future__ import annotations

from nova_migcheck.cli import columns, terminal
from nova_migcheck.finding import Finding, Outcome

DEAD = Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8780', 'connection refused', 'keystone catalog', 'start placement', 'volumes')


def test_findings_are_a_line_each() -> None:
    short = Finding('clock', Outcome.WARNING, '', '+3 s')
    assert columns.Findings([DEAD.to_dict(), short.to_dict()]).human_readable() == (
        'endpoint: http://10.0.0.5:8780: connection refused (keystone catalog)\nclock: +3 s')


def test_words() -> None:
    assert columns.Words({'cpu': 'ok', 'tls': 'failure'}).human_readable() == 'cpu=ok tls=failure'
    assert columns.Words(['guests', 'remedies']).human_readable() == 'guests remedies'


def test_what_is_said_of_what() -> None:
    assert columns.said(Finding('a', Outcome.OK, 'mig0')) == 'mig0'
    assert columns.said(Finding('a', Outcome.OK, 'mig0', 'mig0 is down')) == 'mig0 is down'


def test_a_paragraph_each() -> None:
    assert terminal.told(DEAD).plain == ('http://10.0.0.5:8780: connection refused (matters to servers with volumes)\n'
                                         'from keystone catalog\n→ start placement')
    well = Finding('address', Outcome.OK, 'mig0', 'mig0 is up', remedy='none is needed')
    assert terminal.told(well).plain == 'mig0 is up'
    assert terminal.told(Finding('address', Outcome.OK, 'mig0')).plain == 'mig0'
    assert terminal.told(Finding('address', Outcome.OK, '', 'all is up')).plain == 'all is up'
