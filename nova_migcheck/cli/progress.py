# SPDX-License-Identifier: Apache-2.0
"""Show a live line for each running check on a terminal. The lines are removed at the end."""

from __future__ import annotations

import time
from typing import Any, Optional, Sequence

from rich import constrain, live, spinner, table, text

from nova_migcheck.cli import terminal
from nova_migcheck.finding import Finding, Outcome, worst


class Live:
    """A callable :data:`nova_migcheck.rounds.runner.Progress`.

    :param brief: show one line with the names of the running checks
    """

    def __init__(self, stream: Any, names: Sequence[str], brief: bool = False) -> None:
        self._findings: dict[str, list[Finding]] = {name: [] for name in names}
        self._ended: dict[str, float] = {}
        self._started = time.monotonic()
        self._spinner = spinner.Spinner('dots')
        self._console = terminal.console_for(stream)
        self._rows = self._line if brief else self._row_each
        self._live = live.Live(get_renderable=self._render, console=self._console, transient=True,
                               refresh_per_second=10, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Live:
        try:
            self._live.start()
        except BaseException:  # Ctrl-C after the cursor was hidden
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: Any) -> None:
        try:
            self._live.stop()
        finally:
            # Ctrl-C can interrupt stop() before it shows the cursor.
            self._console.show_cursor(True)

    def __call__(self, check: str, finding: Optional[Finding]) -> None:
        """Record a finding, or the end of a check."""
        if finding is None:
            self._ended[check] = time.monotonic() - self._started
        else:
            self._findings.setdefault(check, []).append(finding)

    def _render(self) -> constrain.Constrain:
        # After Ctrl-C the terminal appends ^C to the line. If that wrapped, there would be one line
        # more than rich clears.
        return constrain.Constrain(self._rows(), max(1, self._console.width - len('^C') - 1))

    def _line(self) -> table.Table:
        grid = table.Table.grid(padding=(0, 1))
        running = ', '.join(name for name in self._findings if name not in self._ended)
        grid.add_row(self._spinner, text.Text(f'{time.monotonic() - self._started:4.1f} s', 'dim'),
                     text.Text(running, no_wrap=True, overflow='ellipsis'))
        return grid

    def _row_each(self) -> table.Table:
        grid = table.Table.grid(padding=(0, 1))
        for check, findings in self._findings.items():
            outcome = worst(finding.outcome for finding in findings)
            ended = self._ended.get(check)
            seconds = time.monotonic() - self._started if ended is None else ended
            mark = self._spinner if ended is None else terminal.mark(outcome)
            style = terminal.STYLES[outcome.value] if findings else ''
            grid.add_row(mark, check, text.Text(f'{seconds:4.1f} s', 'dim'),
                         text.Text(_latest(findings, outcome), style, no_wrap=True,
                                   overflow='ellipsis'))
        return grid


def _latest(findings: Sequence[Finding], outcome: Outcome) -> str:
    """Return the latest finding of an outcome in short, '' if there is none."""
    texts = (finding.detail or finding.subject if outcome is not Outcome.OK else finding.subject
             for finding in reversed(findings) if finding.outcome is outcome)
    return next(texts, '')
