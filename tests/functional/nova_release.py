# SPDX-License-Identifier: Apache-2.0
"""What of Nova's own test base and fakes differs from release to release: the tests themselves know nothing of it."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib.metadata
import importlib.util
import inspect
import os
import sqlite3
import tempfile
import threading
from typing import Any, Iterator

import fixtures
import sqlalchemy


def patch() -> None:
    """Native threads, or eventlet in all of the process, as the environment wants it and the release has it.

    Before anything else of Nova is imported: it wants to patch, or to forbid patching, first.
    """
    # Before 2026.1, whose compute service can do without it, there is nothing but eventlet for all of Nova.
    os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')
    from nova import monkey_patch
    if has_native_threads():
        monkey_patch.patch()
    _keep_executors()


def _keep_executors() -> None:
    """A nova-compute of 2026.2 that stops ends the executors of its process for good, in a thread that may come late. Here they are
    those of all services, and of the clouds to come; Nova's fixture ends them with each cloud."""
    try:
        from nova import thread_pool_factory
    except ImportError:
        return
    thread_pool_factory.shutdown_all_executors = lambda: None


def has_native_threads() -> bool:
    """Whether all of Nova can do without eventlet."""
    from nova import monkey_patch
    return hasattr(monkey_patch, 'patch')


def is_eventlet() -> bool:
    """Whether Nova runs on eventlet in this process."""
    from nova import monkey_patch
    return not has_native_threads() or monkey_patch.is_patched()


def has_node_identity() -> bool:
    """Whether a compute host keeps the identity of its node in a file, as it does since 2023.1."""
    return importlib.util.find_spec('nova.virt.node') is not None


def compares_hypervisor_cpus() -> bool:
    """Whether Nova asks libvirt what a target's hypervisor provides, as it does since 2023.1, and so has LP#2039803."""
    from nova.virt.libvirt import host
    return hasattr(host.Host, 'compare_hypervisor_cpu')


def stats_of_the_driver() -> set[str]:
    """What Nova's own driver puts beside our report: the uptime, since 29.4, 30.2 and 31.2."""
    from nova.virt.libvirt import driver
    puts = "'uptime': self.get_host_uptime()" in inspect.getsource(driver)
    return {'uptime'} if puts else set()


def microversion() -> str:
    """What the tests speak. They need 2.84, which gives instance actions' events a host and details."""
    from nova.api.openstack import api_version_request
    return min('2.96', api_version_request._MAX_API_VERSION, key=lambda version: int(version.split('.')[1]))


def state_after_evacuation() -> str:
    """A server's ``vm_state``: since 2.95 it is left stopped."""
    return 'stopped' if microversion() == '2.96' else 'active'


@functools.cache
def is_the_distribution_s() -> bool:
    """Whether Nova comes from a package of Debian's, and not from a wheel."""
    return importlib.metadata.files('nova') is None


@functools.cache  # the thousands of files of a wheel take a while to list
def api_paste() -> str:
    """Where the release has its api-paste.ini: in the wheel, or in Debian's nova-common."""
    if is_the_distribution_s():
        import nova
        return os.path.realpath(os.path.join(nova.__path__[0], '../../../../share/nova-common/api-paste.ini'))
    files = importlib.metadata.files('nova')
    return os.path.realpath(next(file for file in files if file.name == 'api-paste.ini').locate())


class Differences(fixtures.Fixture):
    """Makes the release's own fixtures do what 2026.2's do."""

    def _setUp(self) -> None:
        from nova.tests.fixtures import notifications
        if is_eventlet():
            return
        # Before 2026.2 it looks for the running test in greenlets, native threads or not.
        self.useFixture(fixtures.MockPatchObject(
            notifications.FakeVersionedNotifier, '_get_sender_test_case_id', lambda notifier: notifier.test_case_id))


class Databases(fixtures.Fixture):
    """Databases that native threads can use, before Nova's test base makes them.

    Those of 2026.2 are files with one writer at a time. 2026.1, which has native threads too, keeps them in memory, where all
    threads share one connection: "cannot start a transaction within a transaction", and whoever reports that waits for ever.
    """

    def _setUp(self) -> None:
        from nova.tests.fixtures import nova as nova_fixtures
        if is_eventlet() or hasattr(nova_fixtures, 'DatabaseWriteLock'):
            return
        from oslo_db.sqlalchemy import enginefacade, engines
        self._path = self.useFixture(fixtures.TempDir()).path
        self._create_engine = engines.create_engine
        self.useFixture(fixtures.MockPatchObject(engines, 'create_engine', self._engine_on_a_file))
        self._making = threading.Lock()
        self._locks: dict[Any, Any] = collections.defaultdict(threading.RLock)
        self._scope = enginefacade._TransactionContextManager._transaction_scope
        self.useFixture(fixtures.MockPatchObject(
            enginefacade._TransactionContextManager, '_transaction_scope', lambda *words: self._one_writer(*words)))

    def _engine_on_a_file(self, sql_connection: str, **kwargs: Any) -> Any:
        if sql_connection != 'sqlite://':
            return self._create_engine(sql_connection, **kwargs)
        descriptor, path = tempfile.mkstemp('.sqlite', dir=self._path)
        os.close(descriptor)
        self._make(path)
        engine = self._create_engine(f'sqlite:///{path}', **kwargs)
        # As what is in memory is gone with its connection, on which the fixtures rely.
        sqlalchemy.event.listen(engine, 'engine_disposed', lambda _engine: self._make(path))
        return engine

    @staticmethod
    def _make(path: str) -> None:
        for name in (path, f'{path}-wal', f'{path}-shm'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute('PRAGMA journal_mode=WAL')  # readers beside a writer; the file keeps it

    @contextlib.contextmanager
    def _one_writer(self, manager: Any, context: Any) -> Iterator[Any]:
        """SQLite lets one write at a time, and refuses a second at once when it has read before."""
        from oslo_db.sqlalchemy import enginefacade
        with contextlib.ExitStack() as held:
            if manager._mode is enginefacade._WRITER:
                with self._making:
                    lock = self._locks[manager.reader.get_engine().url]
                held.enter_context(lock)
            yield held.enter_context(self._scope(manager, context))
