# SPDX-License-Identifier: Apache-2.0
"""Share what the commands about all hosts need: Nova's databases and cells that cannot be read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nova_migcheck.cli import main
from nova_migcheck.cli.listing import Listing, nova_is_installed, seconds
from nova_migcheck.judging.matrix import State

if TYPE_CHECKING:
    from nova_migcheck.novadb import fleet

#: State of a migration -> exit code.
EXIT_OF_STATE = {State.ACCEPTED: main.OK, State.WARNED: main.WARNING, State.REJECTED: main.FAILURE}

# Exit codes, the worst last: a failure (1) outweighs a warning (2).
_SEVERITY = (main.OK, main.WARNING, main.FAILURE, main.BROKE)


class FleetListing(Listing):
    """A command that reads Nova's databases."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser, with the options of all such commands."""
        parser = super().get_parser(prog_name)
        add_timeout(parser)
        return parser

    def configure(self, parsed_args: argparse.Namespace) -> Any:
        """Return Nova's configuration, with its databases set up.

        :raises nova_migcheck.novadb.fleet.Unavailable: when there is none
        """
        require_nova()
        from nova_migcheck.novadb import fleet
        self._timeout = parsed_args.cell_timeout
        conf = fleet.configure(parsed_args.config_file, parsed_args.config_dir)
        if parsed_args.formatter == 'table':
            for note in mode_notes(conf):
                self.say(note)
        return conf

    def read_fleet(self) -> fleet.Fleet:
        """Return all hosts. A cell that cannot be read is a remark and worsens the exit code."""
        from nova_migcheck.novadb import fleet
        result = fleet.read(self._timeout)
        for note in cell_notes(result):
            self.say(note)
        if result.unreachable:
            self.worsen(main.WARNING)
        return result

    def worsen(self, code: int) -> None:
        """Exit with ``code`` unless the exit code is already worse."""
        self.code = max(self.code, code, key=_SEVERITY.index)


def mode_notes(conf: Any) -> list[str]:
    """Return a remark if the configured mode does not reject anything."""
    if conf.migcheck.mode == 'enforce':
        return []
    return [f'[migcheck] mode = {conf.migcheck.mode}: "rejected" means that mode = enforce would '
            'reject it.']


def cell_notes(fleet: fleet.Fleet) -> list[str]:
    """Return a remark for each cell that cannot be read."""
    return [f'{note}; its hosts are not shown.' for note in fleet.notes()]


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--cell-timeout``."""
    parser.add_argument(
        '--cell-timeout', metavar='SECONDS', type=seconds, default=20.0,
        help="seconds to wait for Nova's global database, and again for the databases of all cells "
             'together (default: 20)')


def require_nova() -> None:
    """Check that Nova is installed.

    :raises ModuleNotFoundError: when it is not
    """
    if not nova_is_installed():
        raise ModuleNotFoundError(
            'Nova is not installed here: run this where nova-api or nova-conductor runs')
