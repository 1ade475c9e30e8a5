# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck rehearse``: send a guest of one's own to a target, as Nova sends a server."""

from __future__ import annotations

import argparse
import os
from typing import Any, ClassVar, Mapping, Optional, Sequence

from cliff import show

from nova_migcheck.aftermath.ledger import Ledger
from nova_migcheck.checks.base import Settings
from nova_migcheck.checks.transport import TransportCheck
from nova_migcheck.cli import listing, main
from nova_migcheck.cli.check import configuration
from nova_migcheck.cli.columns import Findings
from nova_migcheck.cli.rounds import Rounds
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import connection
from nova_migcheck.libvirtd import uri as migrationuri
from nova_migcheck.network import intent
from nova_migcheck.network.interfaces import Kernel
from nova_migcheck.network.resolver import resolve
from nova_migcheck.rehearsal import guest, travel
from nova_migcheck.rehearsal.trial import Trial
from nova_migcheck.rounds import runner
from nova_migcheck.rounds.reader import Reader

# A rehearsal on a healthy network takes one second, and a busy host ten.
_DEADLINE = 20.0


class _Options(TransportCheck):
    """Name the options that are read here."""

    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {
        **TransportCheck.OPTIONS,
        'libvirt': tuple(dict.fromkeys((*TransportCheck.OPTIONS['libvirt'], *travel.OPTIONS)))}


