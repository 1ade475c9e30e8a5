# SPDX-License-Identifier: Apache-2.0
"""Every configuration file of the lab's OpenStack, in the manner of kolla: internal endpoints behind one virtual address."""

from __future__ import annotations

import pathlib
import shutil
import sys
from typing import Mapping, Sequence, Union

from tests.lab.cloud import STATE
from tests.lab.cloud.backends import PASSWORD

# None takes an option out again.
Value = Union[str, int, bool, Sequence[str], None]
Sections = Mapping[str, Mapping[str, Value]]

# The control plane on the management network. The virtual address carries all internal endpoints, the broker has three.
CONTROL, VIP = '10.66.0.1', '10.66.0.5'
BROKERS = ('10.66.0.1', '10.66.0.2', '10.66.0.3')
PORTS = {'identity': 5000, 'placement': 8778, 'image': 9292, 'network': 9696, 'compute': 8774}
PATHS = {'identity': '/v3', 'compute': '/v2.1'}
# The name of an OpenStack user -> the type of its service.
USERS = {'placement': 'placement', 'glance': 'image', 'neutron': 'network', 'nova': 'compute'}
AUTH_URL = f'http://{VIP}:5000/v3'
# Where a compute host's own directory is mounted, in each at the same place.
NOVA = STATE / 'nova'
PREFIX = pathlib.Path(sys.prefix)


def endpoint(service: str) -> str:
    """The URL of a service, as it is in keystone's catalog."""
    return f'http://{VIP}:{PORTS[service]}{PATHS.get(service, "")}'


def write(path: pathlib.Path, *layers: Sections) -> pathlib.Path:
    """Write a configuration file; what a later layer says of an option holds. A sequence is one line for each of its values."""
    merged: dict[str, dict[str, Value]] = {}
    for layer in layers:
        for section, options in layer.items():
            merged.setdefault(section, {}).update(options)
    lines = []
    for section, options in merged.items():
        lines.append(f'[{section}]')
        for option, value in options.items():
            for one in [value] if isinstance(value, (str, int, bool)) else value or ():
                lines.append(f'{option} = {one}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')
    return path


def _auth(user: str) -> dict[str, Value]:
    return {'auth_url': AUTH_URL, 'auth_type': 'password', 'username': user, 'password': PASSWORD, 'project_name': 'service',
            'user_domain_id': 'default', 'project_domain_id': 'default'}


def _token(user: str) -> Sections:
    return {'keystone_authtoken': {'www_authenticate_uri': AUTH_URL, 'interface': 'internal', **_auth(user)}}


def _database(name: str) -> str:
    return f'mysql+pymysql://lab:{PASSWORD}@127.0.0.1/{name}'


def control_plane() -> None:
    """Write the files of keystone, placement, glance, neutron."""
    etc = STATE / 'etc'
    write(etc / 'keystone/keystone.conf', {
        'database': {'connection': _database('keystone')},
        'token': {'provider': 'fernet'},
        'fernet_tokens': {'key_repository': f'{STATE}/keystone/fernet-keys'},
        # Every service logs in with a password again and again; a lab shares two cores with all of them.
        'identity': {'password_hash_rounds': 4},
        'credential': {'key_repository': f'{STATE}/keystone/credential-keys'},
    })
    write(etc / 'placement/placement.conf', _token('placement'), {
        'api': {'auth_strategy': 'keystone'},
        'placement_database': {'connection': _database('placement')},
    })
    write(etc / 'glance/glance-api.conf', _token('glance'), {
        'DEFAULT': {'enabled_backends': 'fs:file', 'use_stderr': True},
        'glance_store': {'default_backend': 'fs'},
        'fs': {'filesystem_store_datadir': f'{STATE}/glance/images'},
        'os_glance_staging_store': {'filesystem_store_datadir': f'{STATE}/glance/staging'},
        'os_glance_tasks_store': {'filesystem_store_datadir': f'{STATE}/glance/tasks'},
        'database': {'connection': _database('glance')},
        'paste_deploy': {'flavor': 'keystone', 'config_file': f'{PREFIX}/etc/glance/glance-api-paste.ini'},
        'oslo_concurrency': {'lock_path': f'{STATE}/glance/lock'},
    })
    write(etc / 'neutron/neutron.conf', _token('neutron'), {
        'DEFAULT': {'core_plugin': 'ml2', 'service_plugins': '', 'auth_strategy': 'keystone', 'transport_url': transport_url(),
                    'api_paste_config': f'{PREFIX}/etc/neutron/api-paste.ini', 'state_path': f'{STATE}/neutron',
                    'notify_nova_on_port_status_changes': False, 'notify_nova_on_port_data_changes': False, 'use_stderr': True},
        'oslo_concurrency': {'lock_path': f'{STATE}/neutron/lock'},
        'database': {'connection': _database('neutron')},
        'ml2': {'type_drivers': 'local,flat', 'tenant_network_types': 'local', 'mechanism_drivers': ''},
    })
    for directory in ('glance/images', 'glance/staging', 'glance/tasks', 'glance/lock', 'neutron/lock', 'nova/lock'):
        (STATE / directory).mkdir(parents=True, exist_ok=True)
    # nova-api looks for its own paste file in a directory given by the environment.
    (etc / 'nova').mkdir(exist_ok=True)
    shutil.copy(PREFIX / 'etc/nova/api-paste.ini', etc / 'nova')


