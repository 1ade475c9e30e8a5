# SPDX-License-Identifier: Apache-2.0
"""Change the package in N places, one at a time, and run the tests that belong to each.

Each change is made in a copy of the checkout. PYTHONPATH leads there, so that the processes of the
checks import it too; otherwise they would import the installed package.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import importlib
import multiprocessing
import os
import pathlib
import py_compile
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Iterator

import pytest

from tests.mutation.operators import Mutant, mutants

ROOT = pathlib.Path(__file__).parents[2]
# Set in the copy of the checkout, to its directory.
_COPY = 'MIGCHECK_MUTATED_COPY'
_BY_HASH = py_compile.PycInvalidationMode.CHECKED_HASH
_FORK = multiprocessing.get_context('fork')
# What the tests import most, once for all mutants.
_PRELOADED = (
    'hypothesis',
    'cliff.app',
    'nova.scheduler.filters',
    'nova.virt.libvirt.driver',
    'pyroute2',
    'requests',
)
PACKAGE = 'nova_migcheck'
# Seconds for one run of pytest. A mutant that takes longer counts as killed.
_LONGEST = 900.0
_SKIPPED = ('cpu/releases',)  # a table, made by tools/cpu_names.py
# The slow tests that belong to a module, after its unit tests. Those of its room run only if no
# unit test imports the module, or if the room is mainly tested by them.
_BY_SLOW = ('cli', 'compute', 'novadb', 'scheduler')
_SLOW = {
    'aftermath': 'lab/test_aftermath.py',
    'aftermath/watch': 'functional/test_aftermath.py',
    'checks': 'functional/test_needs.py',
    'checks/address': 'lab/test_address.py',
    'checks/endpoint': 'lab/test_endpoint.py',
    'checks/storage': 'lab/test_storage_mounts.py',
    'checks/tls': 'lab/test_tls.py',
    'checks/transport': 'lab/test_transport.py',
    'cli': 'cli/test_commands.py',
    'cli/check': 'cli/test_check.py',
    'cli/decision': 'functional/test_scheduling.py',
    'cli/drain': 'cli/test_drain.py',
    'cli/drainpage': 'cli/test_drain_page.py',
    'cli/explain': 'functional/test_explain.py',
    'cli/page': 'cli/test_page.py',
    'cli/matrixpage': 'cli/test_page.py',
    'cli/progress': 'cli/test_check.py',
    'cli/rounds': 'cli/test_check.py',
    'compute': 'functional/test_hooks.py',
    'compute/destination': 'functional/test_hooks.py',
    'compute/fence': 'functional/test_fences.py',
    'compute/lifecycle': 'functional/test_fences.py',
    'compute/source': 'functional/test_hooks.py',
    'cpu': 'lab/test_libvirt_cpu.py',
    'endpoints': 'lab/test_endpoint.py',
    'endpoints/survey': 'lab/test_endpoint.py',
    'libvirtd': 'lab/test_modular.py',
    'libvirtd/connection': 'lab/test_modular.py',
    'network': 'lab/test_address.py',
    'network/ownaddresses': 'lab/test_address.py',
    'network/targetnames': 'lab/test_transport.py',
    'novadb': 'functional/test_filter.py',
    'novadb/placement': 'functional/test_scheduling.py',
    'novadb/releases': 'functional/test_scheduling.py',
    'novadb/scheduling': 'functional/test_scheduling.py',
    'novadb/servers': 'cli/test_drain.py',
    'report': 'functional/test_filter.py',
    'rounds': 'functional/test_broken_checks.py',
    'scheduler': 'functional/test_filter.py',
    'storage': 'lab/test_storage_mounts.py',
}


def imported(path: pathlib.Path) -> set[str]:
    """Return the dotted names that a test imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return found


def tests_of(module: str) -> list[list[str]]:
    """Return the tests that belong to a module, in groups, the fast ones first.

    :param module: such as ``network/probe``
    """
    dotted = f'{PACKAGE}.{module.replace("/", ".")}'
    unit = ROOT / 'tests' / 'unit'
    mention = [path for path in sorted(unit.rglob('test_*.py')) if dotted in imported(path)]
    room, _, name = module.rpartition('/')
    own = unit / room / f'test_{name}.py'
    of_room = sorted((unit / room).glob('test_*.py')) if room else []
    rest = [path for path in dict.fromkeys([*mention, *of_room]) if path != own]
    groups = [[own] if own.exists() else [], rest]
    slow = _SLOW.get(module, _SLOW.get(room))
    if slow and (module in _SLOW or room in _BY_SLOW or not (mention or own.exists())):
        groups.append([ROOT / 'tests' / slow])
    return [[str(path.relative_to(ROOT)) for path in group] for group in groups if group]


