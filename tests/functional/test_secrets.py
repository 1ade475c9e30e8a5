# SPDX-License-Identifier: Apache-2.0
"""Passwords of nova.conf are in no log, no report, no event, and no process's arguments or environment."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.functional.hypervisor import Cpu

# With characters that a URL needs escaped, and one that a careless pattern takes for the end of the password.
BUS, PLACEMENT, DATABASE = 'kaninchen1', 'p@ss/wort:2', 'datenbank3'
SECRETS = (BUS, PLACEMENT, 'p%40ss', DATABASE)


class TestSecrets:
    CLOUD = {
        'cpus': {'compute1': Cpu(), 'compute2': Cpu()}, 'debug': True,
        # Nothing listens on port 1.
        'conf': {
            'migcheck': {'checks': 'cpu,endpoint,address,transport,raises', 'probe_timeout': '2', 'round_deadline': '6',
                         'extra_endpoints': f'http://user:{DATABASE}@127.0.0.1:1/x'},
            'placement': {'auth_type': 'password', 'auth_url': 'http://127.0.0.1:1/v3', 'username': 'placement',
                          'password': PLACEMENT, 'project_name': 'service', 'user_domain_name': 'Default',
                          'project_domain_name': 'Default'},
        },
        # The bus of the tests is not to be taken away from Nova itself.
        'host_conf': {host: {'DEFAULT': {'transport_url': f'rabbit://nova:{BUS}@127.0.0.1:1,nova:{BUS}@127.0.0.1:2/'}}
                      for host in ('compute1', 'compute2')},
    }

    @pytest.fixture
    def started(self, monkeypatch):
        """(arguments, environment, what stands on standard input) of each process that is started."""
        seen = []
        start = subprocess.Popen.__init__

        def noted(process, args, **kwargs):
            stdin = kwargs.get('stdin')
            told = os.pread(stdin, 10 ** 6, 0) if isinstance(stdin, int) and stdin >= 0 else b''
            seen.append((args, kwargs.get('env') or dict(os.environ), told))
            return start(process, args, **kwargs)

        monkeypatch.setattr(subprocess.Popen, '__init__', noted)
        return seen

    def test_no_secret_leaves(self, shared_cloud, started):
        for host in shared_cloud.hosts.values():
            host.set('migcheck', 'recheck_after', '0')
        server = shared_cloud.boot('compute1')
        shared_cloud.check()
        refused = [shared_cloud.live_migrate(server), shared_cloud.live_migrate(server, 'compute2', force=True)]

        # That this test sees what it is about: the endpoints were tried, with these very settings, and refused.
        assert [migration.status for migration in refused] == ['error', 'error']
        assert '127.0.0.1:1' in shared_cloud.log.output
        assert BUS.encode() in b''.join(told for _args, _env, told in started)
        assert shared_cloud.log.lines('DEBUG', 'nova_migcheck')

        stats = json.dumps([shared_cloud.stats(host) for host in shared_cloud.hosts])
        assert '127.0.0.1:1' in stats
        events = '\n'.join(migration.texts for migration in refused)
        assert '127.0.0.1:1' in events
        processes = '\n'.join(f'{args} {env}' for args, env, _told in started)
        for where in (stats, events, processes, shared_cloud.log.output):
            assert [secret for secret in SECRETS if secret in where] == []
