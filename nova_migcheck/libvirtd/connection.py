# SPDX-License-Identifier: Apache-2.0
"""Open a connection to the libvirt of this host, as Nova does, and ask under a deadline."""

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
    """What is needed of the check that asks."""

    def unknown(self, subject: str, detail: str, origin: str = '', remedy: str = '') -> Finding:
        """Return a finding of the check."""


def uri(settings: Settings) -> Optional[str]:
    """Return the URI of this host's libvirt, None when ``[libvirt] virt_type`` needs no check."""
    default = _DEFAULT_URIS.get(settings.get('libvirt', 'virt_type', 'kvm'))
    return default and str(settings.get('libvirt', 'connection_uri') or default)


def ask(check: Asker, settings: Settings, answers: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """Yield what ``answers`` yields of a connection.

    Both the connection and all answers together have ``settings.timeout`` seconds; then an
    ``unknown`` finding follows. A call to a libvirtd that hangs can only be left behind.

    :param answers: asks a connection; what it raises is raised here
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
                f'look at {remedy} and its log; restart it if it hangs')
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
    except Exception as error:  # a bug: shown as every check's bugs are
        results.put(error)


def _connected(check: Asker, settings: Settings, answers: Callable[[Any], Iterator[Any]]
               ) -> Iterator[Any]:
    where, origin = str(uri(settings)), settings.origin('libvirt', 'connection_uri')
    try:
        import libvirt
    except ImportError as error:
        yield check.unknown(where, f'libvirt cannot be asked: {error}', origin,
                            'install libvirt-python in the environment of nova-compute')
        return
    libvirt.registerErrorHandler(lambda context, error: None, None)  # it would print to stderr
    try:
        # As Nova connects: credentials come from libvirt's auth.conf or not at all. Not read-only:
        # domain capabilities are given to writers only.
        conn = libvirt.openAuth(
            where, [_CREDENTIALS, lambda credentials, opaque: -1 if credentials else 0, None], 0)
    except libvirt.libvirtError as error:
        name, remedy = _daemon()
        yield check.unknown(where, f'{name} does not answer: {error}', origin,
                            f'start {remedy}, or correct [libvirt] connection_uri')
        return
    try:
        yield _CONNECTED
        yield from answers(conn)
    except libvirt.libvirtError as error:
        name, remedy = _daemon()
        yield check.unknown(where, f'{name} broke off: {error}', origin,
                            f'look at {remedy} and its log')
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            conn.close()


def _daemon() -> tuple[str, str]:
    """Return the name of the daemon that is asked, for a finding and for its remedy."""
    name = daemon.of_guests()
    return (name, name) if name else ('libvirtd', 'libvirtd (or virtqemud)')
