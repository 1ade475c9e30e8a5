# SPDX-License-Identifier: Apache-2.0
"""Each code has a page for whoever is on call: its sections, and that what it names exists."""

import argparse
import ast
import pathlib
import re
import shlex

import pytest

from nova_migcheck import conf
from nova_migcheck.cli import baseline, check, codes, compare, drain, explain, hosts, matrix
from tests.unit.test_codes import CHECKS, DECLARED

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {
    path.stem: path.read_text()
    for path in sorted((ROOT / 'doc/source/runbooks').glob('*.rst'))
    if path.stem != 'index'
}
SECTIONS = ['See it by hand', 'Mend it', 'Accept it on purpose', 'Shown by']
OPTIONS = {opt.name for opt in conf.OPTS}
COMMANDS = (baseline.Baseline, check.Check, codes.Codes, compare.Compare, drain.Drain,
            explain.Explain, hosts.Hosts, matrix.Matrix)
#: What a policy may name; CHECK stands for any of them.
NAMES = {'clock', 'report', 'CHECK', *(check.NAME for check in CHECKS)}


def rows():
    """Return the rows of the lab: classes, and keys of ELSEWHERE."""
    found = set()
    for path in (ROOT / 'tests/lab/cloud/faults').glob('*.py'):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'ELSEWHERE':
                found |= set(ast.literal_eval(node.value))
    return found


def section(code, title):
    return PAGES[code].partition(f'\n{title}\n{"=" * len(title)}\n')[2].partition('\n====')[0]


def test_each_code_has_a_page_and_each_page_a_code():
    assert sorted(PAGES) == sorted(DECLARED)


@pytest.mark.parametrize('code', PAGES)
def test_page(code):
    text = PAGES[code]
    rule = '=' * len(code)
    assert text.startswith(f'{rule}\n{code}\n{rule}\n\n')
    assert re.findall(r'(?m)^(\S.*)\n={3,}$', text) == [code, *SECTIONS]
    assert all(re.search(r'\w', section(code, title)) for title in SECTIONS)
    assert max(map(len, text.splitlines())) <= 100
    shown = re.findall(r'``([^`]+)``', section(code, 'Shown by'))
    paths = [name for name in shown if name.startswith('tests/')]
    assert paths and all((ROOT / path).is_file() for path in paths)
    assert set(shown) - set(paths) <= rows()
    accept = ' '.join(section(code, 'Accept it on purpose').split())
    assert set(re.findall(r'\[migcheck\] (\w+)', accept)) <= OPTIONS
    assert set(re.findall(r'(\w+):(?:warn|ignore|reject)\b', accept)) <= NAMES
    assert set(re.findall(r':doc:`([a-z-]+)`', text)) <= PAGES.keys()


@pytest.mark.parametrize('code', PAGES)
def test_its_lines_of_nova_migcheck_are_such(code):
    lines = re.findall(r'(?m)^ +[$#] nova-migcheck (.+)$', PAGES[code])
    quoted = re.findall(r'``nova-migcheck ([^`\s]+ [^`]+)``', ' '.join(PAGES[code].split()))
    by_name = {command.__name__.lower(): command for command in COMMANDS}
    for name, *words in map(shlex.split, [*lines, *quoted]):
        by_name[name](argparse.Namespace(), None).get_parser(name).parse_args(words)
