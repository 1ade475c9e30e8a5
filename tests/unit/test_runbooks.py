# SPDX-License-Identifier: Apache-2.0
"""Each code and each alert has a page for whoever is on call: its sections, and that what it names
exists.
"""

import argparse
import ast
import pathlib
import re
import shlex

import pytest

from nova_migcheck import conf
from nova_migcheck.cli import (
    baseline,
    check,
    codes,
    compare,
    drain,
    explain,
    hosts,
    matrix,
    rehearse,
)
from tests import prometheus
from tests.lab.cloud import oncall
from tests.unit.test_codes import CHECKS, DECLARED

ROOT = pathlib.Path(__file__).parents[2]


def pages(directory):
    """Return the text of each page in a directory of the documentation, by its name."""
    found = sorted((ROOT / 'doc/source' / directory).glob('*.rst'))
    return {path.stem: path.read_text() for path in found if path.stem != 'index'}


PAGES = pages('runbooks')
SECTIONS = ['See it by hand', 'Mend it', 'Accept it on purpose', 'Shown by']
ALERT_PAGES = pages('alerts')
ALERT_SECTIONS = ['See it by hand', 'Mend it', 'Silence it on purpose']
ALERTS = {alert['alert']: alert['annotations'] for alert in prometheus.ALERTS}
OPTIONS = {opt.name for opt in conf.OPTS}
COMMANDS = (
    baseline.Baseline,
    check.Check,
    codes.Codes,
    compare.Compare,
    drain.Drain,
    explain.Explain,
    hosts.Hosts,
    matrix.Matrix,
    rehearse.Rehearse,
)
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


def section(text, title):
    return text.partition(f'\n{title}\n{"=" * len(title)}\n')[2].partition('\n====')[0]


def links(text):
    """Return the names of the runbooks that a page leads to, from wherever it is."""
    return {
        name.removeprefix('/runbooks/')
        for name in re.findall(r':doc:`([a-z/-]+)`', text)
        if '/' not in name or name.startswith('/runbooks/')
    } - {'/runbooks/index'}


def has_sections(name, text, sections):
    rule = '=' * len(name)
    assert text.startswith(f'{rule}\n{name}\n{rule}\n\n')
    assert re.findall(r'(?m)^(\S.*)\n={3,}$', text) == [name, *sections]
    assert all(re.search(r'\w', section(text, title)) for title in sections)
    assert max(map(len, text.splitlines())) <= 100
    assert set(re.findall(r'\[migcheck\] (\w+)', ' '.join(text.split()))) <= OPTIONS
    assert links(text) - {'index'} <= PAGES.keys()


def test_each_code_has_a_page_and_each_page_a_code():
    assert sorted(PAGES) == sorted(DECLARED)


def test_each_alert_has_a_page_and_each_page_an_alert():
    assert sorted(ALERT_PAGES) == sorted(ALERTS)
    assert all(told['runbook'] == f'alerts/{name}' for name, told in ALERTS.items())


@pytest.mark.parametrize('code', PAGES)
def test_page(code):
    text = PAGES[code]
    has_sections(code, text, SECTIONS)
    assert re.search(r'kolla|same with each\s+distribution', section(text, 'Mend it'))
    shown = re.findall(r'``([^`]+)``', section(text, 'Shown by'))
    paths = [name for name in shown if name.startswith('tests/')]
    assert paths and all((ROOT / path).is_file() for path in paths)
    assert set(shown) - set(paths) <= rows()
    accept = ' '.join(section(text, 'Accept it on purpose').split())
    assert set(re.findall(r'(\w+):(?:warn|ignore|reject)\b', accept)) <= NAMES


@pytest.mark.parametrize('name', ALERT_PAGES)
def test_page_of_an_alert(name):
    text = ALERT_PAGES[name]
    has_sections(name, text, ALERT_SECTIONS)
    command = ALERTS[name]['command'].removesuffix(' -f json')
    assert command in section(text, 'See it by hand')
    assert set(re.findall(r'alertname=(\w+)', text)) <= {name}


@pytest.mark.parametrize('drill', oncall.drills('web1'), ids=lambda drill: drill.alert)
def test_what_the_lab_types_is_what_is_printed(drill):
    """``./run lab --on-call`` runs it."""
    assert drill.as_printed()


@pytest.mark.parametrize('name', [*PAGES, *ALERT_PAGES])
def test_its_lines_of_nova_migcheck_are_such(name):
    text = {**PAGES, **ALERT_PAGES}[name]
    lines = re.findall(r'(?m)^ +[$#] nova-migcheck (.+)$', text)
    quoted = re.findall(r'``nova-migcheck ([^`\s]+ [^`]+)``', ' '.join(text.split()))
    by_name = {command.__name__.lower(): command for command in COMMANDS}
    for command, *words in map(shlex.split, [*lines, *quoted]):
        by_name[command](argparse.Namespace(), None).get_parser(command).parse_args(words)
