# SPDX-License-Identifier: Apache-2.0
"""Put our driver and filter in the place of Nova's, and count how often they are at work.

This is for a process that runs Nova's own tests.
All that ``./run peer`` knows of the product is here.
"""

from __future__ import annotations

import collections
import functools
import logging
import time
from typing import Any, Callable

import nova.conf.scheduler
from nova.tests.fixtures import libvirt as libvirt_fixture
from nova.virt import libvirt
from nova.virt.libvirt import driver

from nova_migcheck.compute.destination import Destination
from nova_migcheck.compute.driver import CONF, LibvirtDriver
from nova_migcheck.compute.lifecycle import Lifecycle
from nova_migcheck.compute.refusal import Refusals
from nova_migcheck.compute.source import Source
from nova_migcheck.cpu import hypervisor
from nova_migcheck.judging.targets import Judge
from nova_migcheck.rounds import runner
from tests.peer.parts import PARTS

#: How often each part of the plugin was at work.
WORK: collections.Counter[str] = collections.Counter()
#: What the plugin logged as an error.
ERRORS: list[str] = []

# The entry points that Nova's calls lead to, in the order of PARTS. Errors, which come last there,
# are counted as they are logged.
_ENTRIES = ((Lifecycle, 'start'), (Destination, 'decide'), (Source, 'begin'), (Judge, 'sift'),
            (Refusals, 'leave_event'))
_FILTERS = {'available_filters': 'nova_migcheck.scheduler.all_filters',
            'enabled_filters': 'MigrationTargetFilter'}
_started: list[Lifecycle] = []


def install(without_init_host: bool) -> None:
    """Put them in place; call it after ``nova.test`` and before a module of tests is imported.

    :param without_init_host: whether a driver has its hook at once.
        This is for the unit tests, most of which never call ``init_host()``.
    """
    _put_driver()
    _enable_filter()
    _stub_rounds()
    for part, (owner, name) in zip(PARTS, _ENTRIES):
        _before(owner, name, functools.partial(_count, part))
    _before(Lifecycle, 'start', _started.append)
    # Nova's fixtures take away the handlers of the root logger; they leave this one.
    logging.getLogger('nova_migcheck').addHandler(_Errors(logging.ERROR))
    if without_init_host:
        _hook_at_once()


def end_of_test() -> None:
    """Stop what the services of a test left running; a real service ends with its process."""
    while _started:
        _started.pop().stop()


def _put_driver() -> None:
    stock = driver.LibvirtDriver
    for name, value in vars(stock).items():
        # Nova's tests replace attributes of the class and put back what they read from it. An
        # inherited static method would be put back as a function, and break the next tests.
        if name not in vars(LibvirtDriver) and not name.startswith('__'):
            setattr(LibvirtDriver, name, value)
    init = stock.__init__
    if 'LibvirtDriver' in init.__code__.co_names:
        # Before 2024.2 it calls super(LibvirtDriver, self). With our class under that name it
        # would call itself.
        driver.StockLibvirtDriver = stock
        init.__code__ = init.__code__.replace(co_names=tuple(
            'StockLibvirtDriver' if name == 'LibvirtDriver' else name
            for name in init.__code__.co_names))
    driver.LibvirtDriver = libvirt.LibvirtDriver = LibvirtDriver


def _enable_filter() -> None:
    """Add ours to the defaults of the options, with which each test begins."""
    for opts in nova.conf.scheduler.list_opts().values():
        for opt in opts:
            if opt.dest in _FILTERS:
                opt.default = [*opt.default, _FILTERS[opt.dest]]


def _stub_rounds() -> None:
    """Let a round end at once: all is well, and the CPU is that of Nova's fake libvirt."""
    def unsupported(*_args: Any) -> Any:
        raise libvirt_fixture.make_libvirtError(
            libvirt_fixture.libvirtError, 'this function is not supported by the connection driver',
            error_code=libvirt_fixture.VIR_ERR_NO_SUPPORT)
    # A method that the fake lacks altogether.
    libvirt_fixture.Connection.baselineHypervisorCPU = unsupported
    cpu = hypervisor.host_cpu(libvirt_fixture.Connection('qemu:///system'), 'kvm').to_dict()

    def run(self: runner.Runner, settings: Any, deadline: float, progress: Any = None) -> Any:
        told = {name: runner.CheckOutput(facts={'cpu': cpu} if name == 'cpu' else {}, ended=True)
                for name in settings}
        return runner.Round(started=time.time(), outputs=told,
                            facts={'cpu': cpu} if 'cpu' in told else {})
    runner.Runner.run = run


def _hook_at_once() -> None:
    init = LibvirtDriver.__init__

    def with_hook(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._migcheck = Lifecycle(CONF, self._host)
    LibvirtDriver.__init__ = with_hook


def _before(owner: Any, name: str, first: Callable[[Any], Any]) -> None:
    """Call ``first`` with the object before each call of its method."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        first(self)
        return method(self, *args, **kwargs)
    setattr(owner, name, wrapped)


def _count(part: str, _subject: Any) -> None:
    WORK[part] += 1


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def emit(self, record: logging.LogRecord) -> None:
        WORK[PARTS[-1]] += 1
        error = record.exc_info[1] if record.exc_info else None
        why = f': {type(error).__name__}: {error}' if error else ''
        ERRORS.append(record.getMessage() + why)
