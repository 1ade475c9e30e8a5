# SPDX-License-Identifier: Apache-2.0
"""Share what the commands need: the location of nova.conf, the output format, the exit code."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import re
import warnings
from typing import Any, ClassVar, Iterable, Sequence

from cliff import columns, command, lister
from cliff.formatters import base, commaseparated
from oslo_config import cfg

from nova_migcheck import atomic
from nova_migcheck.cli import main
from nova_migcheck.cli.columns import Findings
from nova_migcheck.finding import Finding, Outcome

#: Outcome -> exit code.
EXIT = {Outcome.OK: main.OK, Outcome.WARNING: main.WARNING, Outcome.UNKNOWN: main.WARNING,
        Outcome.FAILURE: main.FAILURE}

#: Entry points of the formatters for a command that shows one thing.
ONE = 'nova_migcheck.cli.formatter.one'

# How oslo.config describes the location of a wrong value.
_LOCATION = re.compile(r"LocationInfo\(.*?detail='(?P<file>[^']*)'\)")


class OneInCsv(commaseparated.CSVLister, base.SingleFormatter):
    """Add ``-f csv`` to a command that shows one thing, which cliff has only for lists.

    Each field is one line.
    """

    def emit_one(self, column_names: Sequence[str], data: Sequence[Any], stdout: Any,
                 parsed_args: argparse.Namespace) -> None:
        """Write the fields to ``stdout``."""
        values = [value.human_readable() if isinstance(value, columns.FormattableColumn) else value
                  for value in data]
        rows = list(zip(column_names, values))
        self.emit_list(('field', 'value'), rows, stdout, parsed_args)


class Command(command.Command):
    """A command with examples in its help.

    A subclass inherits one of cliff's display commands too. ``EXAMPLES`` are shown by ``--help``:
    command line and purpose of each. ``CODES`` explains the exit code.
    """

    EXAMPLES: ClassVar[Sequence[tuple[str, str]]] = ()
    CODES: ClassVar[str] = ('0 all is well, 1 a failure, 2 a warning or an unknown result, '
                            '255 the command itself failed.')

    #: The exit code, set by take_action().
    code = main.OK

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return a parser whose help keeps the lines of the examples."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        wraps: Any = parser.formatter_class

        class Help(wraps, argparse.RawDescriptionHelpFormatter):
            pass
        parser.formatter_class = Help
        return parser

    def get_epilog(self) -> str:
        """Return the examples and the exit codes."""
        return '\n\n'.join([
            *(f'Example, {purpose}:\n\n    nova-migcheck {line}'
              for line, purpose in self.EXAMPLES),
            f'Exit code: {self.CODES}'])

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the output, and return the exit code."""
        super().run(parsed_args)
        return self.code

    def say(self, text: str) -> None:
        """Write a remark to stderr, in addition to the output."""
        # rich would not break long lines within words, as the terminal does.
        self.app.stdout.flush()
        if self.app.stderr.isatty():
            from nova_migcheck.cli import terminal
            terminal.console_for(self.app.stderr).print(text)
        else:
            self.app.stderr.write(f'{text}\n')
        self.app.stderr.flush()


class Configured(Command):
    """A command that reads nova.conf."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser, with the options for the location of nova.conf."""
        parser = super().get_parser(prog_name)
        group = parser.add_argument_group('configuration')
        group.add_argument('--config-file', metavar='FILE', action='append', default=[],
                           help='read this file instead of the default nova.conf; can be repeated')
        group.add_argument('--config-dir', metavar='DIR', action='append', default=[],
                           help='also read the .conf files of this directory; can be repeated')
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the output, and return the exit code.

        :raises ValueError: with a sentence for the operator, if an option has a wrong value
        """
        _prepare(self.app, parsed_args)
        try:
            return super().run(parsed_args)
        except cfg.ConfigFileValueError as e:
            raise ValueError(_LOCATION.sub(r'\g<file>', str(e))) from e


class Listing(Configured, lister.Lister):
    """A command that prints a list."""

    _done = False

    def done(self) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the result of a take_action() that has printed all output itself."""
        self._done = True
        return (), ()

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Sequence[str],
                       data: Iterable[Sequence[Any]]) -> int:
        """Print a coloured table of the right width on a terminal, else what cliff prints."""
        if self._done:
            return 0
        if (self.on_terminal(parsed_args) and not parsed_args.max_width
                and not parsed_args.fit_width):
            from nova_migcheck.cli import terminal
            self.formatter = terminal.Table()
        return int(super().produce_output(parsed_args, column_names, data) or 0)

    def on_terminal(self, parsed_args: argparse.Namespace) -> bool:
        """Return whether the output is a table on a terminal."""
        return bool(parsed_args.formatter == 'table' and self.app.stdout.isatty())

    def drawn(self, parsed_args: argparse.Namespace) -> bool:
        """Return whether to draw an overview on a terminal instead of a list."""
        return self.on_terminal(parsed_args) and not parsed_args.columns

    def nested(self, parsed_args: argparse.Namespace) -> bool:
        """Return whether the output format has nested objects."""
        return parsed_args.formatter in ('json', 'yaml')

    def reasons(self, parsed_args: argparse.Namespace, findings: Sequence[Finding]) -> Any:
        """Return findings for one column of a flat list.

        csv and value would print the ``repr()`` of a list.
        """
        column = Findings(findings)
        return column if parsed_args.formatter == 'table' else column.human_readable()


def seconds(text: str) -> float:
    """Return a number of seconds from the command line.

    :raises ValueError: for any other text; argparse turns it into an error message
    """
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def _prepare(app: Any, parsed_args: argparse.Namespace) -> None:
    """Silence the libraries unless ``--debug`` is set, and check the configuration files.

    Call it before Nova is imported.

    :raises ValueError: for a file that cannot be read; oslo.config's own message has no reason
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
        raise ValueError(f'{path} cannot be read: it is not UTF-8 text') from e


def write(path: str, text: str, durable: bool = False, mode: int = 0o644) -> None:
    """Replace a file in one step, see :func:`nova_migcheck.atomic.write`.

    :raises ValueError: when it cannot be written
    """
    try:
        atomic.write(path, text, durable, mode)
    except OSError as e:
        raise ValueError(f'{path or "a file without a name"} cannot be written: '
                         f'{e.strerror}') from e


def nova_is_installed() -> bool:
    """Return whether Nova itself is installed, not only this package's module in ``nova/virt``."""
    try:
        return importlib.util.find_spec('nova.conf') is not None
    except ImportError:
        return False
