# SPDX-License-Identifier: Apache-2.0
"""What the documentation has an administrator type, by the client that he has, from Nova's own API on a port of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
from typing import Any, Iterator
from wsgiref import simple_server

import pytest

from nova_migcheck.cli import drain
from tests import documentation
from tests.functional import nova_release, test_scheduling

pytestmark = [pytest.mark.nova, pytest.mark.skipif(
    nova_release.is_eventlet(), reason='a process cannot be waited for beside a server once eventlet has patched both')]


class _Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, *_args: Any) -> None:
        pass


@contextlib.contextmanager
def _served(app: Any, project: str) -> Iterator[str]:
    """Where Nova's API answers whoever comes as the administrator: Keystone's middleware is what Nova's own fixture leaves out."""
    def as_administrator(environ: dict[str, Any], start_response: Any) -> Any:
        environ.update(HTTP_X_AUTH_USER='admin', HTTP_X_AUTH_PROJECT_ID=project, HTTP_X_ROLES='admin,member,reader')
        return app(environ, start_response)
    with simple_server.make_server('127.0.0.1', 0, as_administrator, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_port}/v2.1'
        finally:
            server.shutdown()
            thread.join(10)


def _typed(url: str, words: list[str]) -> str:
    """What the client prints, as an administrator's."""
    program = os.path.join(os.path.dirname(sys.executable), words[0])
    ran = subprocess.run([program, '--os-auth-type', 'none', '--os-endpoint', url, *words[1:]], timeout=120, capture_output=True, text=True,
                         check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


class TestEmptyingAHost:
    CLOUD = test_scheduling.CLOUD

    def test_by_the_commands_of_the_plan(self, cloud):
        """As the page says it: the service is disabled, the servers go where the plan says, the service is enabled again."""
        if cloud.wsgi_app is None:
            pytest.skip('this release of Nova does not hand out its API')
        cloud.set('placement', 'endpoint_override', cloud.placement.fixture.endpoint)
        servers = [cloud.boot('compute5') for _count in range(2)]
        with _served(cloud.wsgi_app(), cloud.instance(servers[0]).project_id) as url:
            _typed(url, documentation.typed('openstack compute service set --disable --disable-reason maintenance compute1 nova-compute',
                                            compute1='compute5'))
            made = test_scheduling.plan('compute5')
            lines = list(drain.commands(made))
            assert len(lines) == 2 and len(made.moves) == 2
            for line in lines:
                _typed(url, shlex.split(line))
            assert {server: cloud.host_of(server) for server in servers} == {move.server.uuid: move.target for move in made.moves}
            assert test_scheduling.plan('compute5').moves == ()
            _typed(url, documentation.typed('openstack compute service set --enable compute1 nova-compute', compute1='compute5'))
            assert 'compute5' in test_scheduling.decision(servers[0]).ranked


def test_the_events_of_a_refusal(cloud, unreachable):
    if cloud.wsgi_app is None:
        pytest.skip('this release of Nova does not hand out its API')
    cloud.hosts['compute2'].set('migcheck', 'recheck_after', '0')
    server = cloud.server('compute1')
    cloud.say('compute2', unreachable)
    assert cloud.live_migrate(server).refusals.keys() == {'compute2'}
    with _served(cloud.wsgi_app(), cloud.instance(server).project_id) as url:
        def told(words: list[str]) -> Any:
            return json.loads(_typed(url, [*words, '-f', 'json']))
        listed = told(documentation.typed('openstack server event list 2f0f1c4e-...', **{'2f0f1c4e_...': server}))
        request = next(event['Request ID'] for event in listed if event['Action'] == 'live-migration')
        events = told(documentation.typed('openstack --os-compute-api-version 2.84 server event show 2f0f1c4e-... req-...',
                                          **{'2f0f1c4e_...': server, 'req_...': request}))['events']
    refused = next(event for event in events if event['event'].startswith('migcheck_refused_'))
    assert (refused['host'], refused['result']) == ('compute2', 'Error')
    assert refused['details'].startswith('endpoint: http://192.0.2.5:8780')
