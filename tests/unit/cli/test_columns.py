# SPDX-License-Identifier: Apache-2.0
"""The cells of a list, and a finding on a terminal."""

from __future__ import annotations

from nova_migcheck.cli import columns, terminal
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report.past import Past

DEAD = Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8780', 'connection refused',
               'keystone catalog', 'start placement', 'volumes')


def test_findings_are_a_line_each() -> None:
    short = Finding('clock', Outcome.WARNING, '', '+3 s')
    assert columns.Findings([DEAD, short]).human_readable() == (
        'endpoint: http://10.0.0.5:8780: connection refused (keystone catalog)\nclock: +3 s')


def test_objects_for_programs() -> None:
    past = Past(1764000000, 'in', 'c0ffeec0ffee', 'compute1', 'completed', 3700, 63, 2 ** 28,
                'mig0')
    assert columns.objects([DEAD, past]) == [DEAD.to_dict(), past.to_dict()]


def test_summary() -> None:
    assert columns.summary(Finding('a', Outcome.OK, 'mig0')) == 'mig0'
    assert columns.summary(Finding('a', Outcome.OK, 'mig0', 'mig0 is down')) == 'mig0 is down'


def test_a_paragraph_each() -> None:
    assert terminal.paragraphs(DEAD).plain == (
        'http://10.0.0.5:8780: connection refused (matters to servers with volumes)\n'
        'from keystone catalog\n→ start placement')
    well = Finding('address', Outcome.OK, 'mig0', 'mig0 is up', remedy='none is needed')
    assert terminal.paragraphs(well).plain == 'mig0 is up'
    assert terminal.paragraphs(Finding('address', Outcome.OK, 'mig0')).plain == 'mig0'
    assert terminal.paragraphs(Finding('address', Outcome.OK, '', 'all is up')).plain == 'all is up'
