# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck explain``: list the hosts that a server can be live-migrated to, and why not."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Optional, Sequence

from nova_migcheck.checks.attachments import AttachmentsCheck
from nova_migcheck.cli.columns import objects
from nova_migcheck.cli.fleetlisting import EXIT_OF_STATE, FleetListing
from nova_migcheck.cli.shown import Candidate
from nova_migcheck.finding import printable
from nova_migcheck.judging import common, targets
from nova_migcheck.judging.matrix import Host, alike, state
from nova_migcheck.judging.verdict import Verdict, settle
from nova_migcheck.policies import Policies
from nova_migcheck.report import past
from nova_migcheck.report.past import Past

if TYPE_CHECKING:
    from nova_migcheck.cli import decision
    from nova_migcheck.novadb import fleet
    from nova_migcheck.report.report import Report

# Only the source and the target themselves know it.
DECIDED = ("the current CPU, the path from the source, whether the target reaches the server's "
           "volumes, whether QEMU's user there may open its disks, and what is left of the server "
           'there; on the target, nova-migcheck check --server asks that')
BEYOND = ("Judged by the hosts' published reports, as in the scheduler's filter. Not considered: "
          "Nova's other filters and weights, free resources and placement, aggregates, server "
          "groups, Nova's own CPU comparison, and what nova-compute checks again when the "
          f'migration is decided ({DECIDED}).')
WITH_NOVA = ("Judged as Nova's scheduler would now: by placement, by the filters and weighers that "
             "this nova.conf enables, and by the hosts' published reports. Not considered: what "
             f'nova-compute checks again when the migration is decided ({DECIDED}).')


