# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck hosts``: what every host has published."""

from __future__ import annotations

import argparse
import collections
import time
from typing import Any, Optional, Sequence

from nova_migcheck import published
from nova_migcheck.aftermath.past import Past
from nova_migcheck.cli.fleetlisting import FleetListing, age, printable
from nova_migcheck.cli.listing import EXIT, Findings, Migrations, Words
from nova_migcheck.finding import Outcome, worst
from nova_migcheck.verdict import is_fresh

FRESH, STALE, MISSING, UNREADABLE = 'fresh', 'stale', 'missing', 'unreadable'


class Hosts(FleetListing):
    """Show every host's published report: its age, its version, and the outcome of each check."""

    EXAMPLES = (
        ('hosts', 'all hosts of all cells'),
        ('hosts --only-bad', 'those that are not well'),
        ('hosts -f json compute1', 'all that one host said'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('hosts', metavar='HOST', nargs='*', help='these hosts only')
        parser.add_argument('--only-bad', action='store_true', help='only hosts that are not well')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        conf = self.configure(parsed_args)
        fleet = self.read_fleet()
        now = time.time()
        hosts = [fleet.host(name) for name in parsed_args.hosts] or list(fleet.hosts)
        names = list(conf.migcheck.checks)
        names += sorted({finding.check for host in hosts if host.report for finding in host.report.findings} - set(names))
        rows: list[tuple[Any, ...]] = []
        for host in hosts:
            report = host.report
            state = MISSING if report is None else FRESH if is_fresh(report.time, now, conf.migcheck.stale_after) else STALE
            if host.unreadable:
                state = UNREADABLE
            outcomes = {name: str(worst(f.outcome for f in report.findings if f.check == name)) for name in names} if report else {}
            found = worst(f.outcome for f in report.findings) if report else Outcome.UNKNOWN
            if state != FRESH:
                found = Outcome.UNKNOWN  # what a stale report says is not believed
            self.worsen(EXIT[found])
            if parsed_args.only_bad and found is Outcome.OK and host.service == 'up':
                continue
            seconds: Optional[float] = round(now - report.time, 1) if report else None
            version = published.VERSION if report else None
            if self.nested(parsed_args):
                rows.append((host.name, host.cell, host.service, state, seconds, version, Words(outcomes),
                             Findings([f.to_dict() for f in report.findings] if report else []),
                             Words(list(report.dropped) if report else []),
                             Migrations([past.to_dict() for past in report.migrations] if report else [])))
            else:
                rows.append((printable(host.name), printable(host.cell), host.service, state,
                             age(seconds) if parsed_args.formatter == 'table' else '' if seconds is None else seconds, version or '',
                             *(outcomes.get(name, '') for name in names),
                             _briefly(report.migrations) if report else ''))
        if self.nested(parsed_args):
            return ('host', 'cell', 'service', 'report', 'age', 'version', 'checks', 'findings', 'dropped', 'migrations'), rows
        return ('host', 'cell', 'service', 'report', 'age', 'version', *names, 'migrations'), rows


def _briefly(migrations: Sequence[Past]) -> str:
    counts = collections.Counter(past.ended for past in migrations)
    return ', '.join(f'{count} {ended}' for ended, count in sorted(counts.items()))
