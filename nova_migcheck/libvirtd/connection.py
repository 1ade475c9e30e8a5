# SPDX-License-Identifier: Apache-2.0
"""Connect to the libvirt of this host, as Nova does, and ask it under a deadline."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any, Callable, Iterator, Optional, Protocol

from nova_migcheck.checksettings import Settings
from nova_migcheck.finding import Finding
from nova_migcheck.libvirtd import daemon

_DEFAULT_URIS = {'kvm': 'qemu:///system', 'qemu': 'qemu:///system'}
# virConnectCredentialType: authname, echoprompt, realm, passphrase, noechoprompt, external
_CREDENTIALS = [2, 6, 8, 5, 7, 9]
_DONE = object()
_CONNECTED = object()


class Asker(Protocol):
    """Declare the method of the check that is used here."""

    def unknown(self, subject: str, detail: str, origin: str = '', remedy: str = '',
                scope: str = '', code: str = '') -> Finding:
        """Return a finding of the check."""


def uri(settings: Settings) -> Optional[str]:
    """Return the URI of this host's libvirt, or None if its ``virt_type`` needs no check."""
    default = _DEFAULT_URIS.get(settings.get('libvirt', 'virt_type', 'kvm'))
    return default and str(settings.get('libvirt', 'connection_uri') or default)


def opened(where: str) -> Any:
    """Open a connection as Nova does, and let credentials come from libvirt's auth.conf only.

    A read-only connection gets no domain capabilities.

    :raises libvirt.libvirtError: if it cannot be opened
    """
    import libvirt
    return libvirt.openAuth(
        where, [_CREDENTIALS, lambda credentials, opaque: -1 if credentials else 0, None], 0)


def ask(check: Asker, settings: Settings, answers: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """Connect to libvirt, and yield what ``answers`` yields for the connection.

    Connecting may take ``settings.timeout`` seconds, and so may all answers together. After that,
    yield an ``unknown`` finding. A call to a libvirtd that hangs cannot be ended, so its thread is
    abandoned.

    :param answers: ask a connection; what it raises is raised here
    """
    results: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_ask, args=(check, settings, answers, results), daemon=True).start()
    deadline = time.monotonic() + settings.timeout
    while True:
        try:
            result = results.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            name, remedy = _daemon()
            yield check.unknown(
                str(uri(settings)), f'{name} has not answered within {settings.timeout:g} s',
                settings.origin('libvirt', 'connection_uri'),
                f'check {remedy} and its log; restart it if it hangs', code='libvirt-silent')
            return
        if result is _DONE:
            return
        if isinstance(result, Exception):
            raise result
        if result is _CONNECTED:
            deadline = time.monotonic() + settings.timeout
            continue
        yield result


def _ask(check: Asker, settings: Settings, answers: Callable[[Any], Iterator[Any]],
         results: queue.Queue[Any]) -> None:
    try:
        for result in _connected(check, settings, answers):
            results.put(result)
        results.put(_DONE)
    except Exception as error:  # a bug; the caller's process reports it
        results.put(error)


def _connected(check: Asker, settings: Settings, answers: Callable[[Any], Iterator[Any]]
               ) -> Iterator[Any]:
    where, origin = str(uri(settings)), settings.origin('libvirt', 'connection_uri')
    try:
        import libvirt
    except ImportError as error:
        yield check.unknown(where, f'libvirt cannot be asked: {error}', origin,
                            'install libvirt-python in the environment of nova-compute',
                            code='libvirt-bindings')
        return
    libvirt.registerErrorHandler(lambda context, error: None, None)  # or else it prints to stderr
    try:
        conn = opened(where)
    except libvirt.libvirtError as error:
        name, remedy = _daemon()
        yield check.unknown(where, f'{name} does not answer: {error}', origin,
                            f'start {remedy}, or correct [libvirt] connection_uri',
                            code='libvirt-unreachable')
        return
    try:
        yield _CONNECTED
        yield from answers(conn)
    except libvirt.libvirtError as error:
        name, remedy = _daemon()
        yield check.unknown(where, f'{name} broke off: {error}', origin,
                            f'check {remedy} and its log', code='libvirt-closed')
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            conn.close()


def _daemon() -> tuple[str, str]:
    """Return the name of the daemon, for a finding's detail and for its remedy."""
    name = daemon.of_guests()
    return (name, name) if name else ('libvirtd', 'libvirtd (or virtqemud)')
