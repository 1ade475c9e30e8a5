# SPDX-License-Identifier: Apache-2.0
"""What the listing commands share: where nova.conf is, how a list is shown on a terminal, the exit code."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import re
import warnings
from typing import Any, ClassVar, Iterable, Iterator, Sequence

from cliff import columns, lister
from cliff.formatters import base, commaseparated
from oslo_config import cfg

from nova_migcheck import atomic
from nova_migcheck.cli import main
from nova_migcheck.cli.columns import Findings
from nova_migcheck.finding import Outcome

# Outcome -> exit code.
EXIT = {Outcome.OK: main.OK, Outcome.WARNING: main.WARNING, Outcome.UNKNOWN: main.WARNING, Outcome.FAILURE: main.FAILURE}


# Entry points of the formats of a command that shows one thing.
ONE = 'nova_migcheck.cli.formatter.one'

# What oslo.config calls the place of a wrong value.
_LOCATION = re.compile(r"LocationInfo\(.*?detail='(?P<file>[^']*)'\)")


class OneInCsv(commaseparated.CSVLister, base.SingleFormatter):
    """``-f csv`` for a command that shows one thing: a line for each of its fields. cliff has it for lists only."""

    def emit_one(self, column_names: Sequence[str], data: Sequence[Any], stdout: Any, parsed_args: argparse.Namespace) -> None:
        """Write it."""
        values = [value.human_readable() if isinstance(value, columns.FormattableColumn) else value for value in data]
        self.emit_list(('field', 'value'), list(zip(column_names, values)), stdout, parsed_args)


class Listing(lister.Lister):
    """A command that prints a list. ``EXAMPLES`` are shown by ``--help``: the command line, then what it is for."""

    EXAMPLES: ClassVar[Sequence[tuple[str, str]]] = ()

    #: The exit code, set by take_action().
    code = main.OK

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        # The examples stand on lines of their own.
        parser.formatter_class = help_formatter(parser.formatter_class)
        add_configuration(parser)
        return parser

    def get_epilog(self) -> str:
        """The examples, and what the exit code says."""
        return epilog(self.EXAMPLES, '0 all well, 1 a failure, 2 a warning or something that could not be told, 255 the command itself '
                                     'failed.')

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the list.

        :returns: the exit code
        """
        prepare(self.app, parsed_args)
        with wrong_values():
            super().run(parsed_args)
        return self.code

    _done = False

    def done(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """What take_action() returns when it has printed by itself all that there is."""
        self._done = True
        return (), ()

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Sequence[Any]]) -> int:
        """On a terminal a table that fits it and has colours; all else is cliff's."""
        if self._done:
            return 0
        if self.on_terminal(parsed_args) and not parsed_args.max_width and not parsed_args.fit_width:
            from nova_migcheck.cli import terminal
            self.formatter = terminal.Table()
        return int(super().produce_output(parsed_args, column_names, data) or 0)

    def on_terminal(self, parsed_args: argparse.Namespace) -> bool:
        """Whether a person looks at a table."""
        return bool(parsed_args.formatter == 'table' and self.app.stdout.isatty())

    def nested(self, parsed_args: argparse.Namespace) -> bool:
        """Whether the output can hold objects in objects."""
        return parsed_args.formatter in ('json', 'yaml')

    def reasons(self, parsed_args: argparse.Namespace, found: Sequence[dict[str, Any]]) -> Any:
        """Findings in one column of a flat list. csv and value would have them as Python writes a list."""
        column = Findings(list(found))
        return column if parsed_args.formatter == 'table' else column.human_readable()

    def say(self, text: str) -> None:
        """A remark beside the output."""
        say(self.app, text)


def say(app: Any, text: str) -> None:
    """A remark on stderr, beside the output. A terminal would break its lines within words."""
    app.stdout.flush()
    if app.stderr.isatty():
        from nova_migcheck.cli import terminal
        terminal.on(app.stderr).print(text)
    else:
        app.stderr.write(f'{text}\n')
    app.stderr.flush()


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """The options that say where nova.conf is."""
    group = parser.add_argument_group('configuration')
    group.add_argument('--config-file', metavar='FILE', action='append', default=[],
                       help="read this nova.conf instead of Nova's usual ones; may be given more than once")
    group.add_argument('--config-dir', metavar='DIR', action='append', default=[],
                       help='read the files of this directory that end in .conf too')


def seconds(text: str) -> float:
    """A number of seconds on the command line. argparse says of any other text that it is none."""
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def epilog(examples: Sequence[tuple[str, str]], codes: str) -> str:
    """The end of a command's help."""
    return '\n\n'.join([*(f'Example, {purpose}:\n\n    nova-migcheck {line}' for line, purpose in examples), f'Exit code: {codes}'])


def prepare(app: Any, parsed_args: argparse.Namespace) -> None:
    """Before Nova is imported: errors come as one sentence from us, what libraries log and warn of on the way is for ``--debug``.

    :raises ValueError: for a configuration that cannot be read; oslo.config's own message does not say why
    """
    if not app.options.debug:
        warnings.simplefilter('ignore')
        logging.getLogger().setLevel(logging.CRITICAL)
        app.LOG.setLevel(logging.INFO)
    try:
        for path in parsed_args.config_file:
            with open(path, encoding='utf-8') as file:
                file.read()
        for path in parsed_args.config_dir:
            os.listdir(path)
    except OSError as e:
        raise ValueError(f'{path} cannot be read: {e.strerror}') from e
    except UnicodeDecodeError as e:
        raise ValueError(f'{path} cannot be read: it is no text in UTF-8') from e


def write(path: str, text: str, durable: bool = False, mode: int = 0o644) -> None:
    """Replace a file in one step, see :func:`nova_migcheck.atomic.write`.

    :raises ValueError: when it cannot be written
    """
    try:
        atomic.write(path, text, durable, mode)
    except OSError as e:
        raise ValueError(f'{path or "a file without a name"} cannot be written: {e.strerror}') from e


@contextlib.contextmanager
def wrong_values() -> Iterator[None]:
    """:raises ValueError: a sentence for the operator where oslo.config's holds its own objects"""
    try:
        yield
    except cfg.ConfigFileValueError as e:
        raise ValueError(_LOCATION.sub(r'\g<file>', str(e))) from e


def nova_is_installed() -> bool:
    """Nova itself, not only the door in ``nova/virt`` that this package brings."""
    try:
        return importlib.util.find_spec('nova.conf') is not None
    except ImportError:
        return False


def help_formatter(wraps: Any) -> Any:
    class Help(wraps, argparse.RawDescriptionHelpFormatter):
        """cliff's, that leaves the lines of the examples alone."""
    return Help
