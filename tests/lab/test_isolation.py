# SPDX-License-Identifier: Apache-2.0
"""The namespaces of the lab's cloud go with whoever made them, and all that was started in there with them."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
from typing import Callable

import pytest

from tests.lab import namespaces
from tests.lab.cloud import ROOT, STATE

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(namespaces.missing()), reason=namespaces.missing() or 'all is there')]

# A daemon of its own session, a mount and a bridge; then it waits for whatever comes.
_WORK = """
import subprocess, sys, time
from tests.lab.cloud.isolation import isolated
mark = sys.argv[1]
def work():
    subprocess.run(['ip', 'link', 'add', 'br' + mark[:8], 'type', 'bridge'], check=True)
    subprocess.Popen(['setsid', '--fork', 'sh', '-c', 'sleep 300; :', mark])
    print('up', flush=True)
    time.sleep(300)
    return 0
if __name__ == '__main__':
    sys.exit(isolated('migcheck_isolation_work', [sys.argv[1:]], work))
"""


def _alive(mark: str) -> list[str]:
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass
    return found


def _until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays(tmp_path: pathlib.Path, number: int) -> None:
    mark = uuid.uuid4().hex
    (tmp_path / 'migcheck_isolation_work.py').write_text(_WORK)
    mounts, links = pathlib.Path('/proc/self/mounts').read_text(), os.listdir('/sys/class/net')
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{tmp_path}'}
    # With interrupts ignored, as a shell starts what it runs in the background.
    process = subprocess.Popen(['env', '--ignore-signal=INT', sys.executable, '-m', 'migcheck_isolation_work', mark],
                               stdout=subprocess.PIPE, env=environment, cwd=tmp_path)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b'up\n'
        assert _until(lambda: len(_alive(mark)) >= 5)
        process.send_signal(number)
        status = process.wait(20)
    assert status != 0
    assert _until(lambda: not _alive(mark)), f'still there: {_alive(mark)}'
    assert pathlib.Path('/proc/self/mounts').read_text() == mounts
    assert not [link for link in os.listdir('/sys/class/net') if link not in links and mark[:8] in link]
    assert str(STATE / 'log') not in [str(path) for path in STATE.glob('*')]
