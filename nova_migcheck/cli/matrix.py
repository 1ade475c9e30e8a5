# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck matrix``: every source against every target."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, Sequence

from nova_migcheck import hostranges
from nova_migcheck.cli import main
from nova_migcheck.cli.columns import Findings, Words, brief
from nova_migcheck.cli.explain import BEYOND
from nova_migcheck.cli.fleetlisting import FleetListing
from nova_migcheck.cli.listing import write
from nova_migcheck.finding import printable
from nova_migcheck.judging import matrix as matrices
from nova_migcheck.judging.matrix import State
from nova_migcheck.judging.verdict import Verdict
from nova_migcheck.policies import Policies

# Names and ranges of names that a line for people has.
_MOST = 12
_EXIT = {State.ACCEPTED: main.OK, State.WARNED: main.WARNING, State.REJECTED: main.FAILURE}


class Matrix(FleetListing):
    """Show for every source and every target whether live migrations are accepted, and why not.

    Hosts that are alike are folded into one line. A server is taken to have the CPU that its host gives by default.
    """

    EXAMPLES = (
        ('matrix', 'the whole fleet'),
        ('matrix --html matrix.html', 'as a page to click through'),
        ('matrix --server-cpu', 'with a line of their own for servers whose CPU is not what their host gives by default'),
        ('matrix -f json', 'for a program: each pair of groups of alike hosts'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--html', metavar='FILE', help='write a page that needs no network instead of printing')
        parser.add_argument('--server-cpu', action='store_true', help='judge servers with a CPU of their own apart')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        conf = self.configure(parsed_args)
        fleet = self.read_fleet()
        matrix = matrices.build(fleet.hosts, Policies.from_conf(conf.migcheck), conf.migcheck, time.time(), parsed_args.server_cpu)
        folded = list(matrix.folded())
        for _sources, _targets, state, _verdict in folded:
            self.worsen(_EXIT[state])
        if parsed_args.html is not None:
            self._page(parsed_args.html, matrix, fleet, conf)
            return self.done()
        if self.on_terminal(parsed_args) and not parsed_args.columns:
            from nova_migcheck.cli import grid
            grid.show(matrix, self.app.stdout)
            return self.done()
        if self.nested(parsed_args):
            return ('sources', 'targets', 'verdict', 'cell', 'servers', 'rejections', 'warnings'), [
                _whole(matrix, *group) for group in folded]
        return ('sources', 'targets', 'verdict', 'cell', 'reasons'), [_flat(matrix, *group) for group in folded]

    def _page(self, path: str, matrix: matrices.Matrix, fleet: Any, conf: Any) -> None:
        from nova_migcheck.cli import matrixpage
        notes = [f'{note}; its hosts are not shown.' for note in fleet.notes()]
        if conf.migcheck.mode != 'enforce':
            notes.append(f'[migcheck] mode = {conf.migcheck.mode}: what is called rejected would be, in mode enforce.')
        umask = os.umask(0)
        os.umask(umask)
        write(path, matrixpage.render(matrix, notes, BEYOND), mode=0o666 & ~umask)
        self.say(f'{path}: {len(fleet.hosts)} hosts.')


def _named(matrix: matrices.Matrix, sources: Sequence[matrices.Row], targets: Sequence[int]) -> tuple[list[str], list[str], list[str]]:
    """(names of the sources, names of the targets, the sources' own servers)"""
    return ([matrix.hosts[row.host].name for row in sources], [matrix.hosts[target].name for target in targets],
            [uuid for row in sources for uuid in row.who])


def _whole(matrix: matrices.Matrix, sources: list[matrices.Row], targets: list[int], state: State, verdict: Verdict) -> tuple[Any, ...]:
    """For programs."""
    left, right, who = _named(matrix, sources, targets)
    return (Words(left), Words(right), str(state), matrix.hosts[targets[0]].cell, Words(who),
            Findings([f.to_dict() for f in verdict.rejections]), Findings([f.to_dict() for f in verdict.warnings]))


def _flat(matrix: matrices.Matrix, sources: list[matrices.Row], targets: list[int], state: State, verdict: Verdict) -> tuple[str, ...]:
    """A line of text."""
    left, right, who = _named(matrix, sources, targets)
    servers = f' ({len(who)} of their servers)' if who else ''
    return (printable(hostranges.fold(left, _MOST)) + servers, printable(hostranges.fold(right, _MOST)), str(state),
            printable(matrix.hosts[targets[0]].cell), '\n'.join(brief(f) for f in (*verdict.rejections, *verdict.warnings)))
