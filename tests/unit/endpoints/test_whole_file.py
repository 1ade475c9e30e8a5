# SPDX-License-Identifier: Apache-2.0
"""A nova.conf with each option that the endpoints come from, read as nova-compute reads it.

An option that the check does not declare, or declares by another name, has no effect here.
"""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck.checks.endpoint import EndpointCheck
from nova_migcheck.checksettings import Settings
from nova_migcheck.endpoints import catalog, sources
from nova_migcheck.endpoints.catalog import Catalog, Missing
from nova_migcheck.endpoints.values import Endpoint, Target, Tls
from nova_migcheck.rounds.reader import Reader

FILE = """
[DEFAULT]
transport_url = rabbit://u:p@mq1:5671//
[oslo_messaging_rabbit]
ssl = true
ssl_ca_file = /mq/ca
ssl_cert_file = /mq/cert
ssl_key_file = /mq/key
ssl_enforce_hostname_verification = true
[oslo_messaging_notifications]
transport_url = rabbit://u:p@mq2:5671//
driver = messagingv2
[cache]
enabled = true
memcache_servers = mc1:11211
[keystone_authtoken]
memcached_servers = mc2:11211
auth_type = password
auth_url = https://authtoken:5000
[placement]
auth_type = password
auth_url = https://keystone:5000
cafile = /p/ca
certfile = /p/cert
keyfile = /p/key
insecure = true
endpoint_override = https://placement:8780
[neutron]
auth_section = placement
service_type = networks
service_name = neutron-two
valid_interfaces = admin, public
region_name = Two
[cinder]
catalog_info = volumes:cinder-two:internalURL
os_region_name = Two
[glance]
api_servers = glance1:9292,https://glance2:9292
cafile = /g/ca
[key_manager]
backend = barbican
[barbican]
auth_endpoint = https://barbican-auth:5000
barbican_endpoint_type = internal
barbican_region_name = Two
verify_ssl = true
verify_ssl_path = /b/ca
[barbican_service_user]
auth_type = password
auth_url = https://barbican-user:5000
[service_user]
send_service_user_token = true
auth_type = password
auth_url = https://service-user:5000
[migcheck]
extra_endpoints = tcp://extra:1
required_services = identity
clock_skew_limit = 7
catalog_interval = 77
probe_interval = 78
"""
MQ = Tls('/mq/ca', False, '/mq/cert', '/mq/key', True)

PLAIN = Tls()


def read(path: pathlib.Path, text: str = FILE) -> Settings:
    (path / 'nova.conf').write_text(text)
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[str(path / 'nova.conf')])
    confs.register(conf)
    return Reader(conf).read(EndpointCheck)


def test_each_option_has_its_effect(tmp_path: pathlib.Path) -> None:
    where = tmp_path / 'nova.conf'

    def endpoint(
        url: str, service: str, needed_for: str, option: str, group: str = '', tls: Tls = PLAIN
    ) -> Endpoint:
        section, name = option.split('/')
        return Endpoint(Target(url, tls), service, f'{where} [{section}] {name}', needed_for, group)

    placement, glance, barbican = (
        Tls('/p/ca', True, '/p/cert', '/p/key'),
        Tls('/g/ca'),
        Tls('/b/ca'),
    )
    assert sources.configured(read(tmp_path)) == [
        endpoint(
            'https://keystone:5000', 'identity', 'placement', 'placement/auth_url', tls=placement
        ),
        endpoint(
            'https://placement:8780',
            'placement',
            'placement',
            'placement/endpoint_override',
            tls=placement,
        ),
        endpoint('https://keystone:5000', 'identity', 'network', 'placement/auth_url'),
        endpoint(
            'https://barbican-auth:5000',
            'identity',
            'key-manager',
            'barbican/auth_endpoint',
            tls=barbican,
        ),
        endpoint(
            'https://barbican-user:5000',
            'identity',
            'key-manager',
            'barbican_service_user/auth_url',
        ),
        endpoint('https://service-user:5000', 'identity', 'network', 'service_user/auth_url'),
        endpoint('https://authtoken:5000', 'identity', '', 'keystone_authtoken/auth_url'),
        endpoint(
            'http://glance1:9292',
            'image',
            'image',
            'glance/api_servers',
            'glance api_servers',
            glance,
        ),
        endpoint(
            'https://glance2:9292',
            'image',
            'image',
            'glance/api_servers',
            'glance api_servers',
            glance,
        ),
        endpoint(
            'amqps://mq1:5671',
            'message-queue',
            'message-queue',
            'DEFAULT/transport_url',
            'message-queue',
            MQ,
        ),
        endpoint(
            'amqps://mq2:5671',
            'notifications',
            'notifications',
            'oslo_messaging_notifications/transport_url',
            'notifications',
            MQ,
        ),
        endpoint(
            'memcached://mc1:11211',
            'memcached',
            'memcached',
            'cache/memcache_servers',
            '[cache] memcache_servers',
        ),
        endpoint(
            'memcached://mc2:11211',
            'memcached',
            'memcached',
            'keystone_authtoken/memcached_servers',
            '[keystone_authtoken] memcached_servers',
        ),
        endpoint('tcp://extra:1', 'extra', 'extra', 'migcheck/extra_endpoints'),
    ]


