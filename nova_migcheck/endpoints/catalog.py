# SPDX-License-Identifier: Apache-2.0
"""Fetch keystone's service catalog with the service's own login, and read it as Nova does."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
from typing import Any, Iterator, Mapping, Optional

from nova_migcheck.checksettings import Settings
from nova_migcheck.endpoints import sources, tls, web
from nova_migcheck.endpoints.values import Endpoint, Target, clean_url

#: Nova's default for ``valid_interfaces`` (``nova.conf.utils.get_ksa_adapter_opts``).
_INTERFACES = ('internal', 'public')


class LoginFailed(Exception):
    """Report a login that keystone, or the configuration, does not allow.

    :param remedy: what the operator can do
    """

    def __init__(self, text: str, remedy: str = '') -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Hold what keystone lists for one user.

    :param fetched: seconds since 1970
    :param services: keystone's list, without the fields that are not used here
    """

    fetched: float
    services: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return what :class:`~nova_migcheck.checks.base.Keep` stores: no token, no credentials."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Optional[Catalog]:
        """Read the result of :meth:`to_json`; return None for anything else."""
        if not isinstance(value, Mapping):
            return None
        fetched, services = value.get('fetched'), value.get('services')
        if not isinstance(fetched, (int, float)) or not isinstance(services, list):
            return None
        return cls(fetched, services)


@contextlib.contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """Hide modules that keystoneauth1 imports if they are installed, but does not need.

    They would cost 0.1–0.2 s of CPU per minute on each host.
    """
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def prepare() -> None:
    """Import keystoneauth1.

    From a cold disk this takes a second, which must not count as a server's delay.
    """
    with _hidden('osprofiler', 'netaddr'):
        import keystoneauth1.access.service_catalog
        import keystoneauth1.session  # noqa: F401


def _loader(auth_type: str) -> Any:
    """Return the loader of an auth plugin.

    keystoneauth1's own plugins are found without reading the entry points of all packages.

    :raises keystoneauth1.exceptions.NoMatchingPlugin: if it is not installed
    """
    import importlib.metadata

    from keystoneauth1 import loading
    for entry in importlib.metadata.distribution('keystoneauth1').entry_points:
        if entry.group == 'keystoneauth1.plugin' and entry.name == auth_type:
            return entry.load()()
    return loading.get_plugin_loader(auth_type)


def auth_options(settings: Settings, group: str) -> dict[str, Any]:
    """Return the options of a section that its auth plugin uses to log in.

    :raises keystoneauth1.exceptions.NoMatchingPlugin: if its ``auth_type`` is not installed
    """
    options = settings.options[sources.login_group(settings, group)]
    names = {opt.dest for opt in _loader(options['auth_type']).get_options()}
    return {name: value for name, value in options.items() if name in names and value is not None}


def login(settings: Settings, group: str, timeout: float) -> Optional[Catalog]:
    """Log in with the options of ``[group]`` and fetch the catalog.

    Return None if the auth plugin has no catalog (``none``, ``http_basic``). The token is dropped
    with the session.

    :param timeout: seconds for each wait
    :raises LoginFailed: if keystone, or the configuration, does not allow it
    :raises keystoneauth1.exceptions.ClientException: if keystone could not be reached
    """
    from keystoneauth1 import exceptions
    from keystoneauth1 import session as ksa_session
    # Without a handler, Python would print keystoneauth's warnings about its discovery.
    for name in ('keystoneauth', 'keystoneauth1'):
        logging.getLogger(name).addHandler(logging.NullHandler())
    auth_type = settings.options[sources.login_group(settings, group)]['auth_type']
    try:
        plugin = _loader(auth_type).load_from_options(**auth_options(settings, group))
    except exceptions.NoMatchingPlugin:
        raise LoginFailed(f'there is no keystoneauth plugin {auth_type}',
                          f'correct [{group}] auth_type')
    except exceptions.MissingRequiredOptions as error:
        missing = ', '.join(opt.dest for opt in error.options)
        raise LoginFailed(f'{missing} is not set', f'set it in [{group}]')
    except exceptions.OptionError as error:
        raise LoginFailed(
            f'the options do not fit auth_type {auth_type} ({type(error).__name__})',
            f'correct [{group}]')
    if not hasattr(plugin, 'get_access'):
        return None
    own_tls = sources.tls_of(settings, group)
    auth_url = str(settings.options[sources.login_group(settings, group)].get('auth_url', ''))
    with web.session(tls.context(own_tls) if auth_url.startswith('https') else None) as client:
        client.trust_env = True  # use a proxy, as Nova's own session does
        session = ksa_session.Session(
            session=client, timeout=timeout, user_agent='nova-migcheck',
            verify=not own_tls.insecure and (own_tls.cafile or True),
            cert=((own_tls.certfile, own_tls.keyfile) if own_tls.keyfile
                  else own_tls.certfile or None))
        try:
            access = plugin.get_access(session)
        except exceptions.HttpError as error:
            raise _refused(error, group, auth_type)
    if not access.has_service_catalog():
        raise LoginFailed(
            'keystone returned a token without a service catalog',
            f'grant the user of [{group}] a role on the project of [{group}]')
    return Catalog(time.time(), list(_reduced(access.service_catalog)))


