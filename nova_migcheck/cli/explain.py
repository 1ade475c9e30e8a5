# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck explain``: for one server, each host: would it be accepted as a live migration target now, and why not."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Optional, Sequence

from nova_migcheck.cli import main
from nova_migcheck.cli.columns import Findings, Migrations
from nova_migcheck.cli.fleetlisting import FleetListing
from nova_migcheck.finding import printable
from nova_migcheck.judging import targets
from nova_migcheck.judging.matrix import State, alike, state
from nova_migcheck.judging.verdict import Verdict
from nova_migcheck.policies import Policies

if TYPE_CHECKING:
    from nova_migcheck.novadb import fleet

SOURCE = 'source'
_EXIT = {State.ACCEPTED: main.OK, State.WARNED: main.WARNING, State.REJECTED: main.FAILURE}

BEYOND = ("Judged by what the hosts have published, as the scheduler's filter does. Not looked at: Nova's other filters and weights, free "
          "resources and placement, aggregates, server groups, Nova's own CPU comparison; and what nova-compute checks afresh when the "
          'migration is decided (the CPU as it is then, the path from the source).')


class Explain(FleetListing):
    """Explain for one server which hosts it can be live-migrated to, and what stands in the way of the others."""

    EXAMPLES = (
        ('explain web1', 'all hosts of its cell'),
        ('explain 2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11 --host compute2', 'one host; exit code 0 if it would be accepted'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='its name or its UUID')
        parser.add_argument('--host', metavar='HOST', help='this host only')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        conf = self.configure(parsed_args)
        from nova_migcheck.novadb import fleet
        # The fleet first: a cell that has not answered is not waited for again.
        found = self.read_fleet()
        server = fleet.server(parsed_args.server, parsed_args.cell_timeout, found.away)
        hosts = _candidates(found, server, parsed_args.host)
        now = time.time()
        judged = [Judged(host, None if host.name == server.host else state(verdict), verdict,
                         alike(verdict, host.report, now, conf.migcheck.stale_after))
                  for host, verdict in judge(server, found, hosts, conf.migcheck, now)]
        for one in judged:
            if one.state is not None:
                self.worsen(_EXIT[one.state])
        if parsed_args.formatter == 'table':
            others = len(found.hosts) - len(hosts)
            self.say(f'Server {printable(server.name)} ({server.uuid}) is {server.state} on {printable(server.host)}'
                     + (f', in cell {printable(server.cell)}; hosts of other cells ({others}) are no targets.'
                        if others and not parsed_args.host else '.'))
            self.say(BEYOND)
        if self.on_terminal(parsed_args) and not parsed_args.columns:
            from nova_migcheck.cli import overview
            overview.explained(self.app.stdout, judged)
            return self.done()
        if self.nested(parsed_args):
            return ('server', 'host', 'cell', 'service', 'verdict', 'rejections', 'warnings', 'migrations'), [
                (server.uuid, *_whole(one)) for one in judged]
        return ('host', 'service', 'verdict', 'reasons'), [
            (printable(one.host.name), one.host.service, one.word,
             self.reasons(parsed_args, [f.to_dict() for f in (*one.verdict.rejections, *one.verdict.warnings)])) for one in judged]


@dataclasses.dataclass(frozen=True)
class Judged:
    """What becomes of a server on one host.

    :param state: None for the host where it is
    :param alike: the verdict without what differs on hosts of which the same is to be said
    """

    host: fleet.Host
    state: Optional[State]
    verdict: Verdict
    alike: Verdict

    @property
    def word(self) -> str:
        return SOURCE if self.state is None else str(self.state)


def _candidates(found: fleet.Fleet, server: fleet.Server, name: Optional[str]) -> list[fleet.Host]:
    """The hosts of the server's cell, or the one that is asked for.

    :raises nova_migcheck.novadb.fleet.Unavailable: when that is unknown, or in another cell
    """
    if not name:
        return [host for host in found.hosts if host.cell == server.cell]
    named = [host for host in found.hosts if host.name == name and host.cell == server.cell]
    if not named:
        from nova_migcheck.novadb import fleet
        host = found.host(name)
        raise fleet.Unavailable(f'{host.name} is in cell {host.cell} and server {server.uuid} in {server.cell}: Nova does not '
                                'live-migrate between cells')
    return named


def _whole(judged: Judged) -> tuple[Any, ...]:
    """For programs."""
    report = judged.host.report
    return (judged.host.name, judged.host.cell, judged.host.service, judged.word,
            Findings([finding.to_dict() for finding in judged.verdict.rejections]),
            Findings([finding.to_dict() for finding in judged.verdict.warnings]),
            Migrations([past.to_dict() for past in report.migrations] if report else []))


def judge(server: fleet.Server, found: fleet.Fleet, hosts: Sequence[fleet.Host],
          migcheck: Any, now: float) -> list[tuple[fleet.Host, Verdict]]:
    """What the scheduler's filter comes to for each of the hosts, the source included; that one gets an empty verdict.

    :param migcheck: ``CONF.migcheck``
    :param now: seconds since the epoch
    """
    source = next((host.report for host in found.hosts if host.name == server.host and host.cell == server.cell), None)
    guest = targets.guest(server.uuid, source, server.arrived, now, migcheck, server.needs)
    judge_one = targets.Judge(Policies.from_conf(migcheck), guest, source, now)
    return [(host, Verdict() if host.name == server.host else judge_one.in_full(host.stats)) for host in hosts]
