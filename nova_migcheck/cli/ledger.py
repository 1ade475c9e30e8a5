# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck ledger``: show how often the checks were right."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, Mapping, Sequence

from nova_migcheck.aftermath import accounts, traffic
from nova_migcheck.aftermath import ledger as ledgers
from nova_migcheck.cli.check import configuration
from nova_migcheck.cli.fleetlisting import FleetListing

# Bytes that are read of one file: more than the option allows.
_MOST = 1 << 30
_RATE = 'mib_per_second'


class Ledger(FleetListing):
    """Show what was decided about live migrations, and what became of them.

    For each check it shows how often it rejected a target, and whether the migration worked or
    failed where it was tried all the same, as with "mode = report". The rows in brackets are the
    migrations that no check rejected. nova-compute keeps a ledger on each host; give the files of
    all hosts, and the two hosts of a migration are put together. Rehearsals are in the same files,
    and shown apart.
    """

    EXAMPLES = (
        ('ledger', 'of this host'),
        ('ledger compute1.jsonl compute2.jsonl', 'of some hosts, whose files were copied to here'),
        ('ledger --published', 'of all hosts, the last migrations that each has published'),
        ('ledger --migrations -f json', 'each migration, for a program'),
        ('ledger --rehearsals', 'of rehearsals, in place of migrations'),
        ('ledger --rates compute1.jsonl compute2.jsonl',
         'the rate between each two hosts in MiB per second, as rehearsals have measured it'),
    )
    CODES = '0 it is shown, 2 a cell cannot be read, 255 the command itself failed.'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('files', metavar='FILE', nargs='*',
                            help=f'ledgers of hosts; default: {ledgers.NAME} in the state_path of '
                                 'this host')
        parser.add_argument('--published', action='store_true',
                            help="show what all hosts have published, from Nova's databases; it "
                                 'has no decisions')
        parser.add_argument('--migrations', action='store_true',
                            help='list the migrations instead of counting them')
        parser.add_argument('--rehearsals', action='store_true',
                            help='show what nova-migcheck rehearse has tried, in place of '
                                 'migrations')
        parser.add_argument('--rates', action='store_true',
                            help='show the rates that rehearsals have measured')
        return parser

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Read the ledgers, and return the columns and the rows.

        :raises ValueError: if a file cannot be read
        """
        if parsed_args.published and parsed_args.files:
            raise ValueError('--published reads no FILE')
        found = self._published(parsed_args) if parsed_args.published else self._read(parsed_args)
        nested = self.nested(parsed_args)
        if parsed_args.rates:
            return _rates(accounts.rates(found), nested)
        if parsed_args.migrations:
            names: tuple[str, ...] = ('time', 'source', 'target', 'instance', 'verdict',
                                      'rejections', 'ended', 'error')
            if parsed_args.rehearsals:
                names += (_RATE,)
            return names, [_row(one, names, nested) for one in found]
        return ('check', 'decided', 'not tried', 'worked', 'failed', 'words'), [
            (check, one.decided, one.untried, one.worked, one.failed,
             dict(one.words) if nested else '\n'.join(one.texts()))
            for check, one in accounts.by_check(found).items()]

    def _published(self, parsed_args: argparse.Namespace) -> list[accounts.Move]:
        self.configure(parsed_args)
        rehearsals = parsed_args.rehearsals or parsed_args.rates
        return [accounts.of_past(host.name, one) for host in self.read_fleet().hosts if host.report
                for one in (host.report.rehearsals if rehearsals else host.report.migrations)]

    def _read(self, parsed_args: argparse.Namespace) -> list[accounts.Move]:
        paths = parsed_args.files
        if not paths:
            conf = configuration(parsed_args, self.say)
            paths = [os.path.join(conf.state_path, ledgers.NAME)]
            if not os.path.exists(paths[0]):
                self.say(f'There is no {paths[0]}: nova-compute writes it with its first decision '
                         'about a live migration.')
                return []
        for path in paths:
            try:
                with open(path, 'rb'):
                    pass
            except OSError as e:
                raise ValueError(f'{path} cannot be read: {e.strerror}') from e
        put_together = (accounts.rehearsals if parsed_args.rehearsals or parsed_args.rates
                        else accounts.moves)
        return put_together(ledgers.read(path, _MOST) for path in paths)


def _rates(found: Mapping[tuple[str, str], accounts.Move], nested: bool
           ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Return a row for each pair; for people a matrix with a row for each source."""
    if nested:
        return ('source', 'target', 'time', _RATE), [
            (*pair, one.time, traffic.mebibytes(one.rate)) for pair, one in sorted(found.items())]
    targets, lines = accounts.matrix(found)
    return ('from \\ to (MiB/s)', *targets), lines


def _row(one: accounts.Move, names: Sequence[str], nested: bool) -> tuple[Any, ...]:
    values = {**one.to_dict(), _RATE: traffic.mebibytes(one.rate)}
    if not nested:
        values['time'] = time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime(one.time))
        values['rejections'] = '\n'.join(values['rejections'])
    return tuple(values[name] for name in names)
