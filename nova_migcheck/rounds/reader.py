# SPDX-License-Identifier: Apache-2.0
"""Read for each check the options that it asked for, and nothing else, out of a service's configuration.

The check's process gets plain values: it imports no nova and parses no file. Options that nobody registered (``[keystone_authtoken]`` in
nova-compute, or all of Nova's where nova is not installed) are read from the same files through a private parser, so that nothing is
ever registered in the service's own configuration that another library may want to register differently.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional

from oslo_config import cfg

from nova_migcheck.checks.base import Check, Settings

# What keystoneauth1 reads for a session and an adapter. The plugin's own options come on top, by its auth_type.
_SESSION = ('cafile', 'certfile', 'keyfile', 'insecure', 'timeout', 'split_loggers', 'collect_timing')
_ADAPTER = ('service_type', 'service_name', 'valid_interfaces', 'interface', 'region_name', 'endpoint_override', 'min_version',
            'max_version', 'connect_retries', 'status_code_retries')
_MULTI_VALUED = ('valid_interfaces',)


class Reader:
    """Hands out :class:`Settings` from an ``oslo_config.cfg.ConfigOpts``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf
        self._files: Optional[cfg.ConfigOpts] = None
        # group -> (values, files) of its keystoneauth options: thirty each, none of which a running service takes up anew
        self._logins: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
        # (group, option) -> (value, the file that set it): to find the file costs ten times what the value does, in each round
        self._paths: dict[tuple[str, str], tuple[Any, str]] = {}
        # The same of what nobody has registered: its files are parsed once, and it stays as it was there.
        self._unregistered: dict[tuple[str, str], tuple[Any, str]] = {}

    def read(self, check: type[Check], memory: Any = None, target: Optional[dict[str, Any]] = None) -> Settings:
        """What ``check`` is told.

        :param memory: what it kept in its last round
        :param target: for a check of the path: what is known of the target
        """
        options: dict[str, dict[str, Any]] = {}
        files: dict[str, str] = {}
        for group in check.AUTH_GROUPS:
            if group not in self._logins:
                self._logins[group] = self._values(group, self._auth_options(group))
        for group, (values, paths) in [*((group, self._logins[group]) for group in check.AUTH_GROUPS),
                                       *((group, self._values(group, names)) for group, names in check.OPTIONS.items())]:
            if values:
                options.setdefault(group, {}).update(values)
            files.update(paths)
        timeout = self._value('migcheck', 'probe_timeout')[0]
        return Settings(host=self._value('DEFAULT', 'host')[0] or '', options=options, files=files,
                        timeout=5.0 if timeout is None else timeout, memory=memory, target=target or {})

    def nothing(self) -> Settings:
        """What is told to a check that could not be loaded."""
        return Settings(host=self._value('DEFAULT', 'host')[0] or '')

    def _auth_options(self, group: str) -> set[str]:
        # keystoneauth1 allows a section to point to another one for its credentials.
        from keystoneauth1 import loading
        names = {'auth_type', 'auth_section', *_SESSION, *_ADAPTER}
        auth_type = self._value(group, 'auth_type')[0]
        if auth_type:
            try:
                options = loading.get_plugin_loader(auth_type).get_options()
            except Exception:
                # No such plugin here: the check finds that out for itself, and names it.
                options = []
            names.update(option.dest for option in options)
        return names

    def _values(self, group: str, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Of the options that are set: name -> value, and ``group.name`` -> the file."""
        found = {name: self._value(group, name) for name in sorted(names)}
        return ({name: value for name, (value, _path) in found.items() if value is not None},
                {f'{group}.{name}': path for name, (_value, path) in found.items() if path})

    def _value(self, group: str, name: str) -> tuple[Any, str]:
        """An option's value as JSON can hold it, and the file that set it."""
        scope = None if group == 'DEFAULT' else group
        try:
            value = self.conf[name] if scope is None else self.conf[scope][name]
        except cfg.NoSuchOptError:
            if (group, name) not in self._unregistered:
                conf = self._parsed()
                conf.register_opt((cfg.ListOpt if name in _MULTI_VALUED else cfg.StrOpt)(name), group=scope)
                value = conf[name] if scope is None else conf[scope][name]
                self._unregistered[group, name] = _plain(value), _file(conf, name, scope)
            return self._unregistered[group, name]
        known = self._paths.get((group, name))
        if known is None or known[0] != value:
            known = self._paths[group, name] = value, _file(self.conf, name, scope)
        return _plain(value), known[1]

    def _parsed(self) -> cfg.ConfigOpts:
        if self._files is None:
            self._files = cfg.ConfigOpts()
            self._files([], project=self.conf.project, prog=self.conf.prog, default_config_files=_existing(self.conf, 'config_file'),
                        default_config_dirs=_existing(self.conf, 'config_dir'))
        return self._files


def _file(conf: cfg.ConfigOpts, name: str, scope: Optional[str]) -> str:
    """The file that set an option, '' when none did."""
    location = conf.get_location(name, scope)
    return str(location.detail or '') if location is not None and location.location.is_user_controlled else ''


def _existing(conf: cfg.ConfigOpts, option: str) -> list[str]:
    """The files or directories that ``conf`` was itself parsed from."""
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
