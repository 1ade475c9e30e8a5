# SPDX-License-Identifier: Apache-2.0
"""What nova.conf names, with the option that names it."""

from __future__ import annotations

from typing import Any

import pytest
from oslo_config import cfg

from nova_migcheck.checks.base import Settings
from nova_migcheck.endpoints import sources
from nova_migcheck.endpoints.values import Target, Tls


def configured(**options: Any) -> list[tuple[str, str, str, str]]:
    """URL, service, what it is judged by, origin."""
    files = {
        f'{group}.{option}': 'nova.conf' for group, values in options.items() for option in values
    }
    found = sources.configured(Settings(options=options, files=files))
    return [(e.target.url, e.service, e.needed_for, e.origin) for e in found]


def test_nothing_is_named() -> None:
    assert configured() == []


def test_identity_is_judged_by_what_one_logs_in_for() -> None:
    url = 'http://u:p@10.0.0.5:5000/v3'
    groups = {
        group: {'auth_url': url}
        for group in ('placement', 'neutron', 'cinder', 'keystone_authtoken')
    }
    assert configured(**groups) == [
        ('http://10.0.0.5:5000/v3', 'identity', needed_for, f'nova.conf [{group}] auth_url')
        for group, needed_for in zip(groups, ('placement', 'network', 'block-storage', ''))]


def test_service_user_only_where_it_is_used() -> None:
    section = {'auth_url': 'http://10.0.0.5:5000'}
    assert configured(service_user=section) == []
    assert len(configured(service_user={**section, 'send_service_user_token': True})) == 1
    assert configured(service_user={**section, 'send_service_user_token': 'false'}) == []


def test_login_of_another_section() -> None:
    """``auth_section``: the origin is where the URL really stands."""
    found = configured(
        placement={'auth_url': 'http://10.0.0.5:5000'}, neutron={'auth_section': 'placement'}
    )
    assert [(needed_for, origin) for _url, _service, needed_for, origin in found] == [
        ('placement', 'nova.conf [placement] auth_url'),
        ('network', 'nova.conf [placement] auth_url'),
    ]


def test_barbican_only_where_it_is_the_key_manager() -> None:
    section = {'barbican_endpoint': 'http://10.0.0.5:9311'}
    assert configured(barbican=section) == []
    assert configured(barbican=section, key_manager={'backend': 'vault'}) == []
    for backend in ('barbican', 'castellan.key_manager.barbican_key_manager.BarbicanKeyManager'):
        assert len(configured(barbican=section, key_manager={'backend': backend})) == 1
    vault = configured(
        vault={'vault_url': 'http://10.0.0.5:8200'}, key_manager={'backend': 'vault'}
    )
    assert [needed_for for _url, _service, needed_for, _origin in vault] == ['key-manager']


@pytest.mark.parametrize('url, asked', [
    ('http://10.0.0.5:8780', 'http://10.0.0.5:8780'),
    ('HTTP://10.0.0.5/placement/', 'http://10.0.0.5/placement/'),
    ('http://10.0.0.5:8776/v3/0123456789abcdef0123456789abcdef', 'http://10.0.0.5:8776/v3/'),
    ('http://10.0.0.5:8080/v1/AUTH_0123456789abcdef0123456789abcdef', 'http://10.0.0.5:8080/v1/'),
    ('http://10.0.0.5:8776/v3/%(project_id)s', 'http://10.0.0.5:8776/v3/'),
    ('http://user:pass@[fd00::5]:8776/v3?x=y#z', 'http://[fd00::5]:8776/v3'),
])
def test_probe_url(url: str, asked: str) -> None:
    assert sources.probe_url(url) == asked


def test_tls_of_a_section() -> None:
    """A value may come as text from a file that nobody registered options for."""
    def tls(**options: Any) -> Tls:
        return sources.tls_of(Settings(options={'neutron': options}), 'neutron')
    assert tls() == Tls()
    assert tls(cafile='/ca', insecure='False') == Tls(cafile='/ca')
    assert tls(insecure='true') == tls(insecure=True) == Tls(insecure=True)
    barbican = Settings(options={'barbican': {'verify_ssl': 'True', 'verify_ssl_path': '/ca'}})
    assert sources.tls_of(barbican, 'barbican') == Tls(cafile='/ca')