class Rehearse(listing.Configured, show.ShowOne):
    """Prove the way to a target: send a small guest of its own there, as Nova sends a server."""

    EXAMPLES = (
        ('rehearse compute2 --connect compute2-mig',
         "with the target's [libvirt] live_migration_inbound_addr"),
        ('rehearse compute2 --memory 256', 'also measure the rate, with 256 MiB of random pages'),
        ('rehearse compute2 --back', 'also the way back'),
        ('rehearse --all', 'to all hosts of the cell that have published a report'),
    )
    CODES = ('0 each guest arrived over the intended interface, 1 one did not, 255 the command '
             'itself failed.')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('target', metavar='TARGET', nargs='?',
                            help='name of the target in Nova')
        parser.add_argument('--all', action='store_true',
                            help='go to each host of the cell that has published a report, a few '
                                 'at a time; with --memory one after the other. Their names come '
                                 'from nova-conductor')
        parser.add_argument('--connect', metavar='ADDRESS',
                            help="the target's [libvirt] live_migration_inbound_addr; "
                                 'default: its name')
        parser.add_argument('--memory', metavar='MiB', type=_mebibytes,
                            help='fill this much memory with random pages, and measure the rate')
        parser.add_argument('--back', action='store_true', help='let the guest come back')
        parser.add_argument('--deadline', metavar='SECONDS', type=listing.seconds,
                            default=_DEADLINE, help='abort a migration that takes longer '
                            '(default: %(default)g)')
        parser.add_argument('--prometheus', metavar='FILE',
                            help='also write metrics to this file, in one step')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Send the guest, and return the fields and their values.

        :raises ValueError: with a sentence for the operator, where there can be no rehearsal
        """
        everywhere = parsed_args.all
        if bool(parsed_args.target) == everywhere or (everywhere and parsed_args.connect):
            raise ValueError('give a TARGET, with or without --connect, or --all')
        conf = configuration(parsed_args, self.say)
        stage = Stage(conf, parsed_args)
        if everywhere:
            from nova_migcheck.cli import rehearseall
            return rehearseall.take_action(self, stage, parsed_args)
        trial = stage.rehearse(parsed_args.target, parsed_args.connect, self.app.stderr)
        self.finish(stage, [trial], parsed_args)
        return _shown(trial, parsed_args.formatter in ('json', 'yaml'))

    def finish(self, stage: Stage, trials: Sequence[Trial], parsed_args: argparse.Namespace
               ) -> None:
        """Set the exit code, and write what is to be kept of rehearsals."""
        self.code = main.OK if all(trial.well for trial in trials) else main.FAILURE
        lost = stage.keep(trials)
        if lost:
            self.say(lost)
        if parsed_args.prometheus is not None:
            from nova_migcheck.cli import rehearsalmetrics
            listing.write(parsed_args.prometheus, rehearsalmetrics.text(trials), durable=True)


class Stage:
    """This host, from which guests are sent.

    :param conf: from :func:`nova_migcheck.cli.check.configuration`
    :raises ValueError: with a sentence for the operator, where there can be no rehearsal
    """

    def __init__(self, conf: Any, parsed_args: argparse.Namespace) -> None:
        self.conf, self._arguments = conf, parsed_args
        self._settings = Reader(conf).read(_Options)
        _must_be_possible(conf, self._settings)
        import libvirt
        libvirt.registerErrorHandler(lambda context, error: None, None)

    def rehearse(self, target: str, connect: Optional[str], stderr: Any,
                 facts: Optional[Mapping[str, Any]] = None) -> Trial:
        """Check the path to a target, and send a guest there.

        :param connect: the target's ``live_migration_inbound_addr``
        :param stderr: where the checks show their progress, if it is a terminal
        :param facts: what the target has published
        :raises ValueError: with a sentence for the operator, where the guest cannot start
        """
        arguments = self._arguments
        way, back = _ways(self._settings, target, connect)
        foreseen = self._checked(target, connect, stderr, facts)
        import libvirt
        try:
            arrival, returned = travel.send(
                self._settings, way, arguments.memory or guest.SMALLEST,
                arguments.memory is not None, arguments.deadline, back if arguments.back else None)
        except libvirt.libvirtError as e:
            raise ValueError(f'the guest cannot be started here: {e}') from e
        return Trial(str(self.conf.host), target, way.intended, tuple(foreseen), arrival,
                     arguments.back, returned)

    def _checked(self, target: str, connect: Optional[str], stderr: Any,
                 facts: Optional[Mapping[str, Any]]) -> list[Finding]:
        """Return what the enabled checks of the path find that is not well."""
        loaded = runner.load(list(self.conf.migcheck.checks))
        paths = {name: one for name, one in loaded.items()
                 if one.check is not None and one.check.WHEN == 'path'}
        rounds = Rounds(self.conf, paths, target, connect, stderr, facts=facts)
        return [one for one in rounds.run().findings if one.outcome is not Outcome.OK]

    def keep(self, trials: Sequence[Trial]) -> str:
        """Write rehearsals to the ledger; return a remark if that fails.

        nova-compute publishes them from there with its next report.
        """
        migcheck = self.conf.migcheck
        if not listing.nova_is_installed() or not migcheck.ledger_size:
            return ''
        ledger = Ledger(self.conf.state_path, migcheck.ledger_size << 20, migcheck.ledger_days)
        kept = [ledger.append(line) for trial in trials for line in trial.lines()]
        if all(kept):
            return ''
        return (f'This is not kept: the ledger in {self.conf.state_path} cannot be written by this '
                'user.')


def _shown(trial: Trial, nested: bool) -> tuple[Sequence[str], Sequence[Any]]:
    """Return the fields and their values; for people in words."""
    fields = trial.to_dict()
    if not nested:
        arrival, foreseen = trial.arrival, trial.foreseen
        fields['foreseen'] = Findings(foreseen) if foreseen else 'all checks of the path are ok'
        fields['interfaces'] = ', '.join(
            f'{name} {count} bytes' for name, count in arrival.sent.items())
        if arrival.strayed:
            fields['strayed'] = (f'{arrival.strayed} bytes at least, not over '
                                 f'{", ".join(sorted(trial.intended))}')
        fields['agrees'] = agreement(trial)
    return list(fields), list(fields.values())


def agreement(trial: Trial) -> str:
    """Return in words whether the checks had been right."""
    return 'confirmed' if trial.agrees else 'the checks were wrong'


def _mebibytes(text: str) -> int:
    """Return a number of MiB from the command line.

    :raises ValueError: for any other text; argparse turns it into an error message
    """
    value = int(text)
    if not guest.SMALLEST <= value <= 2048:
        raise ValueError(text)
    return value


def _must_be_possible(conf: Any, settings: Settings) -> None:
    """Raise ValueError where a rehearsal would do harm, or cannot work."""
    if connection.uri(settings) is None:
        raise ValueError('a rehearsal needs QEMU: [libvirt] virt_type is '
                         f'{settings.get("libvirt", "virt_type")}')
    if os.uname().machine != 'x86_64':
        raise ValueError('a rehearsal needs a PC BIOS, which only x86_64 has')
    if not listing.nova_is_installed():
        return
    record = os.path.join(str(conf.state_path), 'compute_id')
    if not os.path.exists(record):
        raise ValueError(
            f'nova-compute has not been started on this host yet: there is no {record}. It would '
            'not start beside a guest that it does not know')


def _ways(settings: Settings, target: str, connect: Optional[str]
          ) -> tuple[travel.Way, travel.Way]:
    """Return the way to the target, and the way back.

    :raises ValueError: if the options give no URI
    """
    to = migrationuri.destination(settings, connect or target, bool(connect), '')
    own = str(settings.get('libvirt', intent.INBOUND, ''))
    home = migrationuri.destination(settings, own or settings.host, bool(own), '')
    answers = resolve(filter(None, (own,)), settings.timeout)
    with Kernel() as kernel:
        intended = intent.of_host(settings, kernel.network(),
                                  answers[own].addresses if own else ())
    names = frozenset(one.name for one in intended.interfaces) if intended.stated else frozenset()
    return (travel.Way(to.uri, migrationuri.data_uri(to, bool(connect)), names),
            travel.Way(home.uri, migrationuri.data_uri(home, bool(own)), names))
