# SPDX-License-Identifier: Apache-2.0
"""Keystone's service catalog, fetched as the service itself, and read as Nova reads it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
from typing import Any, Iterator, Mapping, Optional

from nova_migcheck.checksettings import Settings
from nova_migcheck.endpoints import sources, tls, web
from nova_migcheck.endpoints.values import Endpoint, Target, Tls, clean_url

#: Interfaces in Nova's order where an option says nothing (``nova.conf.utils.get_ksa_adapter_opts``).
_INTERFACES = ('internal', 'public')


class LoginFailed(Exception):
    """Keystone answered, and it was no.

    :param remedy: what the operator can do
    """

    def __init__(self, text: str, remedy: str = '') -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Catalog:
    """What keystone lists for one user.

    :param fetched: seconds since 1970
    :param services: keystone's own list, less what is not looked up here
    """

    fetched: float
    services: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """For :class:`~nova_migcheck.checks.base.Keep`: no token, no credentials."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Optional[Catalog]:
        """What :meth:`to_json` gave, else None."""
        if not isinstance(value, Mapping):
            return None
        fetched, services = value.get('fetched'), value.get('services')
        return cls(fetched, services) if isinstance(fetched, (int, float)) and isinstance(services, list) else None


@contextlib.contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """keystoneauth1 imports these where they are installed, and needs neither: 0.1–0.2 s of CPU a minute on each host."""
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def prepare() -> None:
    """Import keystoneauth1: from a cold disk that takes a second, which is no server's fault."""
    with _hidden('osprofiler', 'netaddr'):
        import keystoneauth1.access.service_catalog
        import keystoneauth1.session  # noqa: F401


def _loader(auth_type: str) -> Any:
    """The loader of an auth plugin. keystoneauth1's own are found without reading the entry points of all that is installed.

    :raises keystoneauth1.exceptions.NoMatchingPlugin: for one that is not installed
    """
    import importlib.metadata

    from keystoneauth1 import loading
    for entry in importlib.metadata.distribution('keystoneauth1').entry_points:
        if entry.group == 'keystoneauth1.plugin' and entry.name == auth_type:
            return entry.load()()
    return loading.get_plugin_loader(auth_type)


def auth_options(settings: Settings, group: str) -> dict[str, Any]:
    """The options of a section by which it logs in: those that its auth plugin knows.

    :raises keystoneauth1.exceptions.NoMatchingPlugin: for an ``auth_type`` that is not installed
    """
    options = settings.options[sources.login_group(settings, group)]
    known = {opt.dest for opt in _loader(options['auth_type']).get_options()}
    return {name: value for name, value in options.items() if name in known and value is not None}


def login(settings: Settings, group: str, timeout: float) -> Optional[Catalog]:
    """Log in as ``[group]`` says and fetch the catalog; None when its plugin has none (``none``, ``http_basic``).

    The token is forgotten with the session.

    :param timeout: seconds for each wait
    :raises LoginFailed: when keystone, or the configuration, says no
    :raises keystoneauth1.exceptions.ClientException: when keystone could not be asked
    """
    from keystoneauth1 import exceptions
    from keystoneauth1 import session as ksa_session
    # keystoneauth warns of each detour of its discovery; without a handler Python would print that.
    for name in ('keystoneauth', 'keystoneauth1'):
        logging.getLogger(name).addHandler(logging.NullHandler())
    auth_type = settings.options[sources.login_group(settings, group)]['auth_type']
    try:
        plugin = _loader(auth_type).load_from_options(**auth_options(settings, group))
    except exceptions.NoMatchingPlugin:
        raise LoginFailed(f'there is no keystoneauth plugin {auth_type}', f'correct [{group}] auth_type')
    except exceptions.MissingRequiredOptions as error:
        missing = ', '.join(opt.dest for opt in error.options)
        raise LoginFailed(f'{missing} is not set', f'set it in [{group}]')
    except exceptions.OptionError as error:
        raise LoginFailed(f'the options do not fit auth_type {auth_type} ({type(error).__name__})',
                          f'correct [{group}]')
    if not hasattr(plugin, 'get_access'):
        return None
    how = sources.tls_of(settings, group)
    auth_url = str(settings.options[sources.login_group(settings, group)].get('auth_url', ''))
    with web.session(tls.context(how) if auth_url.startswith('https') else None) as asking:
        asking.trust_env = True  # a proxy, as Nova's own session would use it
        certificate = (how.certfile, how.keyfile) if how.keyfile else how.certfile or None
        session = ksa_session.Session(session=asking, verify=_verify(how), cert=certificate, timeout=timeout,
                                      user_agent='nova-migcheck')
        try:
            access = plugin.get_access(session)
        except exceptions.HttpError as error:
            raise _no(error, group, auth_type)
    if not access.has_service_catalog():
        raise LoginFailed('keystone gave a token without a service catalog',
                          f'give the user of [{group}] a role on the project that [{group}] names')
    return Catalog(time.time(), list(_reduced(access.service_catalog)))


