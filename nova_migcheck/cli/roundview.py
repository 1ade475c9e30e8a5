# SPDX-License-Identifier: Apache-2.0
"""A round of checks as a person reads it on a terminal."""

from __future__ import annotations

import time
from typing import Optional, Sequence, TextIO

from rich import text

from nova_migcheck.cli import terminal
from nova_migcheck.cli.columns import brief
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.rounds.runner import Round


def show(stdout: TextIO, host: str, outcome: Round, checks: Sequence[str]) -> None:
    """What was found, which checks found nothing, and the sum.

    :param host: what Nova calls this host
    :param checks: those that ran
    """
    out = terminal.on(stdout)
    if outcome.findings:
        out.print(terminal.findings(outcome.findings))
    found = {finding.check for finding in outcome.findings}
    silent = [check for check in checks if check not in found]
    if silent:
        out.print(text.Text().append_text(terminal.mark(Outcome.OK)).append(f' nothing to say: {", ".join(silent)}', 'dim'))
    total = terminal.total(outcome.findings)
    out.print(total.append(f'{" on " if total else ""}{host}, {_clock(outcome)}, took {outcome.seconds:.1f} s', 'default'))


def again(stdout: TextIO, host: str, outcome: Round, checks: Sequence[str], before: Optional[Round]) -> None:
    """The same in place of the round before, and how it differs from that."""
    out = terminal.on(stdout)
    out.clear()
    show(stdout, host, outcome, checks)
    if before is None:
        return
    old, new = _bad(before), _bad(outcome)
    for key in old.keys() - new.keys():
        out.print(text.Text(f'gone since {_clock(before)}: {brief(old[key])}', 'green'))
    for key in new.keys() - old.keys():
        out.print(text.Text(f'new since {_clock(before)}: {brief(new[key])}', terminal.STYLES[new[key].outcome.value]))


def _bad(outcome: Round) -> dict[tuple[str, str, Outcome], Finding]:
    return {(finding.check, finding.subject, finding.outcome): finding for finding in outcome.findings
            if finding.outcome is not Outcome.OK}


def _clock(outcome: Round) -> str:
    return time.strftime('%H:%M:%S', time.localtime(outcome.started))
