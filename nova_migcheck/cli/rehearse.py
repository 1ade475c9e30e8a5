# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck rehearse``: send a guest of one's own to a target, as Nova sends a server."""

from __future__ import annotations

import argparse
import os
from typing import Any, ClassVar, Mapping, Optional, Sequence

from cliff import show

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
    )
    CODES = ('0 the guest arrived over the intended interface, 1 it did not, 255 the command '
             'itself failed.')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('target', metavar='TARGET', help='name of the target in Nova')
        parser.add_argument('--connect', metavar='ADDRESS',
                            help="the target's [libvirt] live_migration_inbound_addr; "
                                 'default: its name')
        parser.add_argument('--memory', metavar='MiB', type=_mebibytes,
                            help='fill this much memory with random pages, and measure the rate')
        parser.add_argument('--back', action='store_true', help='let the guest come back')
        parser.add_argument('--deadline', metavar='SECONDS', type=listing.seconds,
                            default=_DEADLINE, help='abort a migration that takes longer '
                            '(default: %(default)g)')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Send the guest, and return the fields and their values.

        :raises ValueError: with a sentence for the operator, where there can be no rehearsal
        """
        conf = configuration(parsed_args, self.say)
        settings = Reader(conf).read(_Options)
        _must_be_possible(conf, settings)
        way, back = _ways(settings, parsed_args.target, parsed_args.connect)
        foreseen = _checked(conf, parsed_args, self.app.stderr)
        import libvirt
        libvirt.registerErrorHandler(lambda context, error: None, None)
        try:
            arrival, returned = travel.send(
                settings, way, parsed_args.memory or guest.SMALLEST,
                parsed_args.memory is not None, parsed_args.deadline,
                back if parsed_args.back else None)
        except libvirt.libvirtError as e:
            raise ValueError(f'the guest cannot be started here: {e}') from e
        well = not arrival.error and not arrival.strayed
        came_back = not parsed_args.back or (returned is not None and not returned.error)
        self.code = main.OK if well and came_back else main.FAILURE
        return self._shown(parsed_args, way, arrival, returned, foreseen, well)

    def _shown(self, parsed_args: argparse.Namespace, way: travel.Way, arrival: travel.Arrival,
               returned: Optional[travel.Arrival], foreseen: Sequence[Finding], well: bool
               ) -> tuple[Sequence[str], Sequence[Any]]:
        failures = any(finding.outcome is Outcome.FAILURE for finding in foreseen)
        agrees = well != failures
        fields: dict[str, Any] = {
            'target': parsed_args.target, 'arrived': not arrival.error,
            'seconds': round(arrival.seconds, 2), 'downtime_ms': arrival.downtime_ms,
            'bytes': arrival.bytes,
            'mib_per_second': round(arrival.rate / 2**20, 1) if arrival.rate else None,
            'interfaces': dict(arrival.sent), 'strayed': bool(arrival.strayed),
            'error': arrival.error or None,
            'foreseen': [finding.to_dict() for finding in foreseen], 'agrees': agrees}
        if parsed_args.back:
            fields['back'] = {'arrived': returned is not None and not returned.error,
                              'seconds': round(returned.seconds, 2) if returned else None,
                              'error': (returned.error or None) if returned else None}
        if parsed_args.formatter not in ('json', 'yaml'):
            fields['foreseen'] = Findings(foreseen) if foreseen else 'all checks of the path are ok'
            fields['interfaces'] = ', '.join(
                f'{name} {count} bytes' for name, count in arrival.sent.items())
            if arrival.strayed:
                fields['strayed'] = (f'{arrival.strayed} bytes at least, not over '
                                     f'{", ".join(sorted(way.intended))}')
            fields['agrees'] = 'confirmed' if agrees else 'the checks were wrong'
        return list(fields), list(fields.values())


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
            travel.Way(home.uri, migrationuri.data_uri(home, bool(own))))


def _checked(conf: Any, parsed_args: argparse.Namespace, stderr: Any) -> list[Finding]:
    """Return what the enabled checks of the path find that is not well."""
    loaded = runner.load(list(conf.migcheck.checks))
    paths = {name: one for name, one in loaded.items()
             if one.check is not None and one.check.WHEN == 'path'}
    rounds = Rounds(conf, paths, parsed_args.target, parsed_args.connect, stderr)
    return [one for one in rounds.run().findings if one.outcome is not Outcome.OK]
