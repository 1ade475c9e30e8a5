# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck check``: what nova-compute would find about this host, now. Needs nova.conf only."""

from __future__ import annotations

import argparse
import socket
import time
from typing import Any, Optional, Sequence

from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck.aftermath import tally
from nova_migcheck.cli import prometheus
from nova_migcheck.cli.columns import Words
from nova_migcheck.cli.listing import EXIT, Listing, nova_is_installed, seconds
from nova_migcheck.cli.rounds import Rounds
from nova_migcheck.finding import worst
from nova_migcheck.rounds import runner

COLUMNS = ('outcome', 'check', 'subject', 'detail', 'origin', 'remedy', 'scope')


class Check(Listing):
    """Check this host as a live migration target, now."""

    EXAMPLES = (
        ('check', 'all that is checked each minute'),
        ('check --only address,transport --target compute2', 'and the path from here to a target'),
        ('check -f json', 'for a program'),
        ('check --watch 10', 'while you repair it; Ctrl-C ends it'),
        ('check --prometheus /var/lib/node_exporter/nova_migcheck.prom', "for node_exporter's textfile collector, from a timer"),
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--only', metavar='CHECK[,CHECK…]', help='only these checks; default: [migcheck] checks')
        parser.add_argument('--target', metavar='HOST', help='check the path from here to this host, too')
        parser.add_argument('--connect', metavar='ADDRESS',
                            help="the target's [libvirt] live_migration_inbound_addr; default: its name")
        parser.add_argument('--watch', metavar='SECONDS', type=seconds, help='again and again, with so many seconds between')
        parser.add_argument('--prometheus', metavar='FILE', help='write metrics to this file as well; it is replaced in one step')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        conf = _conf(parsed_args, self.say)
        if parsed_args.connect and not parsed_args.target:
            raise ValueError('--connect says where a target is contacted: give the target with --target')
        checks = _chosen(list(conf.migcheck.checks), parsed_args)
        drawn = self.on_terminal(parsed_args) and not parsed_args.columns
        rounds = Rounds(conf, checks, parsed_args.target, parsed_args.connect, self.app.stderr, drawn and bool(parsed_args.watch))
        if parsed_args.watch:
            self._watch(parsed_args, rounds, drawn)
            return self.done()
        outcome = self._round(parsed_args, rounds)
        if drawn:
            from nova_migcheck.cli import roundview
            roundview.show(self.app.stdout, rounds.host, outcome, rounds.names)
            return self.done()
        return self._list(parsed_args, outcome)

    def _round(self, parsed_args: argparse.Namespace, rounds: Rounds) -> runner.Round:
        outcome = rounds.run()
        self.code = EXIT[worst(finding.outcome for finding in outcome.findings)]
        if parsed_args.prometheus is not None:
            prometheus.write(parsed_args.prometheus, outcome, rounds.names, tally.read(rounds.state_path))
        return outcome

    def _watch(self, parsed_args: argparse.Namespace, rounds: Rounds, drawn: bool) -> None:
        """Round after round. Ctrl-C is how a person ends it: the exit code is the last round's.

        :raises KeyboardInterrupt: when not even one has come to its end
        """
        before: Optional[runner.Round] = None
        try:
            while True:
                begun = time.monotonic()
                outcome = self._round(parsed_args, rounds)
                if drawn:
                    from nova_migcheck.cli import roundview
                    roundview.again(self.app.stdout, rounds.host, outcome, rounds.names, before)
                else:
                    self.produce_output(parsed_args, *self._list(parsed_args, outcome))
                    self.say(time.strftime('%H:%M:%S', time.localtime(outcome.started)) + f', took {outcome.seconds:.1f} s')
                before = outcome
                time.sleep(max(0.0, parsed_args.watch - (time.monotonic() - begun)))
        except KeyboardInterrupt:
            if before is None:
                raise

    def _list(self, parsed_args: argparse.Namespace, outcome: runner.Round) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """(names of the columns, a row for each finding). In a table a column of scopes is shown only where there are any."""
        rows: list[tuple[Any, ...]] = [(str(f.outcome), *(getattr(f, name) for name in COLUMNS[1:])) for f in outcome.findings]
        if self.nested(parsed_args):
            return (*COLUMNS, 'subjects'), [(*row, Words(list(f.subjects))) for row, f in zip(rows, outcome.findings)]
        if parsed_args.formatter == 'table' and not parsed_args.columns and not any(row[-1] for row in rows):
            return COLUMNS[:-1], [row[:-1] for row in rows]
        return COLUMNS, rows


def _chosen(enabled: list[str], parsed_args: argparse.Namespace) -> dict[str, runner.Loaded]:
    """The checks to run: those of a path only where a path is asked for.

    :raises ValueError: for a name in ``--only`` that is no check, or when nothing is left to run
    """
    names = [name.strip() for name in parsed_args.only.split(',') if name.strip()] if parsed_args.only else enabled
    loaded = runner.load(list(dict.fromkeys(names)))
    if parsed_args.only:
        wrong = [name for name, check in loaded.items() if check.check is None]
        if wrong:
            raise ValueError('; '.join(f'{name}: {loaded[name].error}' for name in wrong) + f'. Enabled are: {", ".join(enabled)}')
    if not parsed_args.target:
        paths = [name for name, check in loaded.items() if check.check is not None and check.check.WHEN == 'path']
        if paths and parsed_args.only:
            raise ValueError(f'{", ".join(paths)} looks at the path to a target: say which with --target')
        loaded = {name: check for name, check in loaded.items() if name not in paths}
    if not loaded:
        raise ValueError('no check is left to run: see [migcheck] checks')
    return loaded


def _conf(parsed_args: argparse.Namespace, say: Any) -> Any:
    """The configuration that nova-compute has here, ``[migcheck]`` registered."""
    files, directories = parsed_args.config_file, parsed_args.config_dir
    argv = [f'--config-file={path}' for path in files] + [f'--config-dir={path}' for path in directories]
    if nova_is_installed():
        import nova.conf
        conf = nova.conf.CONF
    else:
        say("Nova is not installed here: only what the configuration files set is known, not the defaults of Nova's options.")
        conf = cfg.ConfigOpts()
        conf.register_opt(cfg.StrOpt('host', default=socket.gethostname()))
    # As nova-compute: it reads nova-compute.conf besides nova.conf where there is one.
    conf(argv, project='nova', prog='nova-compute')
    if not conf.config_file and not conf.config_dir:
        raise FileNotFoundError('no nova.conf was found: give one with --config-file')
    confs.register(conf)
    return conf
