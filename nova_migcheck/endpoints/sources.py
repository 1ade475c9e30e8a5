# SPDX-License-Identifier: Apache-2.0
"""Collect the endpoints that nova.conf names, each with its option."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, Iterator, Mapping, NamedTuple

from nova_migcheck.checksettings import Settings
from nova_migcheck.endpoints import values
from nova_migcheck.endpoints.values import IDENTITY, MESSAGING, Endpoint, Target, Tls


class Section(NamedTuple):
    """Describe a group of nova.conf through which nova-compute uses a service.

    :param needed_for: the service type that decides how severe a failed login is; empty if
        nova-compute itself never uses the group
    :param service_type: what to look up in the catalog; empty if the group is only for logging in
    """

    group: str
    needed_for: str
    service_type: str = ''


#: [keystone_authtoken] belongs to Nova's APIs: nova-compute validates no tokens. It is often in
#: the same file, and its URL is worth a warning.
SECTIONS = (
    Section('placement', 'placement', 'placement'),
    Section('neutron', 'network', 'network'),
    Section('cinder', 'block-storage', 'volumev3'),
    Section('glance', 'image', 'image'),
    Section('barbican', 'key-manager', 'key-manager'),
    Section('barbican_service_user', 'key-manager'),
    Section('service_user', 'network'),
    Section('keystone_authtoken', ''),
)

AUTH_GROUPS = tuple(section.group for section in SECTIONS)

OPTIONS = {
    'DEFAULT': ['transport_url'],
    'oslo_messaging_notifications': ['transport_url', 'driver'],
    'oslo_messaging_rabbit': ['ssl', 'ssl_ca_file', 'ssl_cert_file', 'ssl_key_file',
                              'ssl_enforce_hostname_verification'],
    'cache': ['enabled', 'memcache_servers', 'tls_enabled'],
    'keystone_authtoken': ['memcached_servers'],
    'glance': ['api_servers'],
    'cinder': ['catalog_info', 'endpoint_template', 'os_region_name'],
    'key_manager': ['backend'],
    'barbican': ['barbican_endpoint', 'auth_endpoint', 'barbican_endpoint_type',
                 'barbican_region_name', 'verify_ssl', 'verify_ssl_path'],
    'vault': ['vault_url', 'ssl_ca_crt_file'],
    'service_user': ['send_service_user_token'],
    'migcheck': ['extra_endpoints', 'required_services', 'clock_skew_limit', 'catalog_interval',
                 'probe_interval'],
}


def as_list(value: Any) -> list[str]:
    """Return the value of a list option.

    It is a string if Nova itself has not registered the option.
    """
    if isinstance(value, str):
        value = value.split(',')
    return [str(part).strip() for part in value or () if str(part).strip()]


def as_bool(value: Any) -> bool:
    """Return the value of a boolean option, which may be a string, too."""
    if isinstance(value, bool):
        return value
    return str(value).strip().lower() in ('1', 'true', 'yes', 'on', 't', 'y')


def login_group(settings: Settings, group: str) -> str:
    """Return the section with the login of ``[group]``.

    keystoneauth1 follows ``auth_section``, but not for the TLS options.
    """
    section = settings.get(group, 'auth_section')
    return section if section and section in settings.options else group


def tls_of(settings: Settings, group: str) -> Tls:
    """Return the TLS settings of a section's session: ``cafile``, ``insecure`` and so on."""
    if group == 'barbican':
        verify = as_bool(settings.get(group, 'verify_ssl', True))
        return Tls(cafile=settings.get(group, 'verify_ssl_path') or '', insecure=not verify)
    return Tls(cafile=settings.get(group, 'cafile') or '',
               insecure=as_bool(settings.get(group, 'insecure')),
               certfile=settings.get(group, 'certfile') or '',
               keyfile=settings.get(group, 'keyfile') or '')


def sections(settings: Settings) -> Iterator[Section]:
    """Yield the sections that are in use."""
    manager = str(settings.get('key_manager', 'backend', '')).rpartition('.')[2].lower()
    for section in SECTIONS:
        if section.group.startswith('barbican') and not manager.startswith('barbican'):
            continue
        if section.group == 'service_user' and not as_bool(
                settings.get('service_user', 'send_service_user_token')):
            continue
        yield section


def configured(settings: Settings) -> list[Endpoint]:
    """Return every endpoint whose URL or host is in nova.conf."""
    return [*_http(settings), *_messaging(settings), *_memcached(settings), *_extra(settings)]


def _http(settings: Settings) -> Iterator[Endpoint]:
    for section in sections(settings):
        group, tls = section.group, tls_of(settings, section.group)
        for holder, option in ((login_group(settings, group), 'auth_url'),
                               (group, 'auth_endpoint')):
            url = settings.get(holder, option)
            # castellan's default for auth_endpoint fits no cloud.
            if url and (option == 'auth_url' or f'{group}.{option}' in settings.files):
                yield _endpoint(url, tls, IDENTITY, settings.origin(holder, option),
                                section.needed_for)
        for option in ('endpoint_override', 'barbican_endpoint', 'endpoint_template'):
            url = settings.get(group, option)
            if url and section.service_type:
                yield _endpoint(url, tls, section.needed_for, settings.origin(group, option),
                                section.needed_for)
    for url in as_list(settings.get('glance', 'api_servers')):
        yield _endpoint(url if '://' in url else f'http://{url}', tls_of(settings, 'glance'),
                        'image', settings.origin('glance', 'api_servers'), 'image',
                        group='glance api_servers')
    vault = settings.get('vault', 'vault_url')
    if vault and str(settings.get('key_manager', 'backend', '')).lower().startswith('vault'):
        yield _endpoint(vault, Tls(cafile=settings.get('vault', 'ssl_ca_crt_file') or ''),
                        'key-manager', settings.origin('vault', 'vault_url'), 'key-manager')


