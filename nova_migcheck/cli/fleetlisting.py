# SPDX-License-Identifier: Apache-2.0
"""What the commands about all hosts share: Nova's databases, and what is said of a cell that is away."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Optional

from nova_migcheck.cli import main
from nova_migcheck.cli.listing import Listing, nova_is_installed, seconds

if TYPE_CHECKING:
    from nova_migcheck.novadb import fleet

# Worst last: a failure (1) outweighs a warning (2).
_SEVERITY = (main.OK, main.WARNING, main.FAILURE, main.BROKE)


class FleetListing(Listing):
    """A command that reads Nova's databases."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_timeout(parser)
        return parser

    def configure(self, parsed_args: argparse.Namespace) -> Any:
        """Nova's configuration, ready for its databases.

        :raises nova_migcheck.novadb.fleet.Unavailable: when it is not there
        """
        require_nova()
        from nova_migcheck.novadb import fleet
        self._timeout = parsed_args.cell_timeout
        conf = fleet.configure(parsed_args.config_file, parsed_args.config_dir)
        if conf.migcheck.mode != 'enforce' and parsed_args.formatter == 'table':
            self.say(f'[migcheck] mode = {conf.migcheck.mode} here: what is called rejected would be, in mode enforce.')
        return conf

    def read_fleet(self) -> fleet.Fleet:
        """All hosts. A cell that is away is said on stderr, and worsens the exit code."""
        from nova_migcheck.novadb import fleet
        found = fleet.read(self._timeout)
        for note in found.notes():
            self.say(f'{note}; its hosts are not shown.')
        if found.away:
            self.worsen(main.WARNING)
        return found

    def worsen(self, code: int) -> None:
        """Exit with ``code`` unless something worse was found."""
        self.code = max(self.code, code, key=_SEVERITY.index)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """The option ``--cell-timeout``."""
    parser.add_argument('--cell-timeout', metavar='SECONDS', type=seconds, default=20.0,
                        help="wait so long for Nova's global database, and so long for those of all cells together (default 20)")


def require_nova() -> None:
    """:raises ModuleNotFoundError: where Nova is not installed"""
    if not nova_is_installed():
        raise ModuleNotFoundError('Nova is not installed here: run this where nova-api or nova-conductor runs')


def age(seconds: Optional[float]) -> str:
    """An age for people."""
    if seconds is None:
        return ''
    sign, seconds = ('-', -seconds) if seconds < 0 else ('', seconds)
    for unit, length in (('d', 86400), ('h', 3600), ('min', 60)):
        if seconds >= 2 * length:
            return f'{sign}{seconds // length:.0f} {unit}'
    return f'{sign}{seconds:.0f} s'
