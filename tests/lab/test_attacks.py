# SPDX-License-Identifier: Apache-2.0
"""What the machine can do to a round of checks: a share and a resolver that never answer, a full disk."""
import json

import pytest

from tests.lab import mount_namespace

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(mount_namespace.missing()), reason=mount_namespace.missing() or 'all there')]

RUN = '''
import json, os, time
from nova_migcheck import runner
from nova_migcheck.checks.base import Settings
from nova_migcheck.checks.storage import StorageCheck
from tests.lab import blocking_checks

checks = [blocking_checks.Stats, blocking_checks.Resolves, blocking_checks.Well, StorageCheck]
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
    for said in rounds(tmp_path, 'share 10.0.0.5:/export instances\nkill -STOP $server', 'stats', 'storage', 'well'):
        assert said['findings']['storage'][0] == 'failure' and 'did not answer' in said['findings']['storage'][1]
        assert said['findings']['stats'] == ['unknown', 'the check had not finished after 3 s and was killed']
        assert said['findings']['well'][0] == 'ok'
        assert said['seconds'] < 10 and said['left'] == 0


def test_a_resolver_that_never_answers(tmp_path):
    (tmp_path / 'resolv.conf').write_text('nameserver 127.0.0.1\noptions timeout:20\n')
    (tmp_path / 'silent.py').write_text('import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n'
                                        's.bind(("127.0.0.1", 53))\n'
                                        'open("bound", "w")\nopen("/proc/self/comm", "w").write("python-silent")\n'
                                        'while True: s.recv(512)\n')
    shell = ('ip link set lo up\nmount --bind resolv.conf "$(realpath /etc/resolv.conf)"\npython3 silent.py & server=$!\n'
             'until [ -e bound ]; do kill -0 $server; sleep 0.02; done')
    for said in rounds(tmp_path, shell, 'resolves', 'well'):
        assert said['findings']['resolves'] == ['unknown', 'the check had not finished after 3 s and was killed']
        assert said['findings']['well'][0] == 'ok' and said['seconds'] < 10 and said['left'] == 0


def test_a_full_disk(tmp_path):
    """Nothing of a round is on any disk: it runs with /tmp, /var/tmp and /dev/shm full."""
    shell = 'for at in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o size=64k none $at; head -c 65536 /dev/zero > $at/full; done'
    work = tmp_path
    for said in rounds(work, shell.replace('/tmp /var', '/var'), 'well', 'storage'):
        assert said['findings']['well'][0] == said['findings']['storage'][0] == 'ok' and said['left'] == 0
