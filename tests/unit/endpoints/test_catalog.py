# SPDX-License-Identifier: Apache-2.0
"""The catalog, as Nova reads it."""

from __future__ import annotations

import json
import sys
import types
from typing import Any, Optional

import pytest

from nova_migcheck.checks.base import Settings
from nova_migcheck.endpoints import catalog, sources
from nova_migcheck.endpoints.catalog import Catalog, Missing
from nova_migcheck.endpoints.values import Endpoint


def service(kind: str, *endpoints: tuple[str, str, str], name: str = '') -> dict[str, Any]:
    return {
        'type': kind,
        'name': name or kind,
        'endpoints': [
            {'interface': interface, 'region_id': region, 'url': url}
            for interface, region, url in endpoints
        ],
    }


KNOWN = Catalog(
    0,
    [
        service(
            'placement',
            ('public', 'One', 'http://p1'),
            ('internal', 'One', 'http://i1'),
            ('internal', 'Two', 'http://i2'),
        ),
        service('network', ('public', 'One', 'http://n1')),
        service('volumev3', ('public', 'One', 'http://v1/v3/0123456789abcdef0123456789abcdef')),
        service('key-manager', ('public', 'One', 'http://k1'), ('internal', 'Two', 'http://k2')),
    ],
)


def look_up(group: str, known: Catalog = KNOWN, **options: Any) -> tuple[str, str] | str | None:
    """URL and origin; the text of what is missing; None."""
    section = next(s for s in sources.SECTIONS if s.group == group)
    found = catalog.look_up(Settings(options={group: options}), section, known)
    if isinstance(found, Endpoint):
        assert found.from_catalog
        return found.target.url, found.origin
    return found.text if isinstance(found, Missing) else None


@pytest.mark.parametrize(
    'group, options, expected',
    [
        ('placement', {}, ('http://i1', 'keystone catalog: placement, internal, One')),
        (
            'placement',
            {'region_name': 'Two'},
            ('http://i2', 'keystone catalog: placement, internal, Two'),
        ),
        (
            'placement',
            {'valid_interfaces': ['public']},
            ('http://p1', 'keystone catalog: placement, public, One'),
        ),
        (
            'placement',
            {'valid_interfaces': 'admin,public'},
            ('http://p1', 'keystone catalog: placement, public, One'),
        ),
        ('neutron', {}, ('http://n1', 'keystone catalog: network, public, One')),
        ('cinder', {}, ('http://v1/v3/', 'keystone catalog: volumev3, public, One')),
        (
            'cinder',
            {'catalog_info': 'volumev3:volumev3:publicURL'},
            ('http://v1/v3/', 'keystone catalog: volumev3, public, One'),
        ),
        (
            'barbican',
            {'barbican_endpoint_type': 'internal'},
            ('http://k2', 'keystone catalog: key-manager, internal, Two'),
        ),
        ('placement', {'endpoint_override': 'http://x'}, None),
        ('cinder', {'endpoint_template': 'http://x'}, None),
        ('glance', {'api_servers': ['http://x']}, None),
        ('glance', {}, None),  # this cloud has no glance, and nova.conf no login for it
        ('service_user', {}, None),
    ],
)
def test_look_up(group: str, options: dict[str, Any], expected: Optional[tuple[str, str]]) -> None:
    assert look_up(group, **options) == expected


@pytest.mark.parametrize(
    'group, options, words',
    [
        (
            'placement',
            {'region_name': 'Three'},
            ['placement', 'Three', 'internal in One', 'internal in Two', 'public in One'],
        ),
        ('neutron', {'valid_interfaces': ['internal']}, ['network', 'internal', 'public in One']),
        ('neutron', {'service_name': 'other'}, ['name other']),
        (
            'cinder',
            {'catalog_info': 'volumev3::internalURL'},
            ['volumev3', 'internal', 'public in One'],
        ),
        ('neutron', {'service_type': 'net', 'auth_type': 'password'}, ['net', 'none of this type']),
    ],
)
def test_missing(group: str, options: dict[str, Any], words: list[str]) -> None:
    text = look_up(group, **options)
    assert isinstance(text, str)
    assert all(word in text for word in words), text


def test_an_empty_catalog() -> None:
    assert look_up('placement', Catalog(0, [])) is None
    assert 'none of this type' in str(look_up('placement', Catalog(0, []), auth_type='password'))


def test_there_and_back() -> None:
    assert Catalog.from_json(json.loads(json.dumps(KNOWN.to_json()))) == KNOWN


@pytest.mark.parametrize(
    'value', [None, 1, [], {}, {'fetched': 'x', 'services': []}, {'fetched': 1, 'services': {}}]
)
def test_not_a_catalog(value: Any) -> None:
    assert Catalog.from_json(value) is None


@pytest.mark.parametrize('options, words', [
    ({'auth_type': 'nosuch'}, ['nosuch']),
    ({'auth_type': 'v3token', 'token': 'geheim'}, ['auth_url is not set']),
])
def test_a_login_that_cannot_begin(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(catalog.LoginFailed) as error:
        catalog.login(Settings(options={'placement': options}), 'placement', 1)
    assert all(word in str(error.value) for word in words)
    assert 'geheim' not in str(error.value) and error.value.remedy


def test_a_plugin_without_a_catalog() -> None:
    settings = Settings(
        options={'placement': {'auth_type': 'none', 'endpoint': 'http://127.0.0.1:1'}}
    )
    assert catalog.login(settings, 'placement', 1) is None


def test_hidden_modules_come_back() -> None:
    """Only the import of keystoneauth1 goes without them."""
    name = 'this_module_is_not_there'
    with catalog._hidden('json', name):
        assert sys.modules['json'] is json and name in sys.modules
    assert name not in sys.modules


@pytest.mark.parametrize('status, auth_type, said', [
    (503, 'v3password', 'keystone answers a login with HTTP 503'),
    (401, 'v3token', 'keystone answers HTTP 401: the token is expired or revoked'),
    (404, 'token', 'keystone answers HTTP 404: the token is expired or revoked'),
    (401, 'password', 'keystone answers HTTP 401: wrong password'),
    (404, 'password', 'keystone answers a login with HTTP 404'),
])
def test_a_login_that_keystone_refuses(status: int, auth_type: str, said: str) -> None:
    refused = catalog._refused(types.SimpleNamespace(http_status=status), 'placement', auth_type)
    assert str(refused).startswith(said)
