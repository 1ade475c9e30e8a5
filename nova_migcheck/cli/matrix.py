# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck matrix``: judge every source against every target."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, Sequence

from nova_migcheck import hostranges
from nova_migcheck.cli.columns import brief, objects
from nova_migcheck.cli.explain import BEYOND
from nova_migcheck.cli.fleetlisting import EXIT_OF_STATE, FleetListing, cell_notes, mode_notes
from nova_migcheck.cli.listing import write
from nova_migcheck.finding import printable
from nova_migcheck.judging import matrix as matrices
from nova_migcheck.judging.matrix import Row, State
from nova_migcheck.judging.verdict import Verdict
from nova_migcheck.policies import Policies

# Maximum number of names and ranges of names in a line for people.
_MOST = 12


class Matrix(FleetListing):
    """Show for every source and every target whether live migrations are accepted, and why not.

    Equal hosts are folded into one line. Servers are assumed to have the CPU that their host gives
    by default.
    """

    EXAMPLES = (
        ('matrix', 'the whole fleet'),
        ('matrix --html matrix.html', 'as an interactive page'),
        ('matrix --server-cpu',
         "with separate lines for servers whose CPU is not their host's default"),
        ('matrix -f json', 'for a program: each pair of groups of equal hosts'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--html', metavar='FILE',
                            help='write a page that needs no network, instead of printing')
        parser.add_argument('--server-cpu', action='store_true',
                            help="judge servers whose CPU is not their host's default separately")
        return parser

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Judge the pairs of hosts, and return the columns and the rows."""
        conf = self.configure(parsed_args)
        fleet = self.read_fleet()
        matrix = matrices.build(fleet.hosts, Policies.from_conf(conf.migcheck), conf.migcheck,
                                time.time(), parsed_args.server_cpu)
        folded = list(matrix.folded())
        for _sources, _targets, state, _verdict in folded:
            self.worsen(EXIT_OF_STATE[state])
        if parsed_args.html is not None:
            notes = [*cell_notes(fleet), *mode_notes(conf)]
            self._write_page(parsed_args.html, matrix, notes)
            return self.done()
        if self.drawn(parsed_args):
            from nova_migcheck.cli import grid
            grid.show(matrix, self.app.stdout)
            return self.done()
        names = ('sources', 'targets', 'verdict', 'cell')
        if self.nested(parsed_args):
            return ((*names, 'servers', 'rejections', 'warnings'),
                    [_nested_row(matrix, *group) for group in folded])
        return (*names, 'reasons'), [_flat_row(matrix, *group) for group in folded]

    def _write_page(self, path: str, matrix: matrices.Matrix, notes: list[str]) -> None:
        from nova_migcheck.cli import matrixpage
        umask = os.umask(0)
        os.umask(umask)
        write(path, matrixpage.render(matrix, notes, BEYOND), mode=0o666 & ~umask)
        self.say(f'{path}: {len(matrix.hosts)} hosts.')


def _named(matrix: matrices.Matrix, sources: Sequence[Row],
           targets: Sequence[int]) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the sources and of the targets, and the sources' own servers."""
    return ([matrix.hosts[row.host].name for row in sources],
            [matrix.hosts[target].name for target in targets],
            [uuid for row in sources for uuid in row.who])


def _nested_row(matrix: matrices.Matrix, sources: list[Row], targets: list[int], state: State,
                verdict: Verdict) -> tuple[Any, ...]:
    left, right, servers = _named(matrix, sources, targets)
    return (left, right, str(state), matrix.hosts[targets[0]].cell, servers,
            objects(verdict.rejections), objects(verdict.warnings))


def _flat_row(matrix: matrices.Matrix, sources: list[Row], targets: list[int], state: State,
              verdict: Verdict) -> tuple[str, ...]:
    left, right, servers = _named(matrix, sources, targets)
    sources_shown = printable(hostranges.fold(left, _MOST))
    if servers:
        sources_shown = f'{sources_shown} ({len(servers)} of their servers)'
    reasons = '\n'.join(brief(finding) for finding in (*verdict.rejections, *verdict.warnings))
    return (sources_shown, printable(hostranges.fold(right, _MOST)), str(state),
            printable(matrix.hosts[targets[0]].cell), reasons)
