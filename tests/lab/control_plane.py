# SPDX-License-Identifier: Apache-2.0
"""A real keystone and a real RabbitMQ on an island."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fixtures

from tests.lab.island import Island

PASSWORD = 'admin-geheim-1'

_KEYSTONE = '''
[database]
connection = sqlite:///{path}/keystone.db
[fernet_tokens]
key_repository = {path}/fernet
[fernet_receipts]
key_repository = {path}/fernet
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
password_hash_rounds = 4
'''

# keystone takes seconds to be imported: once, and a child for each command.
_SERVE = '''
import os, socketserver, sys, wsgiref.simple_server
path, address, port, password, *url = sys.argv[1:]
conf = ['--config-file', path + '/keystone.conf']
from keystone.cmd import cli
from keystone.server import wsgi

def manage(*args):
    child = os.fork()
    if not child:
        cli.main(argv=['keystone-manage', *args], developer_config_file=path + '/keystone.conf')
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit('keystone-manage %s failed' % args[0])

manage('db_sync')
manage('fernet_setup', '--keystone-user', 'root', '--keystone-group', 'root')
manage('bootstrap', '--bootstrap-password', password, '--bootstrap-region-id', 'RegionOne',
       '--bootstrap-internal-url', 'http://%s:%s/v3' % (address, port))

class Threaded(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True

class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass

sys.argv = ['keystone']
application = wsgi.initialize_public_application()
server = wsgiref.simple_server.make_server(address, int(port), application, Threaded, Quiet)
print('serving', flush=True)
server.serve_forever()
'''


class Process(fixtures.Fixture):
    """A process group on the island. :meth:`wait_until_up` blocks until it serves."""

    def __init__(self, island: Island) -> None:
        super().__init__()
        self.island = island

    def start(self, command: list[str], **environment: str) -> None:
        self.log = self.path / 'log'
        with open(self.log, 'wb') as log:
            self.process = self.island.popen(*command, stdout=subprocess.PIPE, stderr=log,
                                             env={**os.environ, **environment})
        self.addCleanup(self._stop)

    def _setUp(self) -> None:
        self.path = Path(self.useFixture(fixtures.TempDir()).path)

    def _stop(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()

    def wait_for(self, line: str) -> None:
        """:raises AssertionError: when the process ended before it said ``line``"""
        assert self.process.stdout is not None
        for said in self.process.stdout:
            if line in said:
                return
        raise AssertionError(f'{self.process.args} ended:\n{self.log.read_text()[-3000:]}')


class Keystone(Process):
    """The PyPI release, with fernet tokens and sqlite; its admin may do everything."""

    def __init__(self, island: Island, address: str, port: int = 5000) -> None:
        super().__init__(island)
        self.address, self.port = address, port
        self.url = f'http://{address}:{port}/v3'
        self._session: Any = None
        self._services: dict[str, str] = {}

    def _setUp(self) -> None:
        super()._setUp()
        (self.path / 'fernet').mkdir()
        (self.path / 'keystone.conf').write_text(_KEYSTONE.format(path=self.path))
        (self.path / 'serve.py').write_text(_SERVE)
        self.start([sys.executable, str(self.path / 'serve.py'), str(self.path), self.address, str(self.port), PASSWORD],
                   OS_KEYSTONE_CONFIG_FILES=str(self.path / 'keystone.conf'))

    def wait_until_up(self) -> None:
        self.wait_for('serving')

    def session(self) -> Any:
        """As admin, with one token for all. Use it where the thread has entered the island."""
        if self._session is None:
            self._session = self.new_session()
        return self._session

    def new_session(self) -> Any:
        from keystoneauth1 import session
        from keystoneauth1.identity import v3
        return session.Session(auth=v3.Password(
            auth_url=self.url, username='admin', password=PASSWORD, project_name='admin', user_domain_id='default',
            project_domain_id='default'))

    def publish(self, service_type: str, url: str, interface: str = 'internal', region: str = 'RegionOne') -> None:
        """One endpoint in the catalog; the service is made where it is not there yet."""
        with self.island.entered():
            session = self.session()
            if service_type not in self._services:
                made = session.post(f'{self.url}/services', json={'service': {'type': service_type, 'name': service_type}})
                self._services[service_type] = made.json()['service']['id']
            session.post(f'{self.url}/endpoints', json={'endpoint': {
                'service_id': self._services[service_type], 'interface': interface, 'region_id': region, 'url': url}})

    def clear_catalog(self) -> None:
        """Only keystone itself is left."""
        with self.island.entered():
            session = self.session()
            while self._services:
                session.delete(f'{self.url}/services/{self._services.popitem()[1]}')

    def token(self) -> str:
        with self.island.entered():
            return str(self.new_session().get_token())

    def revoke(self, token: str) -> None:
        with self.island.entered():
            self.session().delete(f'{self.url}/auth/tokens', headers={'X-Subject-Token': token})


class RabbitMQ(Process):
    """The distribution's broker, listening on all of the island's addresses, without plugins."""

    def __init__(self, island: Island, port: int = 5672) -> None:
        super().__init__(island)
        self.port = port

    def _setUp(self) -> None:
        super()._setUp()
        (self.path / 'plugins').write_text('[].\n')
        (self.path / 'rabbitmq.conf').write_text('log.console = false\n')
        self.start(['/usr/lib/rabbitmq/bin/rabbitmq-server'],
                   HOME=str(self.path), RABBITMQ_NODENAME='migcheck@localhost', RABBITMQ_CONF_ENV_FILE='/dev/null',
                   RABBITMQ_MNESIA_BASE=str(self.path / 'mnesia'), RABBITMQ_LOG_BASE=str(self.path / 'log.d'),
                   RABBITMQ_ENABLED_PLUGINS_FILE=str(self.path / 'plugins'), RABBITMQ_NODE_PORT=str(self.port),
                   RABBITMQ_CONFIG_FILE=str(self.path / 'rabbitmq'))

    def wait_until_up(self) -> None:
        self.wait_for('completed with')
        with self.island.entered():
            socket.create_connection(('127.0.0.1', self.port), 5).close()

    def greeted(self, address: str, least: int, seconds: float = 20) -> int:
        """How many clients it has greeted at one of its addresses, by its log; waited for until they are ``least``."""
        deadline = time.monotonic() + seconds
        while True:
            lines = [line for file in (self.path / 'log.d').glob('*.log') for line in file.read_text().splitlines()]
            found = sum('accepting AMQP connection' in line and f'-> {address}:{self.port}' in line for line in lines)
            if found >= least or time.monotonic() > deadline:
                return found
            threading.Event().wait(0.1)
