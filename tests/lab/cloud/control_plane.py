# SPDX-License-Identifier: Apache-2.0
"""keystone, placement, glance, neutron, and Nova's API, conductor and scheduler."""

from __future__ import annotations

import concurrent.futures
import hashlib
import inspect
import pathlib
import subprocess
import sys
from typing import Any

import fixtures

from tests.lab.cloud import ROOT, STATE, configuration
from tests.lab.cloud.backends import DATABASES, PASSWORD, Broker, Database
from tests.lab.cloud.configuration import AUTH_URL, PORTS, VIP
from tests.lab.cloud.service import Service, until

_BIN = pathlib.Path(sys.prefix) / 'bin'
_NOVA_CONF = STATE / 'etc/nova/nova.conf'
_DATED = 'tests.lab.cloud.dated_wsgi'
_FLAVOR = {'name': 'tiny', 'ram': 64, 'vcpus': 1, 'disk': 1}


def _run(*command: str) -> None:
    """Run one of the services' own commands; what it says goes to the log."""
    with open(STATE / 'log/prepare.log', 'ab') as log:
        subprocess.run([str(_BIN / command[0]), *command[1:]], check=True, stdout=log, stderr=log)


class ControlPlane(fixtures.Fixture):
    """All of OpenStack but the compute hosts.

    :param plugin: whether the scheduler has the filter
    :param cache: directory in which the filled databases are kept from one lab to the next
    :ivar connection: an ``openstack.connection.Connection`` of the administrator
    """

    def __init__(self, plugin: bool, cache: pathlib.Path) -> None:
        super().__init__()
        self.plugin, self.cache = plugin, cache
        self.more: dict[str, Any] = {}

    def _setUp(self) -> None:
        configuration.control_plane()
        self.configure()
        self.database = self.useFixture(Database(self.cache / f'databases-{self._digest()}.tar.gz'))
        broker = self.useFixture(Broker())
        if not self.database.restored:
            self._fill()
        broker.wait()
        self.conductor = self.useFixture(self._nova('conductor'))
        self.services = {kind: self.useFixture(service) for kind, service in (
            ('identity', self._keystone()),
            ('placement', _uwsgi('placement', 'placement', _DATED, LAB_APPLICATION='placement.wsgi.api', PYTHONPATH=str(ROOT),
                                 OS_PLACEMENT_CONFIG_DIR=f'{STATE}/etc/placement')),
            ('image', _uwsgi('glance', 'image', 'glance.wsgi.api', OS_GLANCE_CONFIG_DIR=f'{STATE}/etc/glance',
                             OS_GLANCE_CONFIG_FILES=f'{STATE}/etc/glance/glance-api.conf')),
            ('network', _uwsgi('neutron', 'network', 'tests.lab.cloud.neutron_wsgi', PYTHONPATH=str(ROOT),
                               OS_NEUTRON_CONFIG_DIR=f'{STATE}/etc/neutron', OS_NEUTRON_CONFIG_FILES=f'{STATE}/etc/neutron/neutron.conf')),
            ('compute', _uwsgi('nova-api', 'compute', 'nova.wsgi.osapi_compute', OS_NOVA_CONFIG_DIR=f'{STATE}/etc/nova')))}
        self.scheduler = self.useFixture(self._nova('scheduler'))
        for name, service in self.services.items():
            service.wait_listening(VIP, PORTS[name], 300)
        self.connection = _connect()
        # nova-compute asks for the conductor once, and ends when there is none.
        until(180, 'the conductor reports', lambda: self.database.query(
            "select count(*) from nova_cell1.services where `binary`='nova-conductor' and report_count>0").strip() != '0', 0.3)

    def configure(self) -> None:
        """Write Nova's own configuration anew."""
        configuration.nova(self.plugin, self.more)

    def restart_scheduler(self) -> None:
        """Let it read its configuration."""
        self.scheduler.stop()
        since = self.scheduler.mark()
        self.scheduler.start()
        self.scheduler.wait_logged('Creating RPC server for service scheduler|Starting scheduler node', since, 180)

    def discover(self, hosts: int) -> None:
        """Map new compute hosts to the cell.

        :raises TimeoutError: when there are not that many
        """
        def mapped() -> bool:
            _run('nova-manage', '--config-file', str(_NOVA_CONF), 'cell_v2', 'discover_hosts')
            return int(self.database.query('select count(*) from nova_api.host_mappings')) >= hosts
        until(300, f'{hosts} compute hosts are there', lambda: int(self.database.query(
            "select count(*) from nova_cell1.compute_nodes where deleted=0")) >= hosts, 0.3)
        until(120, f'{hosts} compute hosts are mapped', mapped, 0.5)

    def image_and_flavor(self) -> None:
        """What servers are made of."""
        if self.connection.image.find_image('empty') is None:
            self.connection.image.create_image(name='empty', container_format='bare', disk_format='raw', data=bytes(1 << 20),
                                               visibility='public')
        if self.connection.compute.find_flavor(_FLAVOR['name']) is None:
            self.connection.compute.create_flavor(**_FLAVOR)

    def _digest(self) -> str:
        """Of all that the content of the databases depends on."""
        parts = [(ROOT / 'tests/lab/requirements.txt').read_text(), sys.prefix, repr(DATABASES), repr(configuration.USERS),
                 *(configuration.endpoint(kind) for kind in PORTS), *(inspect.getsource(part) for part in (self._fill, _catalog)),
                 (STATE / 'etc/keystone/keystone.conf').read_text()]
        return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:12]

    def _fill(self) -> None:
        """The schemas, the cell, the users and the catalog."""
        keystone = ['keystone-manage', '--config-file', f'{STATE}/etc/keystone/keystone.conf']
        as_root = ['--keystone-user', 'root', '--keystone-group', 'root']
        nova = ['nova-manage', '--config-file', str(_NOVA_CONF)]
        urls = [word for interface in ('admin', 'internal', 'public') for word in (f'--bootstrap-{interface}-url', AUTH_URL)]

        def sync_keystone() -> None:
            _run(*keystone, 'db_sync')
            for kind in ('fernet_setup', 'credential_setup'):
                _run(*keystone, kind, *as_root)
            _run(*keystone, 'bootstrap', '--bootstrap-password', PASSWORD, *urls, '--bootstrap-region-id', 'RegionOne')

        def sync_others() -> None:
            _run('placement-manage', '--config-file', f'{STATE}/etc/placement/placement.conf', 'db', 'sync')
            _run('glance-manage', '--config-file', f'{STATE}/etc/glance/glance-api.conf', 'db_sync')
            _run('neutron-db-manage', '--config-file', f'{STATE}/etc/neutron/neutron.conf', 'upgrade', 'heads')

        def sync_nova() -> None:
            _run(*nova, 'api_db', 'sync')
            _run(*nova, 'cell_v2', 'map_cell0', '--database_connection', f'mysql+pymysql://lab:{PASSWORD}@127.0.0.1/nova_cell0')
            _run(*nova, 'db', 'sync')
            _run(*nova, 'cell_v2', 'create_cell', '--name', 'cell1')

        with concurrent.futures.ThreadPoolExecutor() as pool:
            for done in [pool.submit(sync) for sync in (sync_keystone, sync_others, sync_nova)]:
                done.result()
        with self._keystone() as service:
            service.wait_listening(VIP, PORTS['identity'], 300)
            _catalog(_connect())
        self.database.save('keystone')

    def _keystone(self) -> Service:
        return _uwsgi('keystone', 'identity', _DATED, 2, LAB_APPLICATION='keystone.wsgi.api', PYTHONPATH=str(ROOT),
                      OS_KEYSTONE_CONFIG_DIR=f'{STATE}/etc/keystone',
                      OS_KEYSTONE_CONFIG_FILES=f'{STATE}/etc/keystone/keystone.conf')

    def _nova(self, name: str) -> Service:
        return Service(f'nova-{name}', [str(_BIN / f'nova-{name}'), '--config-file', str(_NOVA_CONF)])