def _verify(how: Tls) -> Any:
    return not how.insecure and (how.cafile or True)


def _no(error: Any, group: str, auth_type: str) -> LoginFailed:
    """Keystone's error, by its status: the body may repeat what was sent, so it is not shown."""
    status = error.http_status
    if status >= 500:
        return LoginFailed(f'keystone answers a login with HTTP {status}', "look at keystone's log and its database")
    if 'token' in auth_type and status in (401, 404):
        return LoginFailed(f'keystone answers HTTP {status}: the token is expired or revoked',
                           f'issue a new token, or use auth_type = password in [{group}]')
    if status == 401:
        return LoginFailed('keystone answers HTTP 401: wrong password, or no such (enabled) user, domain or project',
                           f'compare [{group}] username, user_domain_name, project_name and the password with keystone')
    return LoginFailed(f'keystone answers a login with HTTP {status}', f'compare [{group}] with keystone')


def _reduced(catalog: Any) -> Iterator[dict[str, Any]]:
    for service in catalog.normalize_catalog():
        endpoints = [{'interface': (endpoint.get('interface') or '').replace('URL', ''),
                      'region_id': endpoint.get('region_name'), 'url': clean_url(endpoint['url'])}
                     for endpoint in service['endpoints'] if endpoint.get('url')]
        yield {'type': service['type'], 'name': service.get('name'), 'endpoints': endpoints}


@dataclasses.dataclass(frozen=True)
class Missing:
    """A service that a section needs and the catalog does not have as asked for."""

    service: str
    needed_for: str
    group: str
    text: str
    remedy: str


def look_up(settings: Settings, section: sources.Section, catalog: Catalog) -> Endpoint | Missing | None:
    """The endpoint that Nova would take for this section; None when the section needs none from the catalog.

    A service of which the catalog knows nothing at all is missing only where nova.conf has a login for it.
    """
    if not section.service_type or _overridden(settings, section.group):
        return None
    from keystoneauth1 import exceptions
    from keystoneauth1.access.service_catalog import ServiceCatalogV3
    service_type, name, interfaces, region = _wanted(settings, section)
    known = ServiceCatalogV3(catalog.services)
    try:
        data = known.endpoint_data_for(service_type=service_type, service_name=name or None, interface=list(interfaces),
                                       region_name=region or None)
    except exceptions.CatalogException:
        others = known.get_endpoints_data(service_type=service_type)
        offered = sorted({f'{e.interface} in {e.region_name}' for found in others.values() for e in found})
        if not offered and not settings.get(sources.login_group(settings, section.group), 'auth_type'):
            return None
        asked = f'{"/".join(interfaces)}{f" in {region}" if region else ""}{f", named {name}" if name else ""}'
        return Missing(section.needed_for, section.needed_for, section.group,
                       f'keystone\'s catalog has no {service_type} endpoint that is {asked}; it has '
                       f'{", ".join(offered) or "none of this type"}',
                       f'correct [{section.group}] valid_interfaces, region_name and service_type, or the catalog '
                       f'(openstack endpoint list --service {service_type})')
    origin = f'keystone catalog: {data.service_type or service_type}, {data.interface}, {data.region_name}'
    target = Target(sources.probe_url(data.url), sources.tls_of(settings, section.group))
    return Endpoint(target, section.needed_for, origin, section.needed_for, from_catalog=True)


def _overridden(settings: Settings, group: str) -> bool:
    return any(settings.get(group, option) for option in
               ('endpoint_override', 'api_servers', 'endpoint_template', 'barbican_endpoint'))


def _wanted(settings: Settings, section: sources.Section) -> tuple[str, str, tuple[str, ...], str]:
    """Service type, service name, interfaces in order, region; '' for any."""
    group = section.group
    if group == 'cinder':
        parts = (settings.get(group, 'catalog_info') or 'volumev3::publicURL').split(':')
        kind, name, interface = (*parts, '', '')[:3]
        return kind, name, (interface.replace('URL', '') or 'public',), settings.get(group, 'os_region_name') or ''
    if group == 'barbican':
        return (section.service_type, '', (settings.get(group, 'barbican_endpoint_type') or 'public',),
                settings.get(group, 'barbican_region_name') or '')
    interfaces = settings.get(group, 'valid_interfaces') or _INTERFACES
    return (settings.get(group, 'service_type') or section.service_type, settings.get(group, 'service_name') or '',
            tuple(sources.as_list(interfaces)), settings.get(group, 'region_name') or '')