@pytest.mark.parametrize(
    'before, after, there',
    [
        ('memcache_servers = mc1:11211', 'memcache_servers = mc1:11211\ntls_enabled = true', False),
        ('driver = messagingv2', 'driver = noop', False),
        ('driver = messagingv2', '', False),
        (
            'backend = barbican',
            'backend = vault\n[vault]\nvault_url = https://vault:8200\nssl_ca_crt_file = /v/ca',
            True,
        ),
        (
            'auth_endpoint = https://barbican-auth:5000',
            'barbican_endpoint = https://barbican:9311',
            True,
        ),
        ('[cinder]', '[cinder]\nendpoint_template = https://cinder:8776/v3/%(project_id)s', True),
    ],
)
def test_what_takes_the_place_of_others(
    tmp_path: pathlib.Path, before: str, after: str, there: bool
) -> None:
    urls = {one.target for one in sources.configured(read(tmp_path, FILE.replace(before, after)))}
    assert (
        {
            Target('https://vault:8200', Tls('/v/ca')),
            Target('https://barbican:9311', Tls('/b/ca')),
            Target('https://cinder:8776/v3/'),
        }
        & urls
        if there
        else len(urls) == 13
    ), urls


def test_the_times(tmp_path: pathlib.Path) -> None:
    settings = read(tmp_path)
    found = [
        settings.get('migcheck', name)
        for name in ('required_services', 'clock_skew_limit', 'catalog_interval', 'probe_interval')
    ]
    assert found == [['identity'], 7, 77, 78]


def listed(kind: str, name: str = '') -> dict[str, Any]:
    """Return a service of the catalog with an endpoint for each interface in each of two regions."""
    return {
        'type': kind,
        'name': name or kind,
        'endpoints': [
            {
                'interface': interface,
                'region_id': region,
                'url': f'http://{kind}-{name}-{interface}-{region}',
            }
            for region in ('One', 'Two')
            for interface in ('public', 'internal', 'admin')
        ],
    }


KNOWN = Catalog(
    0,
    [
        listed('networks'),
        listed('networks', 'neutron-two'),
        listed('volumes'),
        listed('volumes', 'cinder-two'),
        listed('key-manager'),
        listed('placement'),
        listed('image'),
    ],
)


@pytest.mark.parametrize(
    'group, url',
    [
        ('neutron', 'http://networks-neutron-two-admin-Two'),
        ('cinder', 'http://volumes-cinder-two-internal-Two'),
        ('barbican', 'http://key-manager--internal-Two'),
        ('placement', None),
        ('glance', None),
    ],
)
def test_which_of_the_catalog_s_endpoints(tmp_path: pathlib.Path, group: str, url: Any) -> None:
    section = next(one for one in sources.SECTIONS if one.group == group)
    found = catalog.look_up(read(tmp_path), section, KNOWN)
    assert (
        found is None
        if url is None
        else isinstance(found, Endpoint) and found.target.url.lower() == url.lower()
    )


