# SPDX-License-Identifier: Apache-2.0
"""What the machine can do to a round of checks: a share and a resolver that never answer, a full disk."""
import json
import os

import pytest

from tests.lab import mount_namespace

BACKENDS = pytest.mark.parametrize('backend', ['threading', 'eventlet'])
# MIGCHECK_ROUNDS=1000 for the long run.
ROUNDS = int(os.environ.get('MIGCHECK_ROUNDS', '8'))

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(mount_namespace.missing()), reason=mount_namespace.missing() or 'all there')]

RUN = '''
import json, os, time
from nova_migcheck.rounds import runner
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
        assert said['findings']['touches'] == ['unknown', 'the check was killed: it had not finished after 3 s']
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
        assert said['findings']['resolves'] == ['unknown', 'the check was killed: it had not finished after 3 s']
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
    # The hung rounds took their whole deadline; nothing else in the process noticed. A busy machine may stop it too, now and then.
    assert said['hung'] >= 1.0 and said['attacked']['stops'] <= max(1, said['hanging'] // 4)
    assert said['said']['touches'].keys() == said['said']['resolves'].keys() == {'unknown'}
    assert said['said']['storage'].keys() == {'failure'} and said['said']['well'].keys() == {'ok'}


def test_a_full_disk(tmp_path):
    """Nothing of a round is on any disk: it runs with each directory for temporary files full."""
    shell = ('mkdir full\nfor at in full /var/tmp /dev/shm; do mount -t tmpfs -o size=64k none $at; head -c 65536 /dev/zero > $at/full\n'
             'done\nexport TMPDIR=$PWD/full')
    for said in rounds(tmp_path, shell, 'well', 'storage'):
        assert said['findings']['well'][0] == said['findings']['storage'][0] == 'ok' and said['left'] == 0
