# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck check``: run the checks of nova-compute on this host now.

It needs only nova.conf, and nova-conductor for ``--server``.
"""

from __future__ import annotations

import argparse
import socket
import time
from typing import Any, Optional, Sequence
from uuid import UUID

from oslo_config import cfg

from nova_migcheck import codes
from nova_migcheck import conf as confs
from nova_migcheck.aftermath import tally
from nova_migcheck.cli.listing import EXIT, Listing, nova_is_installed, seconds
from nova_migcheck.cli.rounds import Rounds
from nova_migcheck.finding import worst
from nova_migcheck.rounds import runner

COLUMNS = ('outcome', 'check', 'subject', 'detail', 'origin', 'remedy', 'scope')


class Check(Listing):
    """Check now whether this host is a safe live migration target."""

    EXAMPLES = (
        ('check', 'all checks that run each minute'),
        ('check --only address,transport --target compute2',
         'also the path from this host to a target'),
        ('check --server 2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11',
         'also what this host would find as the destination of a server'),
        ('check -f json', 'for a program'),
        ('check --watch 10', 'while you repair the host; Ctrl-C ends it'),
        ('check --prometheus /var/lib/node_exporter/nova_migcheck.prom',
         "for node_exporter's textfile collector, from a timer"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--only', metavar='CHECK[,CHECK…]',
                            help='run only these checks; default: [migcheck] checks')
        parser.add_argument('--target', metavar='HOST',
                            help='also check the path from this host to HOST')
        parser.add_argument('--connect', metavar='ADDRESS',
                            help="the target's [libvirt] live_migration_inbound_addr; "
                                 'default: its name')
        parser.add_argument('--server', metavar='UUID', type=UUID,
                            help='also find what this host would find as the destination of this '
                                 'server, which is asked for from nova-conductor')
        parser.add_argument('--watch', metavar='SECONDS', type=seconds,
                            help='repeat every SECONDS seconds')
        parser.add_argument('--prometheus', metavar='FILE',
                            help='also write metrics to this file; it is replaced in one step')
        return parser

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Run the checks, and return the columns and the rows."""
        conf = configuration(parsed_args, self.say)
        if parsed_args.connect and not parsed_args.target:
            raise ValueError('--connect is the address of a target: give the target with --target')
        self._chosen = _chosen(list(conf.migcheck.checks), parsed_args)
        checks = {name: each for name, each in self._chosen.items() if _when(each) != 'server'}
        if parsed_args.server:
            _connect(conf)
        drawn = self.drawn(parsed_args)
        rounds = Rounds(conf, checks, parsed_args.target, parsed_args.connect, self.app.stderr,
                        drawn and bool(parsed_args.watch))
        if parsed_args.watch:
            self._watch(parsed_args, rounds, drawn)
            return self.done()
        outcome = self._round(parsed_args, rounds)
        if drawn:
            from nova_migcheck.cli import roundview
            roundview.show(self.app.stdout, rounds.host, outcome, list(self._chosen))
            return self.done()
        return self._list(parsed_args, outcome)

    def _round(self, parsed_args: argparse.Namespace, rounds: Rounds) -> runner.Round:
        if parsed_args.server:
            from nova_migcheck.cli import arriving
            from nova_migcheck.novadb import conductor
            coming = conductor.coming(rounds.conf, str(parsed_args.server))
            outcome = rounds.run()
            outcome.findings += list(
                arriving.findings(rounds.conf, self._chosen, coming, outcome))
        else:
            outcome = rounds.run()
        self.code = EXIT[worst(finding.outcome for finding in outcome.findings)]
        if parsed_args.prometheus is not None:
            from nova_migcheck.cli import prometheus
            prometheus.write(parsed_args.prometheus, outcome, list(self._chosen),
                             tally.read(rounds.state_path))
        return outcome

    def _watch(self, parsed_args: argparse.Namespace, rounds: Rounds, drawn: bool) -> None:
        """Run rounds until Ctrl-C. The exit code is that of the last round.

        :raises KeyboardInterrupt: when no round has finished
        """
        before: Optional[runner.Round] = None
        try:
            while True:
                started = time.monotonic()
                outcome = self._round(parsed_args, rounds)
                if drawn:
                    from nova_migcheck.cli import roundview
                    roundview.again(self.app.stdout, rounds.host, outcome, list(self._chosen),
                                    before)
                else:
                    self.produce_output(parsed_args, *self._list(parsed_args, outcome))
                    clock = time.strftime('%H:%M:%S', time.localtime(outcome.started))
                    self.say(f'{clock}, took {outcome.seconds:.1f} s')
                before = outcome
                time.sleep(max(0.0, started + parsed_args.watch - time.monotonic()))
        except KeyboardInterrupt:
            if before is None:
                raise

    def _list(self, parsed_args: argparse.Namespace,
              outcome: runner.Round) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the names of the columns, and a row for each finding.

        A table has a column of scopes only if there are any.
        """
        rows: list[tuple[Any, ...]] = [
            (str(finding.outcome), *(getattr(finding, name) for name in COLUMNS[1:]))
            for finding in outcome.findings]
        if self.nested(parsed_args):
            return (*COLUMNS, 'code', 'subjects'), [
                (*row, finding.code, list(finding.subjects))
                for row, finding in zip(rows, outcome.findings)]
        if parsed_args.formatter == 'table':  # for a person
            rows = [(*row[:5], codes.advice(row[5], finding.code), row[6])
                    for row, finding in zip(rows, outcome.findings)]
        scoped = any(row[-1] for row in rows)
        if parsed_args.formatter == 'table' and not parsed_args.columns and not scoped:
            return COLUMNS[:-1], [row[:-1] for row in rows]
        return COLUMNS, rows


def _chosen(enabled: list[str], parsed_args: argparse.Namespace) -> dict[str, runner.Loaded]:
    """Return the checks to run; those of a path only if there is a target.

    :raises ValueError: for a name in ``--only`` that is no check, or if no check is left
    """
    names = enabled
    if parsed_args.only:
        names = [name.strip() for name in parsed_args.only.split(',') if name.strip()]
    loaded = runner.load(list(dict.fromkeys(names)))
    if parsed_args.only:
        wrong = [f'{name}: {each.error}' for name, each in loaded.items() if each.check is None]
        if wrong:
            raise ValueError(f'{"; ".join(wrong)}. Enabled are: {", ".join(enabled)}')
    for when, option, what in (
            ('path', 'target', 'the path to a target: give it'),
            ('server', 'server', 'one server, on its target: give its UUID')):
        names = [name for name, each in loaded.items() if _when(each) == when]
        if not getattr(parsed_args, option):
            if names and parsed_args.only:
                raise ValueError(f'{", ".join(names)} checks {what} with --{option}')
            loaded = {name: each for name, each in loaded.items() if name not in names}
    if not loaded:
        raise ValueError('there is no check to run: see [migcheck] checks')
    return loaded


def _when(loaded: runner.Loaded) -> str:
    return loaded.check.WHEN if loaded.check is not None else ''


def _connect(conf: Any) -> None:
    """Let Nova's objects be read from nova-conductor.

    :raises ModuleNotFoundError: without Nova
    """
    if not nova_is_installed():
        raise ModuleNotFoundError('Nova is not installed here, which --server needs')
    from nova_migcheck.novadb import conductor
    conductor.connect(conf)


def configuration(parsed_args: argparse.Namespace, say: Any) -> Any:
    """Return the configuration of nova-compute on this host, with ``[migcheck]``."""
    argv = [*(f'--config-file={path}' for path in parsed_args.config_file),
            *(f'--config-dir={path}' for path in parsed_args.config_dir)]
    if nova_is_installed():
        import nova.conf
        conf = nova.conf.CONF
    else:
        say("Nova is not installed here: the defaults of Nova's options are not available, only "
            'what the configuration files set.')
        conf = cfg.ConfigOpts()
        conf.register_opt(cfg.StrOpt('host', default=socket.gethostname()))
    # Like nova-compute, which also reads nova-compute.conf if there is one.
    conf(argv, project='nova', prog='nova-compute')
    if not conf.config_file and not conf.config_dir:
        raise FileNotFoundError('there is no nova.conf: give one with --config-file')
    confs.register(conf)
    return conf
