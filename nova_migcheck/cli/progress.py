# SPDX-License-Identifier: Apache-2.0
"""A live line for each check while it runs, on a terminal only. Nothing of it stays."""

from __future__ import annotations

import time
from typing import Any, Optional, Sequence

from rich import constrain, live, spinner, table, text

from nova_migcheck.cli import terminal
from nova_migcheck.finding import Finding, Outcome, worst


class Live:
    """Called as a :data:`nova_migcheck.rounds.runner.Progress`.

    :param brief: one line that names the checks that still run
    """

    def __init__(self, stream: Any, names: Sequence[str], brief: bool = False) -> None:
        self._found: dict[str, list[Finding]] = {name: [] for name in names}
        self._ended: dict[str, float] = {}
        self._begun = time.monotonic()
        self._spinner = spinner.Spinner('dots')
        self._console = terminal.on(stream)
        self._rows = self._line if brief else self._row_each
        self._live = live.Live(get_renderable=self._render, console=self._console, transient=True, refresh_per_second=10,
                               redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Live:
        try:
            self._live.start()
        except BaseException:  # Ctrl-C between hiding the cursor and here
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: Any) -> None:
        try:
            self._live.stop()
        finally:
            # stop() itself may be interrupted before it comes to this.
            self._console.show_cursor(True)

    def __call__(self, check: str, finding: Optional[Finding]) -> None:
        """Note a finding, or a check's end."""
        if finding is None:
            self._ended[check] = time.monotonic() - self._begun
        else:
            self._found.setdefault(check, []).append(finding)

    def _render(self) -> constrain.Constrain:
        # The terminal writes ^C behind it when it is interrupted. In the next line that would be one line more than is cleared.
        return constrain.Constrain(self._rows(), max(1, self._console.width - len('^C') - 1))

    def _line(self) -> table.Table:
        grid = table.Table.grid(padding=(0, 1))
        running = ', '.join(name for name in self._found if name not in self._ended)
        grid.add_row(self._spinner, text.Text(f'{time.monotonic() - self._begun:4.1f} s', 'dim'),
                     text.Text(running, no_wrap=True, overflow='ellipsis'))
        return grid

    def _row_each(self) -> table.Table:
        grid = table.Table.grid(padding=(0, 1))
        for check, found in self._found.items():
            outcome = worst(finding.outcome for finding in found)
            latest = next((finding for finding in reversed(found) if finding.outcome is outcome), None)
            ended = self._ended.get(check)
            now = time.monotonic() - self._begun if ended is None else ended
            mark = self._spinner if ended is None else terminal.mark(outcome)
            words = latest.subject if latest and outcome is Outcome.OK else (latest.detail or latest.subject) if latest else ''
            grid.add_row(mark, check, text.Text(f'{now:4.1f} s', 'dim'),
                         text.Text(words, terminal.STYLES.get(outcome.value, '') if found else '', no_wrap=True, overflow='ellipsis'))
        return grid
