# SPDX-License-Identifier: Apache-2.0
"""Attacks on nova-compute from inside its checks, on native threads and under eventlet, and what is left after many rounds."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.functional import nova_release

pytestmark = pytest.mark.nova

ROOT = pathlib.Path(__file__).parents[2]
# MIGCHECK_ROUNDS=1000 for the long run.
ROUNDS = int(os.environ.get('MIGCHECK_ROUNDS', '20'))


@pytest.mark.parametrize('backend', [
    pytest.param('threading', marks=pytest.mark.skipif(
        not nova_release.has_native_threads(), reason='before 2025.2 Nova has nothing but eventlet')), 'eventlet'])
def test_rounds_of_bad_checks_leave_nothing_and_hold_up_nobody(backend):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.functional.attack', str(ROUNDS)], cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60 + 3 * ROUNDS, check=False,
        env={**os.environ, 'OS_NOVA_DISABLE_EVENTLET_PATCHING': str(backend == 'threading').lower(),
             'PYTHONPATH': f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'})
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said['patched'] == (backend == 'eventlet')
    # One less is no leak: a worker of somebody else's may have ended meanwhile.
    assert {what: count for what, count in said['after'].items() if count > said['before'][what]} == {} and said['after']['children'] == 0
    # The hung rounds took their whole deadline; nothing else in the process noticed. A busy machine may stop it too, now and then.
    assert said['hung'] >= 1.0 and said['attacked']['stops'] <= max(1, said['hanging'] // 4)
    # Each attack did what it is for, each time, and the well check beside it was heard.
    assert {name: set(kinds) for name, kinds in said['said'].items()} == {
        'well': {'ok'}, 'raises': {'unknown'}, 'rubbish': {'unknown'}, 'dies': {'unknown'}, 'eats': {'unknown'}, 'prints': {'ok'},
        'forks': {'ok'}, 'opens': {'ok'}, 'many': {'failure,unknown'}, 'hangs': {'unknown'}}
