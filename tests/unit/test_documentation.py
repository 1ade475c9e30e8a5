# SPDX-License-Identifier: Apache-2.0
"""Each command line of the documentation is run by a test: by one that asks for it by its words, or for all lines of its program."""

import ast
import configparser
import os
import subprocess
import sys

import pytest

from tests import documentation

#: Run by a test of this file.
HERE = ('tox -e genconfig', 'reno new SLUG')
#: Those that are not: why, and what stands for them.
ELSEWHERE = {
    'tox -e functional-2024.1': 'makes an environment that "./run test --releases 2024.1" makes, too, and runs the same in it',
    'tox -e py39': 'needs a Python 3.9; it runs tests/unit, as "./run test" does',
    'python -m mutmut results': 'after "./run mutate", which takes an hour',
    'python -m mutmut show NAME': 'the same',
}


def asked_for():
    """(programs whose lines a test gets from documentation.of(), all other texts in the tests that use that module)"""
    programs, texts = set(), set()
    for path in (documentation.ROOT / 'tests').rglob('test_*.py'):
        source = path.read_text()
        if 'documentation.' in source and str(path) != __file__:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'of' and isinstance(node.args[0], ast.Constant):
                    programs.add(node.args[0].value)
                elif isinstance(node, ast.Constant):
                    texts.add(node.value)
    return programs, texts


def test_every_line_is_run_by_a_test():
    programs, texts = asked_for()
    assert len(documentation.lines()) > 40
    not_run = [f'{where}: {text}' for where, text in documentation.lines()
               if text.split()[0] not in programs and text not in texts and text not in (*HERE, *ELSEWHERE)]
    assert not_run == []


def test_only_what_is_there_is_excused():
    assert set(ELSEWHERE) <= {line.text for line in documentation.lines()}


@pytest.mark.parametrize('line', documentation.of('tox'))
def test_tox_has_the_environment(line):
    ini = configparser.ConfigParser()
    ini.read(documentation.ROOT / 'tox.ini')
    assert ini[f'testenv:{line.split()[2]}'].get('commands')


def test_the_sample_is_generated(tmp_path):
    """By what tox would run."""
    ini = configparser.ConfigParser()
    ini.read(documentation.ROOT / 'tox.ini')
    name = documentation.typed(HERE[0])[-1]
    program, *words = ini[f'testenv:{name}']['commands'].split()
    assert words[-1] == 'etc/nova-migcheck.conf.sample'
    subprocess.run([os.path.join(os.path.dirname(sys.executable), program), *words[:-1], tmp_path / 'sample'], check=True, timeout=120)
    assert (tmp_path / 'sample').read_text() == (documentation.ROOT / words[-1]).read_text()


def test_a_release_note_is_begun(tmp_path):
    words = documentation.typed(HERE[1], SLUG='a-change')
    subprocess.run([os.path.join(os.path.dirname(sys.executable), words[0]), *words[1:]], cwd=tmp_path, check=True, timeout=120)
    note, = (tmp_path / 'releasenotes/notes').glob('a-change-*.yaml')
    assert 'features:' in note.read_text()