def _uwsgi(name: str, kind: str, module: str, processes: int = 1, **environment: str) -> Service:
    """One of the WSGI applications, on its port of every address of the control plane."""
    return Service(name, [
        str(_BIN / 'uwsgi'), '--http-socket', f'0.0.0.0:{PORTS[kind]}', '--module', f'{module}:application', '--master', '--die-on-term',
        '--need-app', '--processes', str(processes), '--threads', '5', '--enable-threads', '--lazy-apps', '--buffer-size', '65535',
        '--add-header', 'Connection: close', '--thunder-lock'], **environment)


def _connect() -> Any:
    import openstack
    return openstack.connect(auth_url=AUTH_URL, username='admin', password=PASSWORD, project_name='admin', user_domain_id='default',
                             project_domain_id='default', interface='internal', compute_default_microversion='2.96',
                             region_name='RegionOne', load_yaml_config=False, load_envvars=False)


def _catalog(connection: Any) -> None:
    """Users, roles, services and endpoints."""
    identity = connection.identity
    project = identity.create_project(name='service', domain_id='default')
    roles = [identity.find_role('admin'), identity.find_role('service') or identity.create_role(name='service')]
    for name, kind in configuration.USERS.items():
        user = identity.create_user(name=name, password=PASSWORD, domain_id='default')
        for role in roles:
            identity.assign_project_role_to_user(project, user, role)
        service = identity.create_service(name=name, type=kind)
        for interface in ('public', 'internal', 'admin'):
            identity.create_endpoint(service_id=service.id, interface=interface, url=configuration.endpoint(kind), region_id='RegionOne')
