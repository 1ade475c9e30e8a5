# SPDX-License-Identifier: Apache-2.0
"""What the services of the control plane stand on: the database and the message broker."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess

import fixtures

from tests.lab.cloud import STATE
from tests.lab.cloud.service import Service

DATABASES = ('keystone', 'placement', 'glance', 'neutron', 'nova_api', 'nova_cell0', 'nova_cell1')
PASSWORD = 'lab'


class Database(fixtures.Fixture):
    """MariaDB, on the loopback of the control plane.

    :param saved: a file with the databases as an earlier lab had them just after it was filled, or where to save them
    :ivar restored: whether they came from there
    """

    DATA = STATE / 'mysql'

    def __init__(self, saved: pathlib.Path) -> None:
        super().__init__()
        self.saved = saved
        self.restored = saved.exists()

    def _setUp(self) -> None:
        if self.restored:
            subprocess.run(['tar', '-C', str(STATE), '-xf', str(self.saved)], check=True)
        else:
            self.DATA.mkdir()
            subprocess.run(['mariadb-install-db', '--no-defaults', '--user=root', f'--datadir={self.DATA}', '--skip-test-db',
                            '--auth-root-authentication-method=normal'], check=True, stdout=subprocess.DEVNULL)
        self.service = self.useFixture(Service('mariadb', [
            'mariadbd', '--no-defaults', '--user=root', f'--datadir={self.DATA}', f'--socket={STATE}/mysql.sock',
            f'--pid-file={STATE}/mysql.pid', '--bind-address=127.0.0.1', '--port=3306', '--skip-log-bin',
            '--innodb-flush-log-at-trx-commit=0', '--innodb-doublewrite=0', '--innodb-buffer-pool-size=128M', '--max-connections=500',
            '--performance-schema=OFF']))
        self.service.wait_listening('127.0.0.1', 3306)
        if not self.restored:
            for name in DATABASES:
                self.query(f'create database {name} character set utf8mb3')
            for host in ('%', 'localhost'):
                self.query(f"create user lab@'{host}' identified by '{PASSWORD}'; grant all on *.* to lab@'{host}'")

    def query(self, statement: str, *options: str) -> str:
        """Run SQL as root; the rows, tab-separated."""
        command = ['mariadb', '--no-defaults', '-uroot', '-S', f'{STATE}/mysql.sock', '-N', *options, '-e', statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def save(self, *more: str) -> None:
        """Keep the databases, and ``more`` directories of STATE, for the next lab. Nobody may be using them."""
        self.service.stop(30)
        self.saved.parent.mkdir(parents=True, exist_ok=True)
        # Two labs may save at once.
        partial = self.saved.with_suffix(f'.{hashlib.sha256(os.urandom(8)).hexdigest()[:8]}')
        subprocess.run(['tar', '-C', str(STATE), '-czf', str(partial), self.DATA.name, *more], check=True)
        partial.replace(self.saved)
        self.service.start()
        self.service.wait_listening('127.0.0.1', 3306)


class Broker(fixtures.Fixture):
    """RabbitMQ, on every address of the control plane."""

    PORT = 5672

    def _setUp(self) -> None:
        home = STATE / 'rabbitmq'
        home.mkdir()
        (home / 'rabbitmq.conf').write_text(f'listeners.tcp.1 = 0.0.0.0:{self.PORT}\nloopback_users = none\n')
        self.useFixture(Service('epmd', ['epmd', '-address', '127.0.0.1'], HOME=str(home)))
        self.service = self.useFixture(Service(
            'rabbitmq', ['/usr/lib/rabbitmq/bin/rabbitmq-server'], HOME=str(home), RABBITMQ_NODENAME='lab@localhost',
            RABBITMQ_MNESIA_BASE=f'{home}/mnesia', RABBITMQ_LOG_BASE=f'{home}/log', RABBITMQ_CONFIG_FILE=f'{home}/rabbitmq.conf',
            RABBITMQ_CONF_ENV_FILE='/dev/null', RABBITMQ_ENABLED_PLUGINS_FILE=f'{home}/plugins', RABBITMQ_PID_FILE=f'{home}/pid',
            ERL_EPMD_ADDRESS='127.0.0.1', RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=(
                '+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}')))

    def wait(self) -> None:
        self.service.wait_listening('127.0.0.1', self.PORT)
