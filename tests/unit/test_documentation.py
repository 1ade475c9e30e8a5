# SPDX-License-Identifier: Apache-2.0
"""Each command line of the documentation is run by a test: by one that asks for it by its words, or for all lines of its program."""

import ast
import configparser
import os
import re
import subprocess
import sys

import pytest

from tests import documentation

#: Run by a test of this file.
HERE = (*documentation.of('tox'), 'reno new SLUG')


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
               if text.split()[0] not in programs and text not in texts and text not in HERE]
    assert not_run == []


@pytest.mark.parametrize('line', documentation.of('tox'))
def test_tox_begins(line, tmp_path):
    """As far as where it would make an environment, and install in it: what it would install from and run is there."""
    program, *words = documentation.typed(line)
    asked = [sys.executable, '-m', program, 'config', *words, '-k', 'deps', 'commands', '--workdir', tmp_path]
    said = subprocess.run(asked, cwd=documentation.ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    requirements = re.findall(r'(?m)^ *-r (.+)$', said.stdout)
    files = re.findall(r'\b(?:tests|etc)/\S+', said.stdout.partition('commands =')[2])
    assert requirements and files and all((documentation.ROOT / file).exists() for file in requirements + files), said.stdout


def test_the_sample_is_generated(tmp_path):
    """By what tox would run."""
    ini = configparser.ConfigParser()
    ini.read(documentation.ROOT / 'tox.ini')
    name = documentation.typed('tox -e genconfig')[-1]
    program, *words = ini[f'testenv:{name}']['commands'].split()
    assert words[-1] == 'etc/nova-migcheck.conf.sample'
    subprocess.run([os.path.join(os.path.dirname(sys.executable), program), *words[:-1], tmp_path / 'sample'], check=True, timeout=120)
    assert (tmp_path / 'sample').read_text() == (documentation.ROOT / words[-1]).read_text()


def test_a_release_note_is_begun(tmp_path):
    words = documentation.typed('reno new SLUG', SLUG='a-change')
    subprocess.run([os.path.join(os.path.dirname(sys.executable), words[0]), *words[1:]], cwd=tmp_path, check=True, timeout=120)
    note, = (tmp_path / 'releasenotes/notes').glob('a-change-*.yaml')
    assert 'features:' in note.read_text()