class Explain(FleetListing):
    """Explain which hosts a server can be live-migrated to, and why the others are rejected."""

    EXAMPLES = (
        ('explain web1', 'all hosts of its cell'),
        ('explain 2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11 --host compute2',
         'one host; the exit code is 0 if it would be accepted'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='SERVER', help='name or UUID of the server')
        parser.add_argument('--host', metavar='HOST', help='show only this host')
        return parser

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Judge the hosts, and return the columns and the rows."""
        conf = self.configure(parsed_args)
        from nova_migcheck.novadb import fleet
        # Read the fleet first, so that the second query skips cells that do not respond.
        found = self.read_fleet()
        server = fleet.server(parsed_args.server, parsed_args.cell_timeout, found.unreachable)
        hosts = _hosts(found, server, parsed_args.host)
        now = time.time()
        judged = judge(server, found, _hosts(found, server, None), conf.migcheck, now)
        from nova_migcheck.cli import decision
        nova = decision.ask(server, {host.name: not verdict.accepted for host, verdict in judged},
                            parsed_args.cell_timeout)
        shown = {host.name for host in hosts}
        source = _source(server, found)
        candidates = [
            dataclasses.replace(
                _candidate(host, verdict, server, nova, now, conf.migcheck.stale_after),
                rehearsals=_rehearsals(server.host, source, host))
            for host, verdict in judged if host.name in shown]
        for each in candidates:
            if each.state is not None:
                self.worsen(EXIT_OF_STATE[each.state])
        if parsed_args.formatter == 'table':
            others = 0 if parsed_args.host else len(found.hosts) - len(hosts)
            for text in (_sentence(server, others), nova.text,
                         WITH_NOVA if nova.known else BEYOND):
                self.say(text)
            self._say_of_all(candidates, source, Policies.from_conf(conf.migcheck))
        if self.drawn(parsed_args):
            from nova_migcheck.cli import overview
            overview.explained(self.app.stdout, candidates)
            return self.done()
        if self.nested(parsed_args):
            return (('server', 'host', 'cell', 'service', 'verdict', 'rejections', 'warnings',
                     'migrations', 'rank', 'rehearsals'),
                    [(server.uuid, *_nested_row(each), nova.ranks.get(each.host.name),
                      objects(each.rehearsals))
                     for each in candidates])
        return ('host', 'service', 'verdict', 'reasons'), [
            (printable(each.host.name), each.host.service, each.word,
             self.reasons(parsed_args, (*each.verdict.rejections, *each.verdict.warnings)))
            for each in candidates]

    def _say_of_all(self, candidates: Sequence[Candidate], source: Optional[Report],
                    policies: Policies) -> None:
        """Say what most hosts have in common, and what was tried."""
        rejections = [each.verdict.rejections for each in candidates if not each.verdict.accepted]
        service = common.shared(rejections, source, policies)
        if service:
            self.say(f'{service}.')
        rehearsals = sorted({one for each in candidates for one in each.rehearsals},
                            key=lambda one: one.time)
        if rehearsals:
            self.say(f'What was tried: {"; ".join(map(str, rehearsals))}.')


def _candidate(host: Host, verdict: Verdict, server: fleet.Server, nova: decision.Said, now: float,
               stale_after: float) -> Candidate:
    """Return a host with our verdict, and with what Nova would say."""
    if host.name == server.host:
        return Candidate(host, None, verdict, verdict)
    refused = Verdict(tuple(filter(None, [nova.findings.get(host.name)])))
    with_nova = verdict + refused
    return Candidate(host, state(with_nova), with_nova,
                     alike(verdict, host.report, now, stale_after) + refused)


def _sentence(server: fleet.Server, others: int) -> str:
    text = (f'Server {printable(server.name)} ({server.uuid}) is {server.state} on '
            f'{printable(server.host)}')
    if not others:
        return f'{text}.'
    cell = printable(server.cell)
    return f'{text}, in cell {cell}; hosts of other cells ({others}) are no targets.'


def _hosts(found: fleet.Fleet, server: fleet.Server, name: Optional[str]) -> list[Host]:
    """Return the hosts of the server's cell, or only the one with this name.

    :raises nova_migcheck.novadb.fleet.Unavailable: when that is unknown, or in another cell
    """
    in_cell = [host for host in found.hosts if host.cell == server.cell]
    if not name:
        return in_cell
    named = [host for host in in_cell if host.name == name]
    if not named:
        from nova_migcheck.novadb import fleet
        host = found.host(name)
        raise fleet.Unavailable(
            f'{host.name} is in cell {host.cell} and server {server.uuid} in {server.cell}: Nova '
            'does not live-migrate between cells')
    return named


def _source(server: fleet.Server, found: fleet.Fleet) -> Optional[Report]:
    return next((host.report for host in found.hosts
                 if host.name == server.host and host.cell == server.cell), None)


def _rehearsals(name: str, source: Optional[Report], target: Host) -> tuple[Past, ...]:
    """Return the rehearsals of this way, which either host may have made.

    :param name: of the source
    """
    there, back = (report.rehearsals if report else () for report in (source, target.report))
    found = [*(one for one in there if one.direction == past.OUT and one.peer == target.name),
             *(one for one in back if one.direction == past.IN and one.peer == name)]
    return tuple(sorted(found, key=lambda one: one.time))


def _nested_row(each: Candidate) -> tuple[Any, ...]:
    report = each.host.report
    return (each.host.name, each.host.cell, each.host.service, each.word,
            objects(each.verdict.rejections), objects(each.verdict.warnings),
            objects(report.migrations if report else ()))


def judge(server: fleet.Server, found: fleet.Fleet, hosts: Sequence[Host], migcheck: Any,
          now: float) -> list[tuple[Host, Verdict]]:
    """Return the verdict of the scheduler's filter for each host, and what it lacks for volumes.

    The source's is empty.

    :param migcheck: ``CONF.migcheck``
    :param now: seconds since the epoch
    """
    source = _source(server, found)
    guest = targets.guest(server.uuid, source, server.arrived, now, migcheck, server.needs)
    policies = Policies.from_conf(migcheck)
    judge_one = targets.Judge(policies, guest, source, now)
    return [(host, Verdict() if host.name == server.host else (
        judge_one.in_full(host.stats) + _attaching(server, host, policies))) for host in hosts]


def _attaching(server: fleet.Server, host: Host, policies: Policies) -> Verdict:
    """Return what a target lacks for the volumes, which the filter does not ask."""
    fact = host.report.fact('connector') if host.report else {}
    if 'attachments' not in policies.checks:
        return Verdict()
    return settle(list(AttachmentsCheck.lacks(fact, server.volumes)), policies)