@pytest.mark.parametrize('url', [
    'rabbit://u:p@10.0.0.1:5672,u:p@10.0.0.2:5673,u:p@10.0.0.3:5672//',
    'rabbit://u:p@rabbit1:5672/nova',
    'rabbit://u:p@rabbit1,u:p@rabbit2/',
    'rabbit://u:p%40ss%2F@[fd00::1]:5672,u:p@[fd00::2]/?ssl=0',
    'kombu+amqp://u:p@10.0.0.1//',
    'rabbit://u:a:b@c@10.0.0.1:5671/',
    'fake://',
    'rabbit://u:p@fd00::1,u:p@[fd00::2]:5673/',
    'rabbit://',
])
def test_transport_url_as_oslo_messaging_reads_it(url: str) -> None:
    oslo_messaging = pytest.importorskip('oslo_messaging')
    parsed = oslo_messaging.TransportURL.parse(cfg.ConfigOpts(), url)
    expected = [(host.hostname, host.port or 5672) for host in parsed.hosts if host.hostname]
    found = sources.messaging_targets(url, {})
    assert [(target.host, target.port) for target in found] == expected
    assert not any(secret in target.url for target in found for secret in ('u:', 'p@', 'ss'))


def test_kafka_has_a_port_of_its_own() -> None:
    found = sources.messaging_targets('kafka://u:p@10.0.0.1,10.0.0.2:9093', {})
    assert [target.url for target in found] == ['tcp://10.0.0.1:9092', 'tcp://10.0.0.2:9093']


def test_message_queue_over_tls() -> None:
    def target(url: str = 'rabbit://u:p@mq//', **options: Any) -> Target:
        [found] = sources.messaging_targets(url, options)
        return found
    assert target() == Target('amqp://mq:5672')
    assert target(ssl='true') == Target('amqps://mq:5672', Tls(insecure=True, check_name=False))
    assert target(ssl=True, ssl_ca_file='/ca').tls == Tls('/ca', check_name=False)
    assert target('rabbit://u:p@mq//?ssl=1&ssl_ca_file=/ca').tls == Tls('/ca', check_name=False)
    assert target('rabbit://u:p@mq//?ssl=0', ssl=True) == Target('amqp://mq:5672')
    assert target(ssl=True, ssl_ca_file='/ca', ssl_enforce_hostname_verification=True).tls == Tls(
        '/ca'
    )


def test_notifications_only_where_they_are_sent_elsewhere() -> None:
    main = {'transport_url': 'rabbit://u:p@mq//'}
    other: dict[str, Any] = {
        'transport_url': 'rabbit://u:p@mq,u:p@other//',
        'driver': ['messagingv2'],
    }
    assert len(configured(DEFAULT=main, oslo_messaging_notifications=main)) == 1
    found = configured(DEFAULT=main, oslo_messaging_notifications=other)
    assert [(url, service) for url, service, _needed, _origin in found] == [
        ('amqp://mq:5672', 'message-queue'), ('amqp://other:5672', 'notifications')]
    other['driver'] = ['noop']
    assert len(configured(DEFAULT=main, oslo_messaging_notifications=other)) == 1


@pytest.mark.parametrize(
    'servers, expected',
    [
        ('10.0.0.1:11211,mc2', ['memcached://10.0.0.1:11211', 'memcached://mc2:11211']),
        (
            ['inet6:[fd00::1]:11212', '[fd00::2]'],
            ['memcached://[fd00::1]:11212', 'memcached://[fd00::2]:11211'],
        ),
        (['unix:/run/memcached', '/run/memcached'], []),
    ],
)
def test_memcached(servers: Any, expected: list[str]) -> None:
    found = configured(keystone_authtoken={'memcached_servers': servers})
    assert [url for url, *_rest in found] == expected
    assert configured(cache={'enabled': False, 'memcache_servers': servers}) == []


@pytest.mark.parametrize(
    'url',
    ['tcp://', 'tcp://10.0.0.5', 'http://:80', 'tcp://10.0.0.5:99999', 'tcp://10.0.0.5:x', '', 'x'],
)
def test_nonsense_is_not_lost(url: str) -> None:
    """It reaches the user as a finding, so it is neither dropped nor an exception here."""
    found = configured(migcheck={'extra_endpoints': [url]})
    assert len(found) == (1 if url else 0)
