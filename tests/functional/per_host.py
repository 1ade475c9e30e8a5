# SPDX-License-Identifier: Apache-2.0
"""Which compute host the running code belongs to, so that several in one process have a configuration each.

In production one nova-compute is one process with one nova.conf. Here they share a process: what runs for a host
carries the host in a context variable, over threads and executors, and an option that the host sets for itself is
answered from there.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import types
from typing import Any, Callable, Iterator, Optional

import fixtures
import futurist
import nova.conf
from oslo_config import cfg

_HOST: contextvars.ContextVar[Any] = contextvars.ContextVar('host', default=None)


def current() -> Optional[Any]:
    """The host whose code runs here, or None in what belongs to no compute host."""
    return _HOST.get()


@contextlib.contextmanager
def running_for(host: Any) -> Iterator[None]:
    token = _HOST.set(host)
    try:
        yield
    finally:
        _HOST.reset(token)


def bind(host: Any, thing: Any, note: Callable[[str], None]) -> None:
    """Make every method of one object run for ``host``, and tell ``note`` the name of each public one that is called."""
    for cls in type(thing).__mro__:
        for name, value in vars(cls).items():
            if isinstance(value, types.FunctionType) and not name.startswith('__') and name not in vars(thing):
                setattr(thing, name, _bound(host, getattr(thing, name), name, note))


def _bound(host: Any, method: Callable[..., Any], name: str, note: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not name.startswith('_'):
            note(name)
        with running_for(host):
            return method(*args, **kwargs)
    return call


def convert(group: Optional[str], name: str, value: Any) -> Any:
    """A value as the option's own type makes it of the text in a nova.conf."""
    opt = nova.conf.CONF._get_opt_info(name, group)['opt']
    return nova.conf.CONF._convert_value(value, opt) if isinstance(value, str) else value


class PerHost(fixtures.Fixture):
    """Options are read for the host that the code runs for; threads and executors run for the one that started them."""

    def _setUp(self) -> None:
        read = cfg.ConfigOpts._get
        conf = nova.conf.CONF

        def read_for_host(self: cfg.ConfigOpts, name: str, group: Any = None, namespace: Any = None) -> Any:
            host = _HOST.get()
            if host is not None and self is conf and namespace is None:
                key = (getattr(group, 'name', group), name)
                if key in host.options:
                    return host.options[key]
            return read(self, name, group, namespace)

        locate = cfg.ConfigOpts.get_location

        def locate_for_host(self: cfg.ConfigOpts, name: str, group: Any = None) -> Any:
            host = _HOST.get()
            if host is not None and self is conf and (group, name) in host.options:
                return cfg.LocationInfo(cfg.Locations.user, host.nova_conf)
            return locate(self, name, group)

        start = threading.Thread.start

        def start_in_context(self: threading.Thread) -> None:
            self.run = functools.partial(contextvars.copy_context().run, self.run)
            start(self)

        def submit_in_context(submit: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(self: Any, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
                return submit(self, contextvars.copy_context().run, fn, *args, **kwargs)
            return wrapped

        self.useFixture(fixtures.MonkeyPatch('oslo_config.cfg.ConfigOpts._get', read_for_host))
        self.useFixture(fixtures.MonkeyPatch('oslo_config.cfg.ConfigOpts.get_location', locate_for_host))
        self.useFixture(fixtures.MonkeyPatch('threading.Thread.start', start_in_context))
        for executor in ('ThreadPoolExecutor', 'DynamicThreadPoolExecutor', 'GreenThreadPoolExecutor'):
            if hasattr(futurist, executor) and 'submit' in vars(getattr(futurist, executor)):
                self.useFixture(fixtures.MonkeyPatch(
                    f'futurist.{executor}.submit', submit_in_context(getattr(futurist, executor).submit)))
