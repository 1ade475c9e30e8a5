# SPDX-License-Identifier: Apache-2.0
"""The man page that is shipped names every command and every option of its own."""

import pathlib

import pytest

from nova_migcheck.cli.main import Commands, Migcheck

PAGE = pathlib.Path(__file__).parents[3] / 'doc/man/nova-migcheck.1'
COMMANDS = [point for _name, point in Commands('nova_migcheck.cli')]


@pytest.mark.parametrize('command', sorted(COMMANDS), ids=lambda command: command.name)
def test_every_command_and_option_is_there(command):
    text = PAGE.read_text(encoding='utf-8').replace('\\-', '-')
    parser = command.load()(Migcheck(), None, cmd_name=command.name).get_parser('nova-migcheck')
    theirs = {'--help', '--noindent', '--quote', '--max-width', '--fit-width', '--print-empty', '--sort-column', '--sort-ascending',
              '--sort-descending', '--prefix', '--variable'}  # cliff's, which only --help tells
    options = {option for action in parser._actions for option in action.option_strings if option.startswith('--')} - theirs
    missing = {option for option in options if option not in text}
    assert not missing and f'fB{command.name}' in text