def transport_url() -> str:
    return 'rabbit://' + ','.join(f'guest:guest@{address}:5672' for address in BROKERS) + '/'


def _nova() -> Sections:
    """What every service of Nova has in its nova.conf."""
    return {
        'DEFAULT': {
            'debug': True, 'transport_url': transport_url(), 'use_stderr': True, 'service_down_time': 30, 'report_interval': 5,
            # Not the up to 60 s by which the hosts of a big cloud begin apart.
            'update_resources_interval': 5, 'periodic_fuzzy_delay': 0,
            'default_log_levels': 'amqp=WARN,oslo.messaging=WARN,oslo_messaging=WARN,oslo_service=WARN,oslo_concurrency=INFO,'
                                  'sqlalchemy=WARN,keystonemiddleware=WARN,keystoneauth=WARN,urllib3=WARN,stevedore=WARN,routes=WARN,'
                                  'oslo_policy=INFO,oslo_db=INFO,oslo.privsep.daemon=INFO'},
        'api': {'auth_strategy': 'keystone'},
        **_token('nova'),
        'service_user': {'send_service_user_token': True, **_auth('nova')},
        'placement': {'valid_interfaces': 'internal', **_auth('placement')},
        'glance': {'valid_interfaces': 'internal', **_auth('nova')},
        'neutron': {'valid_interfaces': 'internal', **_auth('neutron')},
        'cinder': _auth('nova'),
        'vnc': {'enabled': False},
    }


def nova(plugin: bool, more: Sections) -> None:
    """Write nova.conf of nova-api, conductor and scheduler."""
    filters = ['ComputeFilter', 'ComputeCapabilitiesFilter', 'ImagePropertiesFilter'] + ['MigrationTargetFilter'] * plugin
    write(STATE / 'etc/nova/nova.conf', _nova(), {
        'DEFAULT': {'state_path': f'{STATE}/control-nova'},
        'oslo_concurrency': {'lock_path': f'{STATE}/control-nova/lock'},
        'api_database': {'connection': _database('nova_api')},
        'database': {'connection': _database('nova_cell1')},
        'conductor': {'workers': 1},
        'scheduler': {'workers': 1, 'discover_hosts_in_cells_interval': -1, 'max_placement_results': 100},
        'filter_scheduler': {
            'available_filters': ['nova.scheduler.filters.all_filters'] + ['nova_migcheck.scheduler.all_filters'] * plugin,
            'enabled_filters': ','.join(filters)},
    }, more)


def compute(path: pathlib.Path, host: str, my_ip: str, plugin: bool, *more: Sections) -> None:
    """Write nova.conf of a nova-compute."""
    helper = f'{PREFIX}/bin/privsep-helper --config-file {path}'
    write(path, _nova(), {
        'DEFAULT': {
            'host': host, 'my_ip': my_ip, 'state_path': str(NOVA), 'instances_path': f'{NOVA}/instances',
            'compute_driver': 'migcheck.LibvirtDriver' if plugin else 'libvirt.LibvirtDriver'},
        'oslo_concurrency': {'lock_path': f'{NOVA}/lock'},
        'libvirt': {'live_migration_scheme': 'tcp', 'live_migration_completion_timeout': 60, 'images_type': 'qcow2'},
        # As kolla-ansible ships it since 17.0.0, for LP#2039803.
        'workarounds': {'skip_cpu_compare_on_dest': True},
        'nova_sys_admin': {'helper_command': helper},
        'vif_plug_ovs_privileged': {'helper_command': helper},
    }, *more)
