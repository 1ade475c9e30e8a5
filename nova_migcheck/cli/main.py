# SPDX-License-Identifier: Apache-2.0
"""Run the command ``nova-migcheck``.

Its subcommands are entry points in ``nova_migcheck.cli``. Each is loaded when it is used.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any, Optional, Sequence

from cliff import app, commandmanager

#: Exit codes: all is well; a failure; a warning or an unknown result; the command itself failed.
OK, FAILURE, WARNING, BROKE = 0, 1, 2, 255
_USAGE = 2  # exit code of argparse and cliff for a wrong command line


class Commands(commandmanager.CommandManager):
    """The subcommands, each imported when it is used.

    Some need Nova. The others must not fail if its import does, nor take as long as it does.
    """

    def load_commands(self, namespace: str) -> None:
        """Find the entry points of ``namespace`` without importing them, unlike cliff."""
        self.group_list.append(namespace)
        found: Any = importlib.metadata.entry_points()
        if hasattr(found, 'select'):
            points = found.select(group=namespace)
        else:  # Python 3.9
            points = found.get(namespace, ())
        self.commands.update((point.name, point) for point in points)


class Migcheck(app.App):
    """The application. An error is one sentence on stderr, and a traceback with ``--debug``."""

    def __init__(self) -> None:
        super().__init__(
            description='Reject an unsafe live migration target before the migration starts',
            version=importlib.metadata.version('nova-migcheck'),
            command_manager=Commands('nova_migcheck.cli'), deferred_help=True)
        self._broke = False

    def run_subcommand(self, argv: list[str]) -> int:
        """Run one command, and return its exit code.

        It is :data:`BROKE` if the command raised or does not exist.
        """
        try:
            self.command_manager.find_command(argv)
        except Exception as error:  # it does not exist, or its module cannot be imported
            if self.options.debug and not isinstance(error, ValueError):
                raise
            self.LOG.error('%s', error)
            return BROKE
        result = super().run_subcommand(argv)
        return BROKE if self._broke else int(result)

    def clean_up(self, cmd: Any, result: int, err: Optional[Exception]) -> None:
        """Record that a command failed. cliff would exit with 1, which means a finding here."""
        self._broke = err is not None


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the console script, and return its exit code."""
    try:
        return int(Migcheck().run(list(sys.argv[1:] if argv is None else argv)))
    except KeyboardInterrupt:
        return 130  # like a shell for SIGINT
    except SystemExit as stop:
        return BROKE if stop.code == _USAGE else int(stop.code or 0)


if __name__ == '__main__':
    sys.exit(main())
