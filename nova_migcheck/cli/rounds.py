# SPDX-License-Identifier: Apache-2.0
"""Run rounds of checks like nova-compute does, with live lines on a terminal."""

from __future__ import annotations

import contextlib
from typing import Any, Mapping, Optional

from oslo_config import cfg

from nova_migcheck.rounds import runner
from nova_migcheck.rounds.reader import Reader


class Rounds:
    """The rounds of one call of the command.

    :ivar conf: with ``[migcheck]``
    :param checks: the checks to run
    :param target: the host to check the path to
    :param connect: the address of the target; default: its name
    :param stderr: where the live lines go if it is a terminal
    :param brief: one live line for all checks, because the last round's findings stay above it
    :param facts: what the target has published, if that is known
    """

    def __init__(self, conf: Any, checks: dict[str, runner.Loaded], target: Optional[str],
                 connect: Optional[str], stderr: Any, brief: bool = False,
                 facts: Optional[Mapping[str, Any]] = None) -> None:
        self.conf, self._reader, self._checks = conf, Reader(conf), checks
        self._stderr, self._brief = stderr, brief
        self._target = {'migration': {}, **(facts or {}), 'host': target,
                        'connect': connect or target} if target else None
        self._runner = runner.Runner(checks)
        self._memory: dict[str, Any] = {}

    @property
    def host(self) -> str:
        """Return the name of this host in Nova."""
        return str(self.conf.host)

    @property
    def state_path(self) -> str:
        """Return the directory of nova-compute's state, '' if the option is not registered."""
        try:
            return str(self.conf.state_path)
        except cfg.NoSuchOptError:  # Nova is not installed here
            return ''

    @property
    def names(self) -> list[str]:
        """Return the names of the checks."""
        return list(self._checks)

    def run(self) -> runner.Round:
        """Run one round."""
        settings = {}
        for name, loaded in self._checks.items():
            if loaded.check is None:
                settings[name] = self._reader.nothing()
            elif loaded.check.WHEN == 'path':
                settings[name] = self._reader.read(loaded.check, target=self._target)
            else:
                settings[name] = self._reader.read(loaded.check, self._memory.get(name))
        live: Any = contextlib.nullcontext()
        if self._stderr.isatty():
            from nova_migcheck.cli import progress
            live = progress.Live(self._stderr, self.names, self._brief)
        with live as shown:
            outcome = self._runner.run(settings, self.conf.migcheck.round_deadline, shown)
        self._memory.update(outcome.memory)
        return outcome
