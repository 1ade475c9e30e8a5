# SPDX-License-Identifier: Apache-2.0
"""What the documentation says of ./run: each of its lines is run, up to where it would install, or begin with what takes minutes.

What would begin is recorded instead, and looked at: the modules and files are there, and take these arguments. ``./run test`` itself is
what runs this.
"""

import importlib.util
import pathlib
import shlex
from importlib.machinery import SourceFileLoader

import pytest

from tests import documentation, nova_releases, roots
from tests.bench import arguments as of_the_bench
from tests.lab.cloud import arguments as of_the_lab
from tests.lab.mixed import arguments as of_mixed
from tests.peer import arguments as of_peer

PARSERS = {'tests.bench': of_the_bench.parser, 'tests.lab.cloud': of_the_lab.parser, 'tests.lab.mixed': of_mixed.parser,
           'tests.peer': of_peer.parser}


class Recorder:
    """Stands for ``subprocess`` and for what installs."""

    STDOUT = DEVNULL = PIPE = None

    def __init__(self):
        self.began = []

    def call(self, *words, **_how):
        self.began.append([str(word) for word in words])
        return 0

    def Popen(self, words, **_how):
        self.began.append([str(word) for word in words])
        return self

    def wait(self):
        return 0


class Elsewhere:
    """Stands for another release of Debian: the command is begun here."""

    def __init__(self, release, run):
        assert release in roots.CODENAMES
        self._run = run

    def install(self, *packages):
        assert packages

    def run(self, program, *words, directory):
        assert (program, directory) == ('./run', roots.PLACE)
        return self._run(*words)[0]


@pytest.fixture
def run(monkeypatch):
    loader = SourceFileLoader('the_run', str(documentation.ROOT / 'run'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('the_run', loader))
    monkeypatch.setattr('sys.dont_write_bytecode', True)
    loader.exec_module(module)
    recorder = Recorder()
    monkeypatch.setattr(module, 'subprocess', recorder)
    monkeypatch.setattr(module, 'call', recorder.call)
    monkeypatch.setattr(nova_releases, 'on_release', lambda release, threads, words, environment: (
        recorder.call(f'{nova_releases.venv(release)}/bin/python', '-m', 'pytest', *words), 'all passed'))
    for name in ('environment', 'system', 'pip', 'make', 'debian', 'must'):
        monkeypatch.setattr(module, name, lambda *_args, **_how: None)
    monkeypatch.setattr(module, 'another', lambda release: Elsewhere(release, run))
    monkeypatch.setenv('MIGCHECK_SKIPS_FAIL', 'no')
    for name in ('MIGCHECK_ROUNDS', 'MIGCHECK_FUZZ'):
        monkeypatch.setenv(name, '1')

    def run(*words):
        monkeypatch.setattr('sys.argv', ['./run', *words])
        return module.main(), recorder.began
    return run


LINES = [words for line in documentation.of('./run') for words in (shlex.split(part) for part in line.split(';'))]


@pytest.mark.parametrize('line', LINES, ids=' '.join)
def test_what_is_typed_is_begun(run, line):
    status, began = run(*line[1:])
    assert status == 0 and began, 'nothing was begun'
    for words in began:
        words = [word for word in words if word not in ('-W', 'ignore')]
        assert pathlib.Path(words[0]).name == 'python' and words[1] == '-m', words
        module, told = words[2], words[3:]
        if module in PARSERS:
            said = [word for word in line[2:] if word != '--help']
            assert said == [word for word in told if word != '--help'], 'not all of it is handed on'
            PARSERS[module]().parse_args(said)
        elif module.startswith(('tests.', 'tools.')):
            # Not imported: tests.functional patches the whole process.
            place = documentation.ROOT / module.replace('.', '/')
            assert place.with_suffix('.py').exists() or (place / '__main__.py').exists(), f'{module} is not there'
        elif module == 'pytest' or told[:3] == ['run', '-m', 'pytest']:
            files = [word for word in told if word.startswith('tests/')]
            assert files and all((documentation.ROOT / file.split('::')[0]).exists() for file in files), files
        else:
            assert module in ('ruff', 'mypy', 'codespell_lib', 'doc8', 'sphinx', 'coverage', 'mutmut'), words


def test_a_release_is_one_that_is_kept_up(run):
    _, began = run('test', '--releases', '2024.1')
    assert [pathlib.Path(words[0]).parts[-3] for words in began] == ['.venv-2024.1']


def test_on_another_release_the_same_is_begun(run):
    status, began = run('bench', '--on', 'debian-13', '10')
    assert (status, [words[1:] for words in began]) == (0, [['-m', 'tests.bench', '10']])


@pytest.mark.parametrize('module, words', [('tests.bench', ['--only', 'nothing']), ('tests.lab.cloud', ['--storry']),
                                           ('tests.lab.mixed', ['--virt', 'xen'])])
def test_what_is_not_known_is_refused(module, words):
    with pytest.raises(SystemExit):
        PARSERS[module]().parse_args(words)


def test_unknown_command(run, capsys):
    assert run('tset') == (2, [])
    assert './run test' in capsys.readouterr().out
