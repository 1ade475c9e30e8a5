# SPDX-License-Identifier: Apache-2.0
"""What the machine can do to a round of checks: a share and a resolver that never answer, a full disk, a libvirtd that was stopped."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from nova_migcheck import published
from tests.lab import libvirtd, mount_namespace

ROOT = pathlib.Path(__file__).parents[2]
BACKENDS = pytest.mark.parametrize('backend', ['threading', 'eventlet'])
# MIGCHECK_ROUNDS=1000 for the long run.
ROUNDS = int(os.environ.get('MIGCHECK_ROUNDS', '8'))

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(mount_namespace.missing()), reason=mount_namespace.missing() or 'all there')]

RUN = '''
import json, os, time
from nova_migcheck import runner
from nova_migcheck.checks.base import Settings
from nova_migcheck.checks.storage import StorageCheck
from tests import attack_checks

checks = [*attack_checks.ALL, StorageCheck]
loop = runner.Runner({{c.NAME: runner.Loaded(c.NAME, c, f'{{c.__module__}}:{{c.__name__}}') for c in checks}})
told = Settings(options={{'DEFAULT': {{'instances_path': os.path.abspath('instances')}}}}, timeout=1.0)
for number in range(2):
    begun = time.monotonic()
    found = loop.run({{name: told for name in {names!r}}}, 3.0).findings
    with open(f'/proc/self/task/{{os.getpid()}}/children') as file:
        children = file.read().split()
    left = [pid for pid in children if open(f'/proc/{{pid}}/comm').read().strip() not in ('bindfs', 'python-silent')]
    print(json.dumps({{'findings': {{f.check: [str(f.outcome), f.detail] for f in found}}, 'seconds': time.monotonic() - begun,
                       'left': len(left)}}))
'''


def rounds(work, shell, *names):
    (work / 'instances').mkdir()
    return [json.loads(line) for line in mount_namespace.run(work, shell, RUN.format(names=names), 60).splitlines()]


def test_a_share_that_never_answers(tmp_path):
    for said in rounds(tmp_path, 'share 10.0.0.5:/export instances\nkill -STOP $server', 'touches', 'storage', 'well'):
        assert said['findings']['storage'][0] == 'failure' and 'did not answer' in said['findings']['storage'][1]
        assert said['findings']['touches'] == ['unknown', 'the check had not finished after 3 s and was killed']
        assert said['findings']['well'][0] == 'ok'
        assert said['seconds'] < 10 and said['left'] == 0


# A resolver that never answers: names are asked of a socket that only listens.
SILENT = """
cat > resolv.conf <<END
nameserver 127.0.0.1
options timeout:20
END
cat > silent.py <<END
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
open("bound", "w")
open("/proc/self/comm", "w").write("python-silent")
while True: s.recv(512)
END
ip link set lo up
mount --bind resolv.conf "$(realpath /etc/resolv.conf)"
python3 silent.py & resolver=$!
until [ -e bound ]; do kill -0 $resolver; sleep 0.02; done
"""


def test_a_resolver_that_never_answers(tmp_path):
    for said in rounds(tmp_path, SILENT, 'resolves', 'well'):
        assert said['findings']['resolves'] == ['unknown', 'the check had not finished after 3 s and was killed']
        assert said['findings']['well'][0] == 'ok' and said['seconds'] < 10 and said['left'] == 0


@BACKENDS
def test_nova_compute_on_a_host_whose_share_and_resolver_never_answer(tmp_path, backend):
    """All attacks, one after another, in a process like nova-compute."""
    (tmp_path / 'instances').mkdir()
    code = f"""
import os, runpy, sys
sys.argv = ['attack', '{max(ROUNDS, 13)}', '{tmp_path}/instances']
os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] = '{str(backend == 'threading').lower()}'
runpy.run_module('tests.functional.attack', run_name='__main__')
"""
    shell = f'{SILENT}\nshare 10.0.0.5:/export instances\nkill -STOP $server'
    said = json.loads(mount_namespace.run(tmp_path, shell, code, 60 + 3 * ROUNDS).splitlines()[-1])
    assert said['patched'] == (backend == 'eventlet')
    # One less is no leak: a worker of somebody else's may have ended meanwhile.
    assert {what: count for what, count in said['after'].items() if count > said['before'][what]} == {}
    # The hung rounds took their whole deadline; nothing else in the process noticed.
    assert said['hung'] >= 1.0 > said['attacked']['longest']
    assert said['said']['touches'].keys() == said['said']['resolves'].keys() == {'unknown'}
    assert said['said']['storage'].keys() == {'failure'} and said['said']['well'].keys() == {'ok'}


def test_a_full_disk(tmp_path):
    """Nothing of a round is on any disk: it runs with each directory for temporary files full."""
    shell = ('mkdir full\nfor at in full /var/tmp /dev/shm; do mount -t tmpfs -o size=64k none $at; head -c 65536 /dev/zero > $at/full\n'
             'done\nexport TMPDIR=$PWD/full')
    for said in rounds(tmp_path, shell, 'well', 'storage'):
        assert said['findings']['well'][0] == said['findings']['storage'][0] == 'ok' and said['left'] == 0


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


@pytest.mark.libvirt
@pytest.mark.nova
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
    assert any('libvirtd has not answered within 1 s; what it said' in text and 'still counts: cpu, guests' in text
               for text in stopped['findings'])
    assert not any('libvirtd' in text for when in ('before', 'after') for text in said[when]['findings'])
    # A round costs its deadline at most, and a decision what libvirtd is given for one question; a thread hangs, the process does not.
    assert stopped['longest']['round'] < 4 + 2 * 2 and 1 <= stopped['longest']['decision'] < 4
    assert stopped['heart']['longest'] < stopped['longest']['decision'] and stopped['longest']['publishing'] < 1
    # A thread less is none left behind: one of Nova's may end meanwhile.
    assert all(said['holds'][what] <= count for what, count in said['held'].items()) and said['held']['children'] == 0
