# SPDX-License-Identifier: Apache-2.0
"""Print a round of checks on a terminal."""

from __future__ import annotations

import time
from typing import Optional, Sequence, TextIO

from rich import text

from nova_migcheck.cli import terminal
from nova_migcheck.cli.columns import brief
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rounds.runner import Round


def show(stdout: TextIO, host: str, outcome: Round, checks: Sequence[str]) -> None:
    """Print the findings, the checks without findings, and the totals.

    :param host: the name of this host in Nova
    :param checks: the checks that ran
    """
    out = terminal.console_for(stdout)
    if outcome.findings:
        out.print(terminal.findings(outcome.findings))
    reporting = {finding.check for finding in outcome.findings}
    silent = [check for check in checks if check not in reporting]
    if silent:
        line = text.Text().append_text(terminal.mark(Outcome.OK))
        out.print(line.append(f' no findings: {", ".join(silent)}', 'dim'))
    total = terminal.total(outcome.findings)
    if total:
        total.append(' on ', 'default')
    out.print(total.append(f'{host}, {_clock(outcome)}, took {outcome.seconds:.1f} s', 'default'))


def again(stdout: TextIO, host: str, outcome: Round, checks: Sequence[str],
          before: Optional[Round]) -> None:
    """Replace the previous round on the screen, and print the differences."""
    out = terminal.console_for(stdout)
    out.clear()
    show(stdout, host, outcome, checks)
    if before is None:
        return
    old, new = _problems(before), _problems(outcome)
    since = f'since {_clock(before)}'
    for key in old.keys() - new.keys():
        out.print(text.Text(f'gone {since}: {brief(old[key])}', 'green'))
    for key in new.keys() - old.keys():
        style = terminal.STYLES[new[key].outcome.value]
        out.print(text.Text(f'new {since}: {brief(new[key])}', style))


def _problems(outcome: Round) -> dict[tuple[str, str, Outcome], Finding]:
    return {(finding.check, finding.subject, finding.outcome): finding
            for finding in outcome.findings if finding.outcome is not Outcome.OK}


def _clock(outcome: Round) -> str:
    return time.strftime('%H:%M:%S', time.localtime(outcome.started))
