# SPDX-License-Identifier: Apache-2.0
"""What the documentation tells people to type exists: every command line in it is tried here, or is listed with the reason."""

import functools
import glob
import importlib.util
import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader

import pytest

ROOT = os.path.join(os.path.dirname(__file__), '..', '..')
PAGES = sorted([*glob.glob(f'{ROOT}/doc/source/**/*.rst', recursive=True), *glob.glob(f'{ROOT}/*.rst')])

# Programs that are not this project's, and why no test types them: those that need a cloud are typed by the lab in their API's form.
OTHERS = {
    'openstack': 'the client of a running cloud',
    'pip': 'installs into the machine; tests/functional/test_install.py builds and installs the wheel',
    'systemctl': 'restarts the services of a real host',
    'apt-get': 'changes the machine',
    'tox': 'runs these tests',
    'pre-commit': 'runs the linters over the repository',
    'git': 'not this project',
    'kolla-ansible': 'deploys a cloud',
    'kolla-build': 'builds container images',
    'virsh': 'needs the libvirtd of the host in question',
    'docker': 'needs the containers of the host in question',
    'chronyc': 'needs the chronyd of the host in question',
    'sysctl': 'changes the machine',
}
_PROMPT = re.compile(r'^\s*[$#] ')
_OWN = re.compile(r'^(nova-migcheck|\./run|python3? -m (tests|nova_migcheck)\S*|oslo-config-generator)\b')


def command_lines(path):
    """Lines of literal blocks that begin with a prompt or with a program of ours or of :data:`OTHERS`."""
    with open(path) as page:
        for number, line in enumerate(page, 1):
            text = _PROMPT.sub('', line).strip()
            if not line.startswith((' ', '\t')) or not text or line.strip().startswith('#'):
                continue
            prompted = bool(re.match(r'^\s*\$ ', line))
            # A program's name also begins sentences of an indented paragraph; nobody types a word with a comma or a full stop at its end.
            typed = _OWN.match(text) and not re.search(r'[.,:;]$', text) and '``' not in text
            if prompted or typed:
                yield f'{os.path.relpath(path, ROOT)}:{number}', re.sub(r'\s+#\s.*$', '', text)


LINES = [line for path in PAGES for line in command_lines(path)]


@functools.cache
def help_of(*command):
    ran = subprocess.run([sys.executable, '-m', 'nova_migcheck.cli.main', *command, '--help'], capture_output=True, text=True, timeout=100,
                         cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@functools.cache
def runs_commands():
    loader = SourceFileLoader('the_run', os.path.join(ROOT, 'run'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('the_run', loader))
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module.COMMANDS


def test_there_are_lines():
    assert len(LINES) > 10


@pytest.mark.parametrize('where, text', LINES, ids=[where for where, _text in LINES])
def test_what_is_typed_exists(where, text):
    words = re.split(r'\s+[|>;]', text)[0].split()
    program = words[0]
    if program == 'nova-migcheck':
        commands = [word for word in words[1:2] if not word.startswith('-')]
        said = help_of(*commands) if commands else help_of()
        for word in words[1:]:
            if word.startswith('--'):
                assert word.partition('=')[0] in said or word in ('--help', '--debug'), where
    elif program == './run':
        assert len(words) == 1 or words[1] in runs_commands(), where
    elif program.startswith('python'):
        assert importlib.util.find_spec(words[2]), where
    elif program == 'oslo-config-generator':
        assert '--namespace nova_migcheck' in text, where
    else:
        assert program in OTHERS, f'{where}: {program} is neither tried here nor listed in OTHERS'
