# SPDX-License-Identifier: Apache-2.0
"""The same under eventlet, which patches all of a process: so in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import nova
import pytest

from tests.functional import nova_release

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = 'tests/functional'
# One of each way: the hook on the destination, the hook on the source, the filter, and what hangs. "./run test --releases" runs them all.
TESTS = [
    f'{HERE}/test_hooks.py::TestRefusals::test_refused_by_the_destination_and_by_the_source_the_server_lands_on_the_next',
    f'{HERE}/test_filter.py::TestEnforce::test_unsafe_targets_are_never_asked',
    f'{HERE}/test_broken_checks.py::TestHungRound',
    f'{HERE}/test_fences.py::TestEntries::test_each_breaks_and_nova_goes_on',
    f'{HERE}/test_service.py::TestStart::test_nothing_is_left_when_nova_compute_stops',
]


# One test that is a dozen: it takes as long as they do where all processors are busy.
@pytest.mark.timeout(400)
@pytest.mark.skipif(nova_release.is_eventlet(), reason='this is that process')
def test_under_eventlet():
    assert nova  # imported: native threads in this process
    env = {**os.environ, 'OS_NOVA_DISABLE_EVENTLET_PATCHING': 'false'}
    done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
                           # It imports what cannot be imported with sockets that eventlet patched.
                           '-p', 'no:hypothesispytest', '--show-capture=no', *TESTS],
                          cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=360)
    assert done.returncode == 0, done.stdout[-6000:]
    assert 'passed' in done.stdout and 'failed' not in done.stdout