@pytest.mark.parametrize(
    'group, wanted',
    [
        ('placement', ('placement', '', ('internal', 'public'), '')),
        ('cinder', ('volumev3', '', ('public',), '')),
        ('barbican', ('key-manager', '', ('public',), '')),
    ],
)
def test_defaults(group: str, wanted: tuple) -> None:
    section = next(one for one in sources.SECTIONS if one.group == group)
    assert catalog._wanted(Settings(), section) == wanted


def test_the_sections() -> None:
    assert [(one.group, one.needed_for, one.service_type) for one in sources.SECTIONS] == [
        ('placement', 'placement', 'placement'),
        ('neutron', 'network', 'network'),
        ('cinder', 'block-storage', 'volumev3'),
        ('glance', 'image', 'image'),
        ('barbican', 'key-manager', 'key-manager'),
        ('barbican_service_user', 'key-manager', ''),
        ('service_user', 'network', ''),
        ('keystone_authtoken', '', ''),
    ]
    assert (
        sources.AUTH_GROUPS
        == tuple(one.group for one in sources.SECTIONS)
        == EndpointCheck.AUTH_GROUPS
    )


@pytest.mark.parametrize(
    'missing',
    [
        catalog.look_up(
            Settings(options={'placement': {'region_name': 'Three', 'service_name': 'x'}}),
            sources.SECTIONS[0],
            KNOWN,
        )
    ],
)
def test_what_a_catalog_lacks(missing: Any) -> None:
    assert isinstance(missing, Missing) and (missing.needed_for, missing.group) == (
        'placement',
        'placement',
    )
    assert (
        'placement endpoint with interface internal/public, region Three, name x; it has admin in '
        'One' in missing.text
    )
    assert '[placement]' in missing.remedy and '--service placement' in missing.remedy


def test_what_is_kept_of_a_catalog() -> None:
    class Access:
        def normalize_catalog(self) -> list:
            return [
                {
                    'type': 'image',
                    'name': None,
                    'id': 'x',
                    'endpoints': [
                        {
                            'interface': 'publicURL',
                            'region_name': 'One',
                            'url': 'http://u:p@glance',
                            'id': 'y',
                        },
                        {'interface': None, 'url': 'http://b'},
                        {'interface': 'admin', 'url': ''},
                    ],
                }
            ]

    assert list(catalog._reduced(Access())) == [
        {
            'type': 'image',
            'name': None,
            'endpoints': [
                {'interface': 'public', 'region_id': 'One', 'url': 'http://glance'},
                {'interface': '', 'region_id': None, 'url': 'http://b'},
            ],
        }
    ]


@pytest.mark.parametrize(
    'value, expected',
    [
        (True, True),
        (False, False),
        (None, False),
        ('', False),
        ('0', False),
        ('no', False),
        ('1', True),
        ('true', True),
        ('Yes', True),
        (' on ', True),
        ('t', True),
        ('y', True),
        ('off', False),
        (1, True),
        (0, False),
    ],
)
def test_booleans(value: Any, expected: bool) -> None:
    assert sources.as_bool(value) is expected


@pytest.mark.parametrize(
    'value, expected',
    [('a, b,', ['a', 'b']), (['a', ' b '], ['a', 'b']), (None, []), ('', []), ([1], ['1'])],
)
def test_lists(value: Any, expected: list) -> None:
    assert sources.as_list(value) == expected


def test_whose_login_it_is() -> None:
    known = Settings(
        options={
            'neutron': {'auth_section': 'placement'},
            'placement': {},
            'cinder': {'auth_section': 'nowhere'},
        }
    )
    assert [sources.login_group(known, group) for group in ('neutron', 'cinder', 'glance')] == [
        'placement',
        'cinder',
        'glance',
    ]
