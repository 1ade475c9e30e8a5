# SPDX-License-Identifier: Apache-2.0
"""Attacks on nova-compute from inside its checks, on native threads and under eventlet, and what is left after many rounds."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.nova

ROOT = pathlib.Path(__file__).parents[2]
# MIGCHECK_ROUNDS=1000 for the long run.
ROUNDS = int(os.environ.get('MIGCHECK_ROUNDS', '40'))


@pytest.mark.parametrize('backend', ['threading', 'eventlet'])
def test_rounds_of_bad_checks_leave_nothing_and_hold_up_nobody(backend):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.functional.attack', str(ROUNDS)], cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60 + 3 * ROUNDS, check=False,
        env={**os.environ, 'OS_NOVA_DISABLE_EVENTLET_PATCHING': str(backend == 'threading').lower(),
             'PYTHONPATH': f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'})
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said['patched'] == (backend == 'eventlet')
    # A thread of Nova's own imports may end meanwhile; none of ours may be left.
    assert all(said['after'][what] <= said['before'][what] for what in said['before']) and said['after']['children'] == 0
    # The hung round took its whole deadline; nothing else in the process noticed.
    assert said['took'] >= 4.0
    assert said['longest'] < 3.0
    assert ['hangs', 'unknown'] in said['findings'] and ['well', 'ok'] in said['findings']
    assert 0 < said['many'] <= 1001
