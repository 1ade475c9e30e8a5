# SPDX-License-Identifier: Apache-2.0
"""Send guests to all hosts of the cell, a few at a time, and draw what was measured."""

from __future__ import annotations

import argparse
import concurrent.futures
import io
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from nova_migcheck.aftermath import accounts, traffic
from nova_migcheck.cli import listing
from nova_migcheck.cli.columns import brief
from nova_migcheck.finding import printable
from nova_migcheck.judging.matrix import Host
from nova_migcheck.network.migration import HostMigration
from nova_migcheck.rehearsal.trial import Trial

if TYPE_CHECKING:
    from nova_migcheck.cli.rehearse import Rehearse, Stage

# How many guests are under way at once. To measure a rate, one has the link for itself.
_AT_ONCE = 4
_UP = ('up', 'disabled')


def take_action(command: Rehearse, stage: Stage, parsed_args: argparse.Namespace
                ) -> tuple[Sequence[str], Sequence[Any]]:
    """Rehearse, and return the targets, and what became of the guest that went to each.

    :raises ValueError: with a sentence for the operator, if there is no host to go to
    """
    if not listing.nova_is_installed():
        raise ValueError('--all asks nova-conductor for the hosts: it needs Nova here')
    from nova_migcheck.novadb import neighbours
    hosts = neighbours.read(stage.conf)
    own = str(stage.conf.host)
    targets = [host for host in hosts if host.name != own and host.report and host.service in _UP]
    others = [host.name for host in hosts if host.name != own and host not in targets]
    if others:
        command.say('Down, or without a report, and so left out: '
                    f'{", ".join(map(printable, others))}.')
    if not targets:
        raise ValueError('no other host of this cell has published a report')
    trials = _rehearsed(stage, targets, 1 if parsed_args.memory is not None else _AT_ONCE)
    command.finish(stage, trials, parsed_args)
    if parsed_args.formatter in ('json', 'yaml'):
        return [trial.target for trial in trials], [trial.to_dict() for trial in trials]
    names = [printable(trial.target) for trial in trials]
    values = [_sentence(trial) for trial in trials]
    known = [*(accounts.of_past(host.name, one) for host in hosts if host.report
               for one in host.report.rehearsals),
             *accounts.rehearsals([[line for trial in trials for line in trial.lines()]])]
    rates = accounts.rates(known)
    if rates:
        names, values = [*names, 'MiB/s, from \\ to'], [*values, _drawn(rates)]
    return names, values


def _rehearsed(stage: Stage, targets: Sequence[Host], at_once: int) -> list[Trial]:
    """Return a rehearsal for each target, in their order."""
    quiet = io.StringIO()

    def one(host: Host) -> Trial:
        facts: Mapping[str, Any] = host.report.facts if host.report else {}
        inbound = HostMigration.from_json(facts.get('migration')).inbound
        return stage.rehearse(host.name, inbound or None, quiet, facts)

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        trials = list(pool.map(one, targets))
    # A counter does not say whose bytes they are, so a guest that may have strayed goes alone.
    return [one(host) if at_once > 1 and _may_have_strayed(trial) else trial
            for host, trial in zip(targets, trials)]


def _may_have_strayed(trial: Trial) -> bool:
    """Return whether an interface that is not intended has sent as much as a guest has."""
    return bool(not trial.arrival.error and trial.intended and any(
        count > traffic.OTHER for name, count in trial.arrival.sent.items()
        if name not in trial.intended))


def _sentence(trial: Trial) -> str:
    """Return what became of a guest, in a few lines for people."""
    from nova_migcheck.cli.rehearse import agreement
    arrival, returned = trial.arrival, trial.returned
    if arrival.error:
        parts = [f'did not arrive: {arrival.error}']
    elif trial.rate:
        parts = [f'arrived in {arrival.seconds:.2f} s, {trial.rate} MiB/s']
    else:
        parts = [f'arrived in {arrival.seconds:.2f} s']
    if arrival.strayed:
        parts.append(f'strayed, not over {", ".join(sorted(trial.intended))}')
    if trial.back and returned is not None:
        parts.append(f'did not come back: {returned.error}' if returned.error
                     else f'came back in {returned.seconds:.2f} s')
    return '\n'.join(['; '.join([*parts, agreement(trial)]), *map(brief, trial.foreseen)])


def _drawn(rates: Mapping[tuple[str, str], accounts.Move]) -> str:
    """Return the matrix of the measured rates as text."""
    targets, lines = accounts.matrix(rates)
    cells = [['', *targets], *lines]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return '\n'.join('  '.join(cell.rjust(width) for cell, width in zip(line, widths))
                     for line in cells)
