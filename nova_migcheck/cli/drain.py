# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck drain``: plan where each server of a host goes before the host is emptied."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import time
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Iterable, Iterator, Sequence

from nova_migcheck import hostranges
from nova_migcheck.checks import loading
from nova_migcheck.cli import main
from nova_migcheck.cli.fleetlisting import FleetListing, cell_notes, mode_notes
from nova_migcheck.cli.listing import seconds, write
from nova_migcheck.finding import printable
from nova_migcheck.judging import targets
from nova_migcheck.judging.matrix import Host
from nova_migcheck.planning import plan as plans
from nova_migcheck.planning import search, world
from nova_migcheck.planning.plan import Move, Plan, Reason, Resident
from nova_migcheck.policies import Policies

if TYPE_CHECKING:
    from nova_migcheck.novadb import fleet, scheduling

# Maximum number of names and ranges of names in a line for people.
_MOST = 6

BEYOND = ('Decided by placement, by the filters and weighers that this nova.conf enables, and by '
          "the hosts' published reports. Not considered: what nova-compute checks again when the "
          'migration is decided, and what others start meanwhile.')


class Drain(FleetListing):
    """Plan where every server of these hosts can go, and which cannot. Nothing is moved.

    Each server goes where Nova's own scheduler would send it, after the moves before it.
    """

    CODES = ('0 every server can go, 1 some cannot, 2 it cannot be known for some, 255 the command '
             'itself failed.')
    EXAMPLES = (
        ('drain compute1', 'before a maintenance'),
        ('drain compute1 --commands', 'as lines for a shell'),
        ('drain compute1 --html plan.html', 'as an interactive page'),
        ('drain compute1 --to compute2 compute3', 'only to these hosts'),
        ('drain compute1 --without compute2 --assume-repaired endpoint-refused',
         'if compute2 were down as well, and the endpoint repaired'),
        ('drain compute1 -f json', 'for a program'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('hosts', metavar='HOST', nargs='+', help='a host to empty')
        parser.add_argument('--to', metavar='HOST', nargs='+', action='extend', default=[],
                            help='use only these hosts as targets')
        parser.add_argument('--at-once', metavar='N', type=count,
                            help='how many servers move at a time (default: [DEFAULT] '
                                 'max_concurrent_live_migrations, which is 1)')
        parser.add_argument('--search', metavar='SECONDS', type=seconds, default=search.SECONDS,
                            help='how long to look for another plan if the first one leaves '
                                 f'servers that could go alone (default: {search.SECONDS:g})')
        parser.add_argument('--commands', action='store_true',
                            help='print the command lines that carry out the plan')
        parser.add_argument('--html', metavar='FILE',
                            help='write a page that needs no network, instead of printing')
        group = parser.add_argument_group('what if')
        group.add_argument('--without', metavar='HOST', nargs='+', action='extend', default=[],
                           help='these hosts are down, too')
        group.add_argument('--exclude-check', metavar='CHECK', action='append', default=[],
                           help='nothing that this check finds rejects a host; can be repeated')
        group.add_argument('--report-only', action='store_true',
                           help='no finding rejects a host, as with [migcheck] mode = report')
        group.add_argument('--assume-repaired', metavar='FINDING', action='append', default=[],
                           help='findings of this code, or HOST:CODE, are repaired; can be '
                                'repeated')
        return parser

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Make the plan, and return the columns and the rows."""
        conf = self.configure(parsed_args)
        with self._progress() as tell:
            plan = make(parsed_args, conf, tell)
        if plan.of('unknown'):
            self.worsen(main.WARNING)
        if plan.of('cannot'):
            self.worsen(main.FAILURE)
        self._say_notes(parsed_args, conf, plan)
        if parsed_args.html is not None:
            self._write_page(parsed_args.html, plan)
            return self.done()
        if parsed_args.commands:
            self.app.stdout.write(''.join(f'{line}\n' for line in commands(plan)))
            return self.done()
        if self.nested(parsed_args):
            document = plan.to_dict()
            formatter: Any = self.formatter  # those of JSON and YAML print one thing, too
            formatter.emit_one(tuple(document), tuple(document.values()), self.app.stdout,
                               parsed_args)
            return self.done()
        return ('order', 'wave', 'server', 'memory', 'from', 'to', 'reasons'), [
            (move.order or '', move.wave or '',
             f'{printable(move.server.name)} {move.server.uuid}', move.server.memory,
             printable(move.server.host), printable(move.target or f'({move.verdict})'),
             _reasons(move)) for move in plan.moves]

    def _say_notes(self, parsed_args: argparse.Namespace, conf: Any, plan: Plan) -> None:
        """Say on stderr what does not stand in the output."""
        if self.nested(parsed_args) and not parsed_args.commands and parsed_args.html is None:
            return  # it does
        table = parsed_args.formatter == 'table'
        said = mode_notes(conf) if table else []  # by configure()
        for text in (plan.sentence(), *plan.notes, *([BEYOND] if table else [])):
            if text not in said:
                self.say(text)

    def _progress(self) -> ContextManager[Any]:
        """Return what is called with a text, which is shown on a terminal while it is true."""
        if not self.app.stderr.isatty():
            return contextlib.nullcontext(lambda _text: None)
        from nova_migcheck.cli import terminal
        return terminal.status(self.app.stderr)

    def _write_page(self, path: str, plan: Plan) -> None:
        from nova_migcheck.cli import drainpage
        umask = os.umask(0)
        os.umask(umask)
        lines = ''.join(f'{line}\n' for line in commands(plan))
        write(path, drainpage.render(plan, lines, BEYOND, time.time()), mode=0o666 & ~umask)
        self.say(f'{path}: {len(plan.moves)} servers.')


def make(parsed_args: argparse.Namespace, conf: Any, tell: Callable[[str], None]) -> Plan:
    """Return the plan that a command line asks for.

    :param conf: ``nova.conf.CONF``, as ``FleetListing.configure`` sets it up
    :param tell: called with what is done next
    :raises nova_migcheck.novadb.fleet.Unavailable: for an unknown host, or an unreadable database
    """
    from nova_migcheck.novadb import fleet, servers
    checks = [*(check.NAME for check in loading.installed()), 'report']
    for check in set(parsed_args.exclude_check) - set(checks):
        raise ValueError(f'{check} is no installed check; these are: {", ".join(checks)}')
    found = fleet.read(parsed_args.cell_timeout)
    for name in (*parsed_args.hosts, *parsed_args.to, *parsed_args.without):
        found.host(name)
    sources = [host for host in found.hosts if host.name in parsed_args.hosts]
    planner = _Planner(found, conf, parsed_args, _barred(found.hosts, parsed_args), time.time())
    moves = planner.moves(servers.on_hosts(sources, parsed_args.cell_timeout), tell)
    at_once = parsed_args.at_once or max(1, conf.max_concurrent_live_migrations)
    moves = plans.waves(moves, at_once, plans.rates(found.hosts))
    notes = [*cell_notes(found), *mode_notes(conf), *planner.notes, *_locked(moves),
             *_assumed(parsed_args)]
    return Plan(tuple(dict.fromkeys(parsed_args.hosts)), tuple(moves), tuple(notes))


class _Planner:
    """Makes the plan for the servers of some hosts."""

    def __init__(self, found: fleet.Fleet, conf: Any, parsed_args: argparse.Namespace,
                 barred: dict[str, str], now: float) -> None:
        self._found, self._conf, self._args, self._now = found, conf, parsed_args, now
        self._barred = barred
        self._policies = Policies.from_conf(conf.migcheck)
        self._memory = targets.Memory()
        self._stats = {host.name: host.stats for host in found.hosts}
        self._reports = {(host.cell, host.name): host.report for host in found.hosts}
        self.notes: list[str] = []

    def moves(self, residents: Sequence[tuple[Resident, float]], tell: Any) -> list[Move]:
        """Return what becomes of each server, unsorted.

        :param tell: called with what is done next
        """
        from nova_migcheck.novadb import fleet, scheduling
        if not residents:
            return []
        try:
            nova = scheduling.Scheduling(self._args.cell_timeout)
        except fleet.Unavailable as e:
            return [_unknown(server, str(e)) for server, _arrived in residents]
        moves, cases = [], []
        for number, (server, arrived) in enumerate(residents, 1):
            tell(f'server {number} of {len(residents)}: {server.name}')
            try:
                request = nova.request(server.uuid)
            except fleet.Unavailable as e:
                moves.append(_unknown(server, str(e)))
                continue
            if request.refusal:
                moves.append(Move(server, None, (Reason('nova', request.refusal),)))
            else:
                cases.append(world.Case(server, request, self._judge(server, arrived, request)))
        self.notes += nova.remarks([case.request for case in cases])
        tell(f'{len(cases)} servers and {len(self._found.hosts)} hosts')
        try:
            return moves + self._placed(nova, cases)
        except fleet.Unavailable as e:
            return moves + [_unknown(case.server, str(e)) for case in cases]

    def _placed(self, nova: scheduling.Scheduling, cases: Sequence[world.Case]) -> list[Move]:
        assumptions = world.Assumptions(
            frozenset(self._args.exclude_check), self._args.report_only,
            frozenset(self._args.assume_repaired))
        by_uuid = {case.server.uuid: case for case in cases}
        return world.plan(cases, world.World(nova, by_uuid, self._barred, assumptions),
                          self._stats, self._args.search)

    def _judge(self, server: Resident, arrived: float, request: Any) -> targets.Judge:
        source = self._reports.get((server.cell, server.host))
        guest = targets.guest(server.uuid, source, arrived, self._now, self._conf.migcheck,
                              request.needs)
        return targets.Judge(self._policies, guest, source, self._now, self._memory)


def commands(plan: Plan) -> Iterator[str]:
    """Yield the lines of a shell script that carries out a plan, with its waves."""
    moves = plan.of('can')
    together = max((move.wave for move in moves), default=0) < len(moves)
    for number, move in enumerate(moves):
        yield (f'openstack --os-compute-api-version 2.30 server migrate --live-migration --wait '
               f'--host {shlex.quote(move.target or "")} {move.server.uuid}'
               f'{" &" if together else ""}')
        if together and (number + 1 == len(moves) or moves[number + 1].wave != move.wave):
            yield 'wait'


def _barred(hosts: Iterable[Host], parsed_args: argparse.Namespace) -> dict[str, str]:
    """Return the hosts that are no targets, and why.

    :raises ValueError: for a host that is to be emptied and a target
    """
    both = sorted(set(parsed_args.hosts) & set(parsed_args.to))
    if both:
        raise ValueError(f'{", ".join(both)} cannot be emptied and be a target')
    barred = {}
    for host in hosts:
        if host.name in parsed_args.hosts:
            barred[host.name] = 'it is to be emptied'
        elif host.name in parsed_args.without:
            barred[host.name] = 'it is assumed to be down (--without)'
        elif parsed_args.to and host.name not in parsed_args.to:
            barred[host.name] = 'it is not among the targets (--to)'
    return barred


def _unknown(server: Resident, text: str) -> Move:
    return Move(server, None, (Reason('nova', text),), known=False)


def _locked(moves: Iterable[Move]) -> list[str]:
    """Return a remark about locked servers, which Nova moves for an administrator only."""
    names = [move.server.name or move.server.uuid for move in moves
             if move.server.locked and move.target]
    return [f'Locked, so only an administrator can move them: {", ".join(names)}.'] if names else []


def _assumed(parsed_args: argparse.Namespace) -> Iterator[str]:
    words = [*(f'{host} is down' for host in parsed_args.without),
             *(f'{check} rejects nothing' for check in parsed_args.exclude_check),
             *(f'{code} is repaired' for code in parsed_args.assume_repaired)]
    if parsed_args.report_only:
        words.append('no finding rejects a host')
    if words:
        yield f'Assumed: {", ".join(words)}.'


def _reasons(move: Move) -> str:
    lines = []
    for reason in move.reasons:
        text = f'{reason.by}: {reason.text}' if reason.text else reason.by
        lines.append(f'{text} ({hostranges.fold(reason.hosts, _MOST)})' if reason.hosts else text)
    return printable('\n'.join(lines)) if len(lines) < 2 else '\n'.join(map(printable, lines))


def count(text: str) -> int:
    """Return a number of servers from the command line.

    :raises ValueError: for any other text; argparse turns it into an error message
    """
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
