# SPDX-License-Identifier: Apache-2.0
"""nova-compute's watch over live migrations, in a process in the namespaces of a host with a real libvirtd.

Of Nova only its configuration and its wrapper of the connection are made up.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pathlib
import threading
import types
from multiprocessing.connection import Connection
from typing import Any, Iterator, Mapping, Optional

from nova_migcheck.report.report import Report
from tests.facts import facts
from tests.lab import inside
from tests.lab.libvirt_host import LibvirtHost

_spawn = multiprocessing.get_context('spawn')


class Watcher:
    """Calls methods of the :class:`~nova_migcheck.aftermath.watch.Watch` of a host, as nova-compute's hooks do."""

    def __init__(self, to: Connection) -> None:
        self._to = to

    def __call__(self, method: str, *args: Any) -> tuple[str, Any]:
        """(all that was logged in this call and by the thread because of it, what it gave)"""
        self._to.send((method, args))
        if not self._to.poll(60):
            raise AssertionError(f'{method} did not come back')
        log, answer = self._to.recv()
        return '\n'.join(log), answer


@contextlib.contextmanager
def watching(host: LibvirtHost, fact: Mapping[str, Any], state_path: pathlib.Path) -> Iterator[Watcher]:
    """A watch on ``host``.

    :param fact: its ``migration`` fact
    """
    ours, theirs = _spawn.Pipe()
    told = (host.host.pid, host.host.name, host.uri, dict(fact), str(state_path), theirs)
    process = _spawn.Process(target=_serve, args=told, daemon=True)
    process.start()
    try:
        yield Watcher(ours)
    finally:
        process.kill()
        process.join()


def _serve(pid: int, name: str, uri: str, fact: Mapping[str, Any], state_path: str, calls: Connection) -> None:
    import libvirt

    from nova_migcheck.aftermath.watch import Departure, Watch
    inside.enter(pid)
    libvirt.registerErrorHandler(lambda context, error: None, None)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f'{record.levelname} {record.getMessage()}')  # type: ignore[method-assign]
    logging.getLogger('nova_migcheck').addHandler(handler)
    logging.getLogger('nova_migcheck').setLevel(logging.INFO)
    connection = libvirt.open(uri)
    conf = types.SimpleNamespace(host=name, state_path=state_path, migcheck=types.SimpleNamespace(ledger_size=1, ledger_days=1),
                                 libvirt=types.SimpleNamespace(live_migration_downtime=500, live_migration_bandwidth=0))
    reporter = types.SimpleNamespace(report=Report(0, **facts(migration=dict(fact))), migrated=lambda pasts: None)
    watch = Watch(conf, types.SimpleNamespace(get_connection=lambda: connection), reporter)
    watch.start()

    def fail(instance: Any, to: str) -> None:
        """Nova's driver calls back, and raises what libvirt raised."""
        departure, error = Departure(instance, to), None
        try:
            connection.lookupByUUIDString(instance.uuid).migrateToURI3(f'qemu+tcp://{to}/system', {}, libvirt.VIR_MIGRATE_LIVE
                                                                       | libvirt.VIR_MIGRATE_PEER2PEER)
        except libvirt.libvirtError as e:
            error = e
            departure.noting(print, lambda: None)[1]()
        watch.left(departure, error)

    while True:
        method, args = calls.recv()
        lines.clear()
        answer: Optional[Any] = fail(*args) if method == 'fail' else getattr(watch, method)(*args)
        # What the thread had to do is done when it has done this.
        done = threading.Event()
        watch._later(done.set)
        done.wait(30)
        calls.send((list(lines), answer))