def _refused(error: Any, group: str, auth_type: str) -> LoginFailed:
    """Return what keystone's status means.

    The body is not shown, since it may repeat the credentials.
    """
    status = error.http_status
    if status >= 500:
        return LoginFailed(f'keystone answers a login with HTTP {status}',
                           "check keystone's log and its database")
    if 'token' in auth_type and status in (401, 404):
        return LoginFailed(f'keystone answers HTTP {status}: the token is expired or revoked',
                           f'issue a new token, or use auth_type = password in [{group}]')
    if status == 401:
        return LoginFailed(
            'keystone answers HTTP 401: wrong password, or no such (enabled) user, domain or '
            'project',
            f'compare [{group}] username, user_domain_name, project_name and the password with '
            'keystone')
    return LoginFailed(f'keystone answers a login with HTTP {status}',
                       f'compare [{group}] with keystone')


def _reduced(catalog: Any) -> Iterator[dict[str, Any]]:
    for service in catalog.normalize_catalog():
        endpoints = [{'interface': (endpoint.get('interface') or '').replace('URL', ''),
                      'region_id': endpoint.get('region_name'),
                      'url': clean_url(endpoint['url'])}
                     for endpoint in service['endpoints'] if endpoint.get('url')]
        yield {'type': service['type'], 'name': service.get('name'), 'endpoints': endpoints}


@dataclasses.dataclass(frozen=True)
class Missing:
    """Describe a service that a section needs and the catalog lacks.

    :param needed_for: the service type
    :param group: the section
    """

    needed_for: str
    group: str
    text: str
    remedy: str


def look_up(settings: Settings, section: sources.Section,
            catalog: Catalog) -> Endpoint | Missing | None:
    """Return the endpoint that Nova would use for this section.

    Return None if the section needs none from the catalog. A service type that the catalog does
    not have at all is missing only if nova.conf has a login for it.
    """
    if not section.service_type or _overridden(settings, section.group):
        return None
    from keystoneauth1 import exceptions
    from keystoneauth1.access.service_catalog import ServiceCatalogV3
    service_type, name, interfaces, region = _wanted(settings, section)
    services = ServiceCatalogV3(catalog.services)
    try:
        data = services.endpoint_data_for(service_type=service_type, service_name=name or None,
                                          interface=list(interfaces), region_name=region or None)
    except exceptions.CatalogException:
        others = services.get_endpoints_data(service_type=service_type)
        offered = sorted({f'{endpoint.interface} in {endpoint.region_name}'
                          for endpoints in others.values() for endpoint in endpoints})
        login = sources.login_group(settings, section.group)
        if not offered and not settings.get(login, 'auth_type'):
            return None
        asked = [('interface', '/'.join(interfaces)), ('region', region), ('name', name)]
        words = ', '.join(f'{key} {value}' for key, value in asked if value)
        return Missing(section.needed_for, section.group,
                       f"keystone's catalog has no {service_type} endpoint with {words}; it has "
                       f'{", ".join(offered) or "none of this type"}',
                       f'correct [{section.group}] valid_interfaces, region_name and '
                       'service_type, or the catalog '
                       f'(openstack endpoint list --service {service_type})')
    origin = (f'keystone catalog: {data.service_type or service_type}, {data.interface}, '
              f'{data.region_name}')
    target = Target(sources.probe_url(data.url), sources.tls_of(settings, section.group))
    return Endpoint(target, section.needed_for, origin, section.needed_for, from_catalog=True)


def _overridden(settings: Settings, group: str) -> bool:
    return any(settings.get(group, option) for option in
               ('endpoint_override', 'api_servers', 'endpoint_template', 'barbican_endpoint'))


def _wanted(settings: Settings, section: sources.Section) -> tuple[str, str, tuple[str, ...], str]:
    """Return the service type, service name, interfaces in order, and region; '' for any."""
    group = section.group
    if group == 'cinder':
        parts = (settings.get(group, 'catalog_info') or 'volumev3::publicURL').split(':')
        kind, name, interface = (*parts, '', '')[:3]
        return (kind, name, (interface.replace('URL', '') or 'public',),
                settings.get(group, 'os_region_name') or '')
    if group == 'barbican':
        interface = settings.get(group, 'barbican_endpoint_type') or 'public'
        region = settings.get(group, 'barbican_region_name') or ''
        return section.service_type, '', (interface,), region
    interfaces = settings.get(group, 'valid_interfaces') or _INTERFACES
    return (settings.get(group, 'service_type') or section.service_type,
            settings.get(group, 'service_name') or '',
            tuple(sources.as_list(interfaces)),
            settings.get(group, 'region_name') or '')
