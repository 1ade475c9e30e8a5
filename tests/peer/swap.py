# SPDX-License-Identifier: Apache-2.0
"""Put our driver and filter in the place of Nova's, in a process that runs Nova's own tests, and count how often they are at work.

All that ``./run peer`` knows of the product stands here.
"""

from __future__ import annotations

import collections
import functools
import logging
import time
from typing import Any, Callable

import nova.conf.scheduler
from nova.virt import libvirt
from nova.virt.libvirt import driver

from nova_migcheck import compute, events, hook, process, runner, targets
from tests.peer import comparing

#: How often each part of the plugin was at work.
WORK: collections.Counter[str] = collections.Counter()
#: What the plugin logged as an error; each is counted as well.
ERRORS: list[str] = []

# What is counted: the entry points of the product that Nova's calls lead to.
COUNTED = dict(zip(comparing.PARTS, (
    (hook.Hook, 'start'), (hook.Hook, 'as_destination'), (hook.Hook, 'as_source'), (targets.Judge, 'sift'), (events, 'record'))))

_FILTERS = {'available_filters': 'nova_migcheck.scheduler.all_filters', 'enabled_filters': 'MigrationTargetFilter'}
_hooks: list[hook.Hook] = []


def install(without_init_host: bool) -> None:
    """Do it, after ``nova.test`` and before any module of tests is imported.

    :param without_init_host: whether a driver has its hook at once, for the unit tests, most of which never call ``init_host()``
    """
    _put_driver()
    _enable_filter()
    _stub_rounds()
    for what, (owner, name) in COUNTED.items():
        _before(owner, name, functools.partial(_count, what))
    _before(hook.Hook, 'start', _hooks.append)
    logging.getLogger('nova_migcheck').addHandler(_Errors(logging.ERROR))
    if without_init_host:
        _hook_at_once()


def end_of_test() -> None:
    """Stop what the test's services have left running. A real one ends with its process."""
    while _hooks:
        _hooks.pop().stop()


def _put_driver() -> None:
    ours, stock = compute.LibvirtDriver, driver.LibvirtDriver
    for name, value in vars(stock).items():
        # Nova's tests replace attributes of the class, and put back what they read from it. An inherited static method would be put
        # back as a function, and break the tests that follow.
        if name not in vars(ours) and not name.startswith('__'):
            setattr(ours, name, value)
    init = stock.__init__
    if 'LibvirtDriver' in init.__code__.co_names:
        # Before 2024.2 it calls super(LibvirtDriver, self), which would be itself once that name is ours.
        driver.StockLibvirtDriver = stock
        init.__code__ = init.__code__.replace(co_names=tuple(
            'StockLibvirtDriver' if name == 'LibvirtDriver' else name for name in init.__code__.co_names))
    driver.LibvirtDriver = libvirt.LibvirtDriver = ours


def _enable_filter() -> None:
    """By the options' defaults: each test begins with these."""
    for opts in nova.conf.scheduler.list_opts().values():
        for opt in opts:
            if opt.dest in _FILTERS:
                opt.default = [*opt.default, _FILTERS[opt.dest]]


def _stub_rounds() -> None:
    """A round ends at once and finds everything well, without a process."""
    def run(self: runner.Runner, settings: Any, deadline: float, progress: Any = None) -> runner.Round:
        return runner.Round(started=time.time(), told={name: runner.Told(ended=True) for name in settings})
    runner.Runner.run = run
    process.Spare.refill = lambda self: None


def _hook_at_once() -> None:
    init = compute.LibvirtDriver.__init__

    def with_hook(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._migcheck = hook.Hook(compute.CONF, self._host)
    compute.LibvirtDriver.__init__ = with_hook


def _before(owner: Any, name: str, first: Callable[[Any], Any]) -> None:
    """Call ``first`` with the first argument of ``owner.name`` before each of its calls."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        first(args[0])
        return function(*args, **kwargs)
    setattr(owner, name, wrapped)


def _count(what: str, _subject: Any) -> None:
    WORK[what] += 1


class _Errors(logging.Handler):
    """Nova's fixtures take the handlers away from the root logger; this one is on ours."""

    def emit(self, record: logging.LogRecord) -> None:
        WORK[comparing.PARTS[-1]] += 1
        error = record.exc_info[1] if record.exc_info else None
        ERRORS.append(f'{record.getMessage()}: {type(error).__name__}: {error}' if error else record.getMessage())
