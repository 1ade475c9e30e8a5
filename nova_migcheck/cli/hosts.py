# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck hosts``: list what every host has published."""

from __future__ import annotations

import argparse
import time
from typing import Any, Optional, Sequence

from nova_migcheck.cli.columns import objects
from nova_migcheck.cli.fleetlisting import FleetListing
from nova_migcheck.cli.listing import EXIT, write
from nova_migcheck.cli.shown import HostStatus, age, status
from nova_migcheck.finding import printable
from nova_migcheck.judging import matrix as matrices
from nova_migcheck.policies import Policies
from nova_migcheck.report import published


class Hosts(FleetListing):
    """Show every host's published report: its age, version, and the outcome of each check."""

    EXAMPLES = (
        ('hosts', 'all hosts of all cells'),
        ('hosts --only-bad', 'the hosts with a problem'),
        ('hosts compute1', 'one host; on a terminal, with each finding'),
        ('hosts -f json compute1', 'the whole report of one host, for a program'),
        ('hosts --prometheus /var/lib/node_exporter/nova_migcheck_fleet.prom',
         "for node_exporter's textfile collector, from a timer on a controller"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('hosts', metavar='HOST', nargs='*', help='show only these hosts')
        parser.add_argument('--only-bad', action='store_true',
                            help='show only the hosts with a problem')
        parser.add_argument('--prometheus', metavar='FILE',
                            help='write metrics of all hosts to this file, in one step, instead of '
                                 'printing')
        return parser

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Read the reports, and return the columns and the rows."""
        conf = self.configure(parsed_args)
        fleet = self.read_fleet()
        hosts = [fleet.host(name) for name in parsed_args.hosts] or list(fleet.hosts)
        checks = list(conf.migcheck.checks)
        checks += sorted({finding.check for host in hosts if host.report
                          for finding in host.report.findings} - set(checks))
        now = time.time()
        statuses = [status(host, checks, now, conf.migcheck.stale_after) for host in hosts]
        for each in statuses:
            self.worsen(EXIT[each.outcome])
        if parsed_args.prometheus is not None:
            from nova_migcheck.cli import fleetmetrics
            matrix = matrices.build([each.host for each in statuses],
                                    Policies.from_conf(conf.migcheck), conf.migcheck, now)
            write(parsed_args.prometheus, fleetmetrics.text(statuses, checks, matrix, now),
                  durable=True)
            return self.done()
        shown = [each for each in statuses if not (parsed_args.only_bad and each.well)]
        if self.drawn(parsed_args):
            from nova_migcheck.cli import overview
            overview.hosts(self.app.stdout, shown, statuses, checks, bool(parsed_args.hosts))
            return self.done()
        names = ('host', 'cell', 'service', 'report', 'age', 'version')
        if self.nested(parsed_args):
            return ((*names, 'checks', 'findings', 'dropped', 'migrations', 'rehearsals'),
                    [_nested_row(each) for each in shown])
        return ((*names, *checks, 'migrations'),
                [_flat_row(each, checks, parsed_args.formatter == 'table') for each in shown])


def _version(each: HostStatus) -> Optional[str]:
    return published.VERSION if each.host.report else None


def _nested_row(each: HostStatus) -> tuple[Any, ...]:
    report = each.host.report
    return (each.host.name, each.host.cell, each.host.service, each.report, each.seconds,
            _version(each),
            {name: str(outcome) for name, outcome in each.checks.items()},
            objects(report.findings if report else ()),
            list(report.dropped) if report else [],
            objects(report.migrations if report else ()),
            objects(report.rehearsals if report else ()))


def _flat_row(each: HostStatus, checks: Sequence[str], units: bool) -> tuple[Any, ...]:
    seconds: Any = '' if each.seconds is None else each.seconds
    return (printable(each.host.name), printable(each.host.cell), each.host.service, each.report,
            age(each.seconds) if units else seconds, _version(each) or '',
            *(str(each.checks.get(check, '')) for check in checks), each.migrations)
