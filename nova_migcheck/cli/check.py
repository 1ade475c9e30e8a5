# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck check``: what nova-compute would find about this host, now. Needs nova.conf only."""

from __future__ import annotations

import argparse
import contextlib
import socket
import time
from typing import Any, Iterator, Optional, Sequence

from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck import runner
from nova_migcheck.aftermath import tally
from nova_migcheck.cli import prometheus
from nova_migcheck.cli.listing import EXIT, Listing, Words, nova_is_installed, seconds
from nova_migcheck.finding import Finding, worst
from nova_migcheck.settings import Reader

COLUMNS = ('outcome', 'check', 'subject', 'detail', 'origin', 'remedy', 'scope')


class Check(Listing):
    """Check this host as a live migration target, now."""

    EXAMPLES = (
        ('check', 'all that is checked each minute'),
        ('check --only address,transport --target compute2', 'and the path from here to a target'),
        ('check -f json', 'for a program'),
        ('check --watch 10', 'while you repair it'),
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
        reader = Reader(conf)
        checks = _chosen(list(conf.migcheck.checks), parsed_args)
        rounds = _Rounds(conf, reader, checks, parsed_args.target, parsed_args.connect, self.app.stderr)
        if not parsed_args.watch:
            outcome, rows = self._round(parsed_args, rounds)
            if self.nested(parsed_args):
                return (*COLUMNS, 'subjects'), [(*row, Words(list(f.subjects))) for row, f in zip(rows, outcome.findings)]
            return COLUMNS, rows
        self._shown = True
        # Ctrl-C is how a person ends it: the exit code is the last round's.
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                begun = time.monotonic()
                outcome, rows = self._round(parsed_args, rounds)
                self._show(parsed_args, rows, outcome)
                time.sleep(max(0.0, parsed_args.watch - (time.monotonic() - begun)))
        return COLUMNS, []

    def _round(self, parsed_args: argparse.Namespace, rounds: _Rounds) -> tuple[runner.Round, list[tuple[str, ...]]]:
        outcome = rounds.run()
        self.code = EXIT[worst(finding.outcome for finding in outcome.findings)]
        if parsed_args.prometheus:
            prometheus.write(parsed_args.prometheus, outcome, rounds.names, tally.read(rounds.state_path))
        return outcome, [(str(finding.outcome), *(getattr(finding, name) for name in COLUMNS[1:])) for finding in outcome.findings]

    _shown = False

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Any) -> int:
        if self._shown:
            return 0
        return self._print(parsed_args, column_names, data)

    def _print(self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Any) -> int:
        if self.on_terminal(parsed_args) and not parsed_args.columns:
            from nova_migcheck.cli import terminal
            terminal.on(self.app.stdout).print(terminal.findings(
                [Finding(**dict(zip(column_names, row))) for row in data]))
            return 0
        if parsed_args.formatter == 'table' and not parsed_args.columns and not any(row[-1] for row in data):
            column_names, data = column_names[:-1], [row[:-1] for row in data]
        return super().produce_output(parsed_args, column_names, data)

    def _show(self, parsed_args: argparse.Namespace, rows: Sequence[Sequence[Any]], outcome: runner.Round) -> None:
        """One round of those that --watch asks for."""
        if self.on_terminal(parsed_args):
            from nova_migcheck.cli import terminal
            terminal.on(self.app.stdout).clear()
        self._print(parsed_args, COLUMNS, rows)
        self.say(time.strftime('%H:%M:%S', time.localtime(outcome.started)) + f', took {outcome.seconds:.1f} s')


class _Rounds:
    """Rounds of checks, as nova-compute runs them, with a live line for each check where a person looks."""

    def __init__(self, conf: Any, reader: Reader, checks: dict[str, runner.Loaded], target: Optional[str], connect: Optional[str],
                 stderr: Any) -> None:
        self._conf, self._reader, self._checks, self._stderr = conf, reader, checks, stderr
        self._target = {'host': target, 'connect': connect or target, 'migration': {}} if target else None
        self._runner = runner.Runner(checks)
        self._memory: dict[str, Any] = {}

    @property
    def state_path(self) -> str:
        """Where nova-compute leaves its numbers; '' when this host's configuration does not say."""
        try:
            return str(self._conf.state_path)
        except cfg.NoSuchOptError:  # Nova is not installed here
            return ''

    @property
    def names(self) -> list[str]:
        """The checks that run."""
        return list(self._checks)

    def run(self) -> runner.Round:
        """One round."""
        settings = {}
        for name, loaded in self._checks.items():
            if loaded.check is None:
                settings[name] = self._reader.nothing()
            elif loaded.check.WHEN == 'path':
                settings[name] = self._reader.read(loaded.check, target=self._target)
            else:
                settings[name] = self._reader.read(loaded.check, self._memory.get(name))
        with _live(self._stderr, list(settings)) as progress:
            outcome = self._runner.run(settings, self._conf.migcheck.round_deadline, progress)
        self._memory.update(outcome.memory)
        return outcome


@contextlib.contextmanager
def _live(stderr: Any, names: Sequence[str]) -> Iterator[Optional[runner.Progress]]:
    if stderr.isatty():
        from nova_migcheck.cli import progress
        with progress.Live(stderr, names) as live:
            yield live
    else:
        yield None


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
