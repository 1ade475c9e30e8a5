# SPDX-License-Identifier: Apache-2.0
"""The command ``nova-migcheck``. Its subcommands are entry points in ``nova_migcheck.cli``, each loaded when it is used."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any, Optional, Sequence

from cliff import app, commandmanager

#: Exit codes: what was found is all well; a failure; a warning, or it could not tell; the command itself broke.
OK, FAILURE, WARNING, BROKE = 0, 1, 2, 255
_USAGE = 2  # what argparse and cliff exit with when they do not understand the command line


class Commands(commandmanager.CommandManager):
    """The subcommands, imported when they are used: some need nova, the others must not wait for it nor fail with it."""

    def load_commands(self, namespace: str) -> None:
        """Find the entry points of ``namespace``. cliff itself would import them all."""
        self.group_list.append(namespace)
        found: Any = importlib.metadata.entry_points()
        points = found.select(group=namespace) if hasattr(found, 'select') else found.get(namespace, ())  # Python 3.9
        self.commands.update((point.name, point) for point in points)


class Migcheck(app.App):
    """The application. An error is one sentence on stderr, with a traceback under ``--debug`` only."""

    def __init__(self) -> None:
        super().__init__(description='Reject an unsafe live migration target before the migration starts',
                         version=_version(), command_manager=Commands('nova_migcheck.cli'),
                         deferred_help=True)
        self._broke = False

    def run_subcommand(self, argv: list[str]) -> int:
        """Run one command.

        :returns: its exit code, :data:`BROKE` when it raised or does not exist
        """
        try:
            self.command_manager.find_command(argv)
        except Exception as error:  # not known, or its module cannot be imported
            if self.options.debug and not isinstance(error, ValueError):
                raise
            self.LOG.error('%s', error)
            return BROKE
        result = super().run_subcommand(argv)
        return BROKE if self._broke else int(result)

    def clean_up(self, cmd: Any, result: int, err: Optional[Exception]) -> None:
        """Note what cliff would report as exit code 1, which here means a finding."""
        self._broke = err is not None


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point of the console script."""
    try:
        return int(Migcheck().run(list(sys.argv[1:] if argv is None else argv)))
    except KeyboardInterrupt:
        return 130  # as a shell has it for SIGINT
    except SystemExit as stop:
        return BROKE if stop.code == _USAGE else int(stop.code or 0)


def _version() -> str:
    try:
        return importlib.metadata.version('nova-migcheck')
    except importlib.metadata.PackageNotFoundError:  # run from the source tree
        return 'unknown'


if __name__ == '__main__':
    sys.exit(main())
