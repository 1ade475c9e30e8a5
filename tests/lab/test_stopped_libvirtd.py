# SPDX-License-Identifier: Apache-2.0
"""nova-compute with the plugin on a libvirtd that is stopped while it runs, and goes on again."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from nova_migcheck.report import published
from tests.lab import libvirtd

ROOT = pathlib.Path(__file__).parents[2]
BACKENDS = pytest.mark.parametrize('backend', ['threading', 'eventlet'])

pytestmark = [pytest.mark.root, pytest.mark.libvirt, pytest.mark.nova]


@pytest.fixture(scope='module')
def daemon(tmp_path_factory):
    """A real libvirtd, and a nova.conf for a compute host on it."""
    if libvirtd.missing():
        pytest.skip(libvirtd.missing())
    with libvirtd.Libvirtd() as daemon:
        daemon.connect().getCapabilities()  # it asks QEMU what it can
        (daemon.root / 'instances').mkdir()
        (daemon.root / 'nova.conf').write_text(f"""[DEFAULT]
compute_driver = migcheck.LibvirtDriver
host = localhost
state_path = {daemon.root}
transport_url = fake:/
[libvirt]
connection_uri = {daemon.uri}
virt_type = qemu
[oslo_concurrency]
lock_path = {daemon.root}
[migcheck]
checks = cpu,storage,address
check_interval = 3600
probe_timeout = 1
round_deadline = 4
""")
        yield daemon


@BACKENDS
def test_nova_compute_on_a_libvirtd_that_was_stopped(daemon, backend):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.lab.stopped_libvirtd', str(daemon.root / 'nova.conf'), str(daemon.process.pid), '2'],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False,
        env={**os.environ, 'OS_NOVA_DISABLE_EVENTLET_PATCHING': str(backend == 'threading').lower(),
             'PYTHONPATH': f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'})
    assert done.returncode == 0, done.stderr[-5000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said['patched'] == (backend == 'eventlet') and set(published.KEYS) <= set(said['audit'])
    # No decision fails, and none is refused: what had been known of this host's CPU still counts.
    assert [said[when]['accepted'] for when in ('before', 'stopped', 'after')] == [2, 2, 2]
    stopped = said['stopped']
    assert any('libvirtd has not answered within 1 s; results of' in text and 'still count: cpu, guests' in text
               for text in stopped['findings'])
    assert not any('libvirtd' in text for when in ('before', 'after') for text in said[when]['findings'])
    # A round costs its deadline at most, and a decision what libvirtd is given for one question; a thread hangs, the process does not.
    assert stopped['longest']['round'] < 4 + 2 * 2 and 1 <= stopped['longest']['decision'] < 4
    assert stopped['heart']['longest'] < stopped['longest']['decision'] and stopped['longest']['publishing'] < 1
    # A thread less is none left behind: one of Nova's may end meanwhile.
    assert {what: count for what, count in said['holds'].items() if count > said['held'][what]} == {} and said['held']['children'] == 0
