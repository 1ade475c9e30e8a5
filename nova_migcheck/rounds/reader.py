# SPDX-License-Identifier: Apache-2.0
"""Read the options that a check asks for, and no others, from a service's configuration.

The check's process gets plain values: it imports no nova and parses no file. Some options are not
registered: ``[keystone_authtoken]`` in nova-compute, or all of Nova's if nova is not installed.
These are read from the same files by a private parser. So nothing is registered in the service's
own configuration that another library may register in another way.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Optional, Sequence

from oslo_config import cfg

from nova_migcheck.checks.base import Arrival, Check, Settings
from nova_migcheck.volumes.attached import Attached

# The options of a keystoneauth1 session and adapter. Those of the auth_type's plugin are added.
_SESSION = ('cafile', 'certfile', 'keyfile', 'insecure', 'timeout', 'split_loggers',
            'collect_timing')
_ADAPTER = ('service_type', 'service_name', 'valid_interfaces', 'interface', 'region_name',
            'endpoint_override', 'min_version', 'max_version', 'connect_retries',
            'status_code_retries')
_MULTI_VALUED = ('valid_interfaces',)


class Reader:
    """Read :class:`Settings` from an ``oslo_config.cfg.ConfigOpts``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf
        self._files: Optional[cfg.ConfigOpts] = None
        # group -> (values, files) of its keystoneauth options, about thirty. A running service
        # never reads them again.
        self._logins: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
        # (group, option) -> (value, the file that set it). To find the file costs ten times as much
        # as to read the value.
        self._paths: dict[tuple[str, str], tuple[Any, str]] = {}
        # The same for unregistered options, whose files are parsed only once.
        self._unregistered: dict[tuple[str, str], tuple[Any, str]] = {}

    def read(self, check: type[Check], memory: Any = None,
             target: Optional[dict[str, Any]] = None) -> Settings:
        """Return the settings of a check.

        :param memory: the value that it kept in its last round
        :param target: for a check of the path: the known facts of the target
        """
        options: dict[str, dict[str, Any]] = {}
        files: dict[str, str] = {}
        for group in check.AUTH_GROUPS:
            if group not in self._logins:
                self._logins[group] = self._values(group, self._auth_options(group))
        logins = ((group, self._logins[group]) for group in check.AUTH_GROUPS)
        others = ((group, self._values(group, names)) for group, names in check.OPTIONS.items())
        for group, (values, paths) in (*logins, *others):
            if values:
                options.setdefault(group, {}).update(values)
            files.update(paths)
        timeout = self._value('migcheck', 'probe_timeout')[0]
        return Settings(host=self._value('DEFAULT', 'host')[0] or '', options=options, files=files,
                        timeout=5.0 if timeout is None else timeout, memory=memory,
                        target=target or {})

    def of_server(self, check: type[Check], server: Arrival, needs: Any,
                  volumes: Sequence[Attached]) -> Settings:
        """Return the settings of a check of a server.

        :param needs: what the guest needs of this check
        :param volumes: of the server; only a check that reads them is given them
        """
        return dataclasses.replace(
            self.read(check), server=server.uuid,
            arrival={**dataclasses.asdict(server), 'needs': needs},
            volumes=[one.to_json() for one in volumes] if check.READS_VOLUMES else ())

    def nothing(self) -> Settings:
        """Return the settings of a check that could not be loaded."""
        return Settings(host=self._value('DEFAULT', 'host')[0] or '')

    def _auth_options(self, group: str) -> set[str]:
        # keystoneauth1 allows a section to refer to another one for its credentials.
        from keystoneauth1 import loading
        names = {'auth_type', 'auth_section', *_SESSION, *_ADAPTER}
        auth_type = self._value(group, 'auth_type')[0]
        if auth_type:
            try:
                options = loading.get_plugin_loader(auth_type).get_options()
            except Exception:
                # There is no such plugin. The check itself reports that.
                options = []
            names.update(option.dest for option in options)
        return names

    def _values(self, group: str, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the options that are set, and by ``group.name`` the files that set them."""
        found = {name: self._value(group, name) for name in sorted(names)}
        return ({name: value for name, (value, _path) in found.items() if value is not None},
                {f'{group}.{name}': path for name, (_value, path) in found.items() if path})

    def _value(self, group: str, name: str) -> tuple[Any, str]:
        """Return an option's value in a form that JSON can hold, and the file that set it."""
        scope = None if group == 'DEFAULT' else group
        try:
            value = self.conf[name] if scope is None else self.conf[scope][name]
        except cfg.NoSuchOptError:
            if (group, name) not in self._unregistered:
                conf = self._parsed()
                option = cfg.ListOpt if name in _MULTI_VALUED else cfg.StrOpt
                conf.register_opt(option(name), group=scope)
                value = conf[name] if scope is None else conf[scope][name]
                self._unregistered[group, name] = _plain(value), _file(conf, name, scope)
            return self._unregistered[group, name]
        cached = self._paths.get((group, name))
        if cached is None or cached[0] != value:
            cached = self._paths[group, name] = value, _file(self.conf, name, scope)
        return _plain(value), cached[1]

    def _parsed(self) -> cfg.ConfigOpts:
        if self._files is None:
            self._files = cfg.ConfigOpts()
            self._files([], project=self.conf.project, prog=self.conf.prog,
                        default_config_files=_existing(self.conf, 'config_file'),
                        default_config_dirs=_existing(self.conf, 'config_dir'))
        return self._files


def _file(conf: cfg.ConfigOpts, name: str, scope: Optional[str]) -> str:
    """Return the file that set an option, or '' if none did."""
    location = conf.get_location(name, scope)
    if location is None or not location.location.is_user_controlled:
        return ''
    return str(location.detail or '')


def _existing(conf: cfg.ConfigOpts, option: str) -> list[str]:
    """Return the files or directories that ``conf`` was itself parsed from."""
    try:
        return list(conf[option] or [])
    except cfg.NoSuchOptError:
        return []


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)
