# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck hosts``: what every host has published."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from nova_migcheck.cli.columns import Findings, Migrations, Words
from nova_migcheck.cli.fleetlisting import FleetListing, age
from nova_migcheck.cli.listing import EXIT
from nova_migcheck.finding import Outcome, printable, worst
from nova_migcheck.judging.verdict import is_fresh
from nova_migcheck.report import published

if TYPE_CHECKING:
    from nova_migcheck.novadb import fleet

FRESH, STALE, MISSING, UNREADABLE = 'fresh', 'stale', 'missing', 'unreadable'


@dataclasses.dataclass(frozen=True)
class Said:
    """What one host has published, in words.

    :param report: ``fresh``, ``stale``, ``missing`` or ``unreadable``
    :param seconds: age of the report, None when there is none
    :param checks: check -> its worst outcome
    """

    host: fleet.Host
    report: str
    seconds: Optional[float]
    checks: Mapping[str, Outcome]

    @property
    def outcome(self) -> Outcome:
        """The worst of all. What a stale report says is not believed."""
        return worst(self.checks.values()) if self.report == FRESH else Outcome.UNKNOWN

    @property
    def well(self) -> bool:
        return self.outcome is Outcome.OK and self.host.service == 'up'

    @property
    def migrations(self) -> str:
        """How many live migrations ended how."""
        counts = collections.Counter(past.ended for past in self.host.report.migrations) if self.host.report else {}
        return ', '.join(f'{count} {ended}' for ended, count in sorted(counts.items()))


class Hosts(FleetListing):
    """Show every host's published report: its age, its version, and the outcome of each check."""

    EXAMPLES = (
        ('hosts', 'all hosts of all cells'),
        ('hosts --only-bad', 'those that are not well'),
        ('hosts compute1', 'and on a terminal what exactly it has found'),
        ('hosts -f json compute1', 'all that one host said, for a program'),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('hosts', metavar='HOST', nargs='*', help='these hosts only')
        parser.add_argument('--only-bad', action='store_true', help='only hosts that are not well')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        conf = self.configure(parsed_args)
        fleet = self.read_fleet()
        hosts = [fleet.host(name) for name in parsed_args.hosts] or list(fleet.hosts)
        names = list(conf.migcheck.checks)
        names += sorted({finding.check for host in hosts if host.report for finding in host.report.findings} - set(names))
        now = time.time()
        said = [_said(host, names, now, conf.migcheck.stale_after) for host in hosts]
        for one in said:
            self.worsen(EXIT[one.outcome])
        shown = [one for one in said if not (parsed_args.only_bad and one.well)]
        if self.on_terminal(parsed_args) and not parsed_args.columns:
            from nova_migcheck.cli import overview
            overview.hosts(self.app.stdout, shown, said, names, bool(parsed_args.hosts))
            return self.done()
        if self.nested(parsed_args):
            return ('host', 'cell', 'service', 'report', 'age', 'version', 'checks', 'findings', 'dropped', 'migrations'), [
                _whole(one) for one in shown]
        return ('host', 'cell', 'service', 'report', 'age', 'version', *names, 'migrations'), [
            _flat(one, names, parsed_args.formatter == 'table') for one in shown]


def _said(host: fleet.Host, names: Sequence[str], now: float, stale_after: float) -> Said:
    report = host.report
    if report is None:
        return Said(host, UNREADABLE if host.unreadable else MISSING, None, {})
    return Said(host, FRESH if is_fresh(report.time, now, stale_after) else STALE, round(now - report.time, 1),
                {name: worst(f.outcome for f in report.findings if f.check == name) for name in names})


def _version(said: Said) -> Optional[str]:
    return published.VERSION if said.host.report else None


def _whole(said: Said) -> tuple[Any, ...]:
    """For programs."""
    report = said.host.report
    return (said.host.name, said.host.cell, said.host.service, said.report, said.seconds, _version(said),
            Words({name: str(outcome) for name, outcome in said.checks.items()}),
            Findings([finding.to_dict() for finding in report.findings] if report else []),
            Words(list(report.dropped) if report else []),
            Migrations([past.to_dict() for past in report.migrations] if report else []))


def _flat(said: Said, names: Sequence[str], units: bool) -> tuple[Any, ...]:
    """A line of text."""
    seconds: Any = age(said.seconds) if units else '' if said.seconds is None else said.seconds
    return (printable(said.host.name), printable(said.host.cell), said.host.service, said.report, seconds, _version(said) or '',
            *(str(said.checks.get(name, '')) for name in names), said.migrations)
