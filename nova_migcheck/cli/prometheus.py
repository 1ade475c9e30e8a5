# SPDX-License-Identifier: Apache-2.0
"""A round of checks in Prometheus' text format, for the textfile collector of node_exporter."""

from __future__ import annotations

from typing import Optional, Sequence

from nova_migcheck.aftermath import tally as tallies
from nova_migcheck.aftermath.tally import Tally
from nova_migcheck.cli.listing import write as write_file
from nova_migcheck.finding import Outcome, worst
from nova_migcheck.rounds.runner import Round


def write(path: str, outcome: Round, checks: Sequence[str], tally: Optional[Tally] = None) -> None:
    """Replace ``path`` in one step, so that no reader sees half of it.

    :param checks: those that ran, the ones without a finding included
    :param tally: what nova-compute counted, None when it left nothing
    :raises ValueError: when it cannot be written
    """
    write_file(path, text(outcome, checks, tally), durable=True)


def text(outcome: Round, checks: Sequence[str], tally: Optional[Tally] = None) -> str:
    """The metrics. The age of the last round is ``time() - nova_migcheck_round_timestamp_seconds``."""
    # One check may report under several names: that of endpoints also tells of the clock.
    checks = [*checks, *dict.fromkeys(finding.check for finding in outcome.findings if finding.check not in checks)]
    lines = [
        '# HELP nova_migcheck_check Whether the check has this outcome now (1) or not (0).',
        '# TYPE nova_migcheck_check gauge',
    ]
    for check in checks:
        found = worst(finding.outcome for finding in outcome.findings if finding.check == check)
        lines += [f'nova_migcheck_check{{check="{_label(check)}",outcome="{each}"}} {int(each is found)}' for each in Outcome]
    lines += [
        '# HELP nova_migcheck_findings How many things the check found, by outcome.',
        '# TYPE nova_migcheck_findings gauge',
    ]
    for check in checks:
        outcomes = [finding.outcome for finding in outcome.findings if finding.check == check]
        lines += [f'nova_migcheck_findings{{check="{_label(check)}",outcome="{each}"}} {outcomes.count(each)}' for each in Outcome]
    lines += [
        '# HELP nova_migcheck_check_cpu_seconds CPU time that the check used, of those that came to their end.',
        '# TYPE nova_migcheck_check_cpu_seconds gauge',
        *(f'nova_migcheck_check_cpu_seconds{{check="{_label(check)}"}} {seconds:g}' for check, seconds in outcome.cpu_seconds.items()),
        '# HELP nova_migcheck_round_seconds How long the last round of checks took.',
        '# TYPE nova_migcheck_round_seconds gauge',
        f'nova_migcheck_round_seconds {outcome.seconds:.3f}',
        '# HELP nova_migcheck_round_timestamp_seconds When the last round of checks began.',
        '# TYPE nova_migcheck_round_timestamp_seconds gauge',
        f'nova_migcheck_round_timestamp_seconds {outcome.started:.3f}',
        *(tallies.prometheus(tally) if tally is not None else ()),
    ]
    return '\n'.join(lines) + '\n'


def _label(value: str) -> str:
    return value.replace('\\', r'\\').replace('"', r'\"').replace('\n', r'\n')
