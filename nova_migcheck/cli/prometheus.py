# SPDX-License-Identifier: Apache-2.0
"""Write a round of checks in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

from typing import Optional, Sequence

from nova_migcheck.aftermath import tally as tallies
from nova_migcheck.aftermath.tally import Tally
from nova_migcheck.cli.listing import write as write_file
from nova_migcheck.finding import Outcome, worst
from nova_migcheck.rounds.runner import Round


def write(path: str, outcome: Round, checks: Sequence[str], tally: Optional[Tally] = None) -> None:
    """Replace ``path`` in one step, so that no reader sees half of it.

    :param checks: the checks that ran, also those without a finding
    :param tally: nova-compute's counters, None if there are none
    :raises ValueError: when the file cannot be written
    """
    write_file(path, text(outcome, checks, tally), durable=True)


def text(outcome: Round, checks: Sequence[str], tally: Optional[Tally] = None) -> str:
    """Return the metrics.

    The age of the last round is ``time() - nova_migcheck_round_timestamp_seconds``.
    """
    outcomes: dict[str, list[Outcome]] = {check: [] for check in checks}
    # A check may report under a second name: the endpoint check also reports the clock.
    for finding in outcome.findings:
        outcomes.setdefault(finding.check, []).append(finding.outcome)
    is_outcome = [f'nova_migcheck_check{_labels(check, each)} {int(each is worst(of_check))}'
                  for check, of_check in outcomes.items() for each in Outcome]
    counts = [f'nova_migcheck_findings{_labels(check, each)} {of_check.count(each)}'
              for check, of_check in outcomes.items() for each in Outcome]
    cpu_seconds = [f'nova_migcheck_check_cpu_seconds{_labels(check)} {seconds:g}'
                   for check, seconds in outcome.cpu_seconds.items()]
    return '\n'.join([
        '# HELP nova_migcheck_check Whether the check has this outcome now (1) or not (0).',
        '# TYPE nova_migcheck_check gauge',
        *is_outcome,
        '# HELP nova_migcheck_findings Number of findings of the check, by outcome.',
        '# TYPE nova_migcheck_findings gauge',
        *counts,
        '# HELP nova_migcheck_check_cpu_seconds CPU time of each check that finished.',
        '# TYPE nova_migcheck_check_cpu_seconds gauge',
        *cpu_seconds,
        '# HELP nova_migcheck_round_seconds Duration of the last round of checks.',
        '# TYPE nova_migcheck_round_seconds gauge',
        f'nova_migcheck_round_seconds {outcome.seconds:.3f}',
        '# HELP nova_migcheck_round_timestamp_seconds When the last round of checks began.',
        '# TYPE nova_migcheck_round_timestamp_seconds gauge',
        f'nova_migcheck_round_timestamp_seconds {outcome.started:.3f}',
        *(tallies.prometheus(tally) if tally is not None else ()),
    ]) + '\n'


def escaped(value: str) -> str:
    """Return the value of a label as the format has it."""
    return value.replace('\\', r'\\').replace('"', r'\"').replace('\n', r'\n')


def _labels(check: str, outcome: Optional[Outcome] = None) -> str:
    labels = f'check="{escaped(check)}"'
    if outcome is not None:
        labels += f',outcome="{outcome}"'
    return f'{{{labels}}}'