def all_mutants() -> Iterator[tuple[str, Mutant]]:
    """Yield each change of the package, with its module."""
    for path in sorted((ROOT / PACKAGE).rglob('*.py')):
        module = str(path.relative_to(ROOT / PACKAGE).with_suffix(''))
        if module not in _SKIPPED:
            for mutant in mutants(path.read_text()):
                yield module, mutant


def copy_checkout(place: pathlib.Path) -> None:
    """Copy what git knows, and what it would, into a directory."""
    listed = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    (place / '.venv').symlink_to(ROOT / '.venv')


def _pytest(arguments: list[str], output: str) -> None:
    os.setsid()
    with open(output, 'w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    options = [
        '-x',
        '-q',
        '--timeout=180',
        '--tb=no',
        '-p',
        'no:cacheprovider',
        '--show-capture=no',
        '--hypothesis-seed=0',
        *arguments,
    ]
    if not any('tests/unit/' in argument for argument in arguments):
        # Nova's own test base must be imported before anything else of Nova.
        os.execv(sys.executable, [sys.executable, '-m', 'pytest', *options])
    status = pytest.main(options)
    sys.stdout.flush()
    os._exit(status)


def failed(arguments: list[str]) -> str:
    """Run pytest in a fork, which imports the package anew. Return the first test that fails."""
    with tempfile.NamedTemporaryFile('r') as output:
        process = _FORK.Process(target=_pytest, args=(arguments, output.name))
        process.start()
        process.join(_LONGEST)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            return 'timeout'
        if process.exitcode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return ''
        lines = [line.strip() for line in output if line.startswith(('FAILED ', 'ERROR '))]
    return (lines or [f'pytest ends with {process.exitcode}'])[0]


def killer_of(
    file: pathlib.Path, mutant: Mutant, groups: list[list[str]], unusable: set[str]
) -> str:
    """Return the test that fails only with the mutant, '' if none does.

    :param unusable: the tests that fail without a mutant too; this adds to it
    """
    before = file.read_text()
    for group in groups:
        while True:
            file.write_text(mutant.source)
            without = [f'--{"deselect" if "::" in test else "ignore"}={test}' for test in unusable]
            found = failed([*group, *sorted(without)])
            file.write_text(before)
            name = ''.join(found.partition(' - ')[0].partition('tests/')[1:])
            if not name and found and failed(['--collect-only', *group]):
                raise SystemExit(f'{group} cannot be run: {found}')
            if not name or not failed([name]):
                break
            unusable.add(name)
        if found:
            return found
    return ''


def main() -> int:
    parser = argparse.ArgumentParser(prog='./run mutate', description=__doc__)
    parser.add_argument('--sample', type=int, required=True, metavar='N')
    parser.add_argument('--seed', type=int, default=0, metavar='S')
    parser.add_argument('--only', default='', metavar='MODULE', help='such as network/probe')
    given = parser.parse_args()
    every = [one for one in all_mutants() if f'{one[0]}/'.startswith(given.only.rstrip('/'))]
    drawn = random.Random(given.seed).sample(every, min(given.sample, len(every)))
    for name in _PRELOADED:
        importlib.import_module(name)
    survivors, unusable = [], set[str]()
    for number, (module, mutant) in enumerate(drawn, 1):
        file = ROOT / PACKAGE / f'{module}.py'
        found = killer_of(file, mutant, tests_of(module), unusable)
        text = f'{PACKAGE}/{module}.py:{mutant.old.lineno}, {mutant}'
        print(f'{number}/{len(drawn)} {found or "SURVIVES"}: {text}', flush=True)
        survivors += [] if found else [text]
    print(f'\n{len(survivors)} of {len(drawn)} survive', *survivors, sep='\n  ')
    if unusable:
        print('\nfail without a mutant, and were left out:', *sorted(unusable), sep='\n  ')
    return 0


def main_in_a_copy() -> int:
    """Call this program again in a copy of the checkout."""
    with tempfile.TemporaryDirectory() as directory:
        copy_checkout(pathlib.Path(directory))
        # By time and size, the bytecode of one mutant could be mistaken for that of the next.
        compileall.compile_dir(directory, quiet=2, invalidation_mode=_BY_HASH)
        environment = {
            **os.environ,
            'PYTHONPATH': directory,
            'PYTHONDONTWRITEBYTECODE': '1',
            _COPY: directory,
        }
        return subprocess.call(
            [sys.executable, '-m', 'tests.mutation', *sys.argv[1:]], cwd=directory, env=environment
        )


if __name__ == '__main__':
    sys.exit(main() if os.environ.get(_COPY) == str(ROOT) else main_in_a_copy())