def _endpoint(url: str, tls: Tls, service: str, origin: str, needed_for: str,
              group: str = '') -> Endpoint:
    return Endpoint(Target(probe_url(url), tls), service, origin, needed_for, group)


#: The project in a URL: an id in a catalog, a placeholder in endpoint_template.
_PROJECT = re.compile(r'/(?:AUTH_)?(?:[0-9a-f]{32}|[$%]\([a-z_]+\)s)(?=/|$)')


def probe_url(url: str) -> str:
    """Return the URL up to the project in it: the version document, which needs no token."""
    cleaned = values.clean_url(url)
    found = _PROJECT.search(cleaned)
    return cleaned[:found.start()] + '/' if found else cleaned


def messaging_targets(url: str, options: Mapping[str, Any]) -> list[Target]:
    """Return the hosts of a ``transport_url``, as oslo.messaging's ``TransportURL.parse`` does.

    Its query may override the options of ``[oslo_messaging_rabbit]``. The default port is 5672 with
    and without TLS (``impl_rabbit.Connection._transform_transport_url``).

    :param options: those of ``[oslo_messaging_rabbit]``
    """
    parsed = urllib.parse.urlsplit(url)
    kind = parsed.scheme.partition('+')[0]
    if kind not in ('rabbit', 'kombu', 'amqp', 'kafka'):
        return []
    query = {key: values[-1] for key, values in urllib.parse.parse_qs(parsed.query).items()}

    def option(name: str) -> Any:
        return query.get(name, options.get(name))
    scheme, tls, default_port = 'amqp', Tls(), 5672
    if kind == 'kafka':
        scheme, default_port = 'tcp', 9092
    elif as_bool(option('ssl')):
        # Without a CA file, oslo.messaging verifies nothing. The name is verified only on request.
        ca = option('ssl_ca_file') or ''
        named = as_bool(option('ssl_enforce_hostname_verification'))
        scheme = 'amqps'
        tls = Tls(cafile=ca, insecure=not ca, certfile=option('ssl_cert_file') or '',
                  keyfile=option('ssl_key_file') or '', check_name=named)
    return [Target(f'{scheme}://{_with_port(host.rpartition("@")[2], default_port)}', tls)
            for host in parsed.netloc.split(',') if host]


def _with_port(host: str, port: int) -> str:
    """Return ``host:port`` for a host with or without a port, and IPv6 with or without brackets."""
    host = host.strip()
    if host.count(':') > 1 and not host.startswith('['):
        host = f'[{host}]'
    return host if re.search(r':\d+$', host.rpartition(']')[2]) else f'{host}:{port}'


def _messaging(settings: Settings) -> Iterator[Endpoint]:
    rabbit = settings.options.get('oslo_messaging_rabbit', {})
    targets = messaging_targets(settings.get('DEFAULT', 'transport_url') or '', rabbit)
    for target in targets:
        origin = settings.origin('DEFAULT', 'transport_url')
        yield Endpoint(target, MESSAGING, origin, MESSAGING, group=MESSAGING)
    section = 'oslo_messaging_notifications'
    if any(driver != 'noop' for driver in as_list(settings.get(section, 'driver'))):
        for target in messaging_targets(settings.get(section, 'transport_url') or '', rabbit):
            if target not in targets:
                origin = settings.origin(section, 'transport_url')
                yield Endpoint(target, 'notifications', origin, 'notifications',
                               group='notifications')


def _memcached(settings: Settings) -> Iterator[Endpoint]:
    if (as_bool(settings.get('cache', 'enabled'))
            and not as_bool(settings.get('cache', 'tls_enabled'))):
        yield from _memcached_servers(settings, 'cache', 'memcache_servers')
    yield from _memcached_servers(settings, 'keystone_authtoken', 'memcached_servers')


def _memcached_servers(settings: Settings, group: str, option: str) -> Iterator[Endpoint]:
    for server in as_list(settings.get(group, option)):
        server = server[len('inet6:'):] if server.startswith('inet6:') else server
        if server.startswith(('unix:', '/')):
            continue
        target = Target(f'memcached://{_with_port(server, 11211)}')
        yield Endpoint(target, 'memcached', settings.origin(group, option), 'memcached',
                       group=f'[{group}] {option}')


def _extra(settings: Settings) -> Iterator[Endpoint]:
    origin = settings.origin('migcheck', 'extra_endpoints')
    for url in as_list(settings.get('migcheck', 'extra_endpoints')):
        yield Endpoint(Target(values.clean_url(url)), 'extra', origin, 'extra')
