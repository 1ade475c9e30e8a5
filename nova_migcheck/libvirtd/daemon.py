# SPDX-License-Identifier: Apache-2.0
"""Find the libvirt daemons of this host: the monolithic libvirtd, or virtqemud and virtproxyd.

virtqemud runs the guests and listens on no port. virtproxyd listens for other hosts and forwards
their calls. It reads virtproxyd.conf, not libvirtd.conf (https://libvirt.org/daemons.html).

Nothing here needs privileges. Something that nova-compute cannot see from its container is no
evidence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
from typing import Iterator, Optional, Sequence

from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.network.migration import LIBVIRTD, LISTENERS, VIRTPROXYD

VIRTQEMUD = 'virtqemud'
# A running daemon -> the one that listens for other hosts. systemd starts virtproxyd only when a
# client connects.
_LISTENER = {LIBVIRTD: LIBVIRTD, VIRTPROXYD: VIRTPROXYD, VIRTQEMUD: VIRTPROXYD}

_SOCKETS = '/run/libvirt'
_SOCKET_UNITS = '/etc/systemd/system/sockets.target.wants'


@dataclasses.dataclass(frozen=True)
class Daemon:
    """Hold a daemon that listens for other hosts.

    :param name: ``libvirtd`` or ``virtproxyd``
    :param conf: the file with its settings
    """

    name: str
    conf: str


def of_port(port: Optional[int]) -> tuple[Daemon, ...]:
    """Return the daemon that serves a TCP port of this host, or both if that is not clear."""
    running = list(_running())
    names = {_LISTENER[name] for _pid, name in running}
    if len(names) > 1:
        holding = {name for pid, name in running if name in LISTENERS and _listens(pid, port)}
        names = holding or names
    names = names or _by_sockets() or _by_units() or _by_files()
    return tuple(Daemon(name, _conf(name, running)) for name in sorted(names))


def of_guests() -> str:
    """Return the daemon that runs the guests, libvirtd or virtqemud; '' if unknown."""
    listeners = {_LISTENER[name] for _pid, name in _running()} or _by_sockets()
    if len(listeners) != 1:
        return ''
    return LIBVIRTD if LIBVIRTD in listeners else VIRTQEMUD


def verifies_clients(daemons: Sequence[Daemon]) -> Optional[bool]:
    """Return whether a client needs a certificate of its own; None if unknown."""
    files = [libvirtconf.read_libvirtd_s(daemon.conf) for daemon in daemons]
    verify = {None if conf is None else not conf.get('tls_no_verify_certificate') for conf in files}
    return verify.pop() if len(verify) == 1 else None


def listening(name: str, transport: str) -> str:
    """Return the name of the service that must listen on a host, for use in a sentence.

    :param name: the daemon that serves the port there; '' if unknown
    """
    if transport not in ('tcp', 'tls'):
        return 'sshd'
    if name == VIRTPROXYD:
        return f'{name} ({name}-{transport}.socket)'
    return name or f'{LIBVIRTD} or {VIRTPROXYD}'


def _running() -> Iterator[tuple[int, str]]:
    """Yield the process ID and the name of each libvirt daemon in this network namespace.

    Only root's are yielded. A user's own daemon (``qemu:///session``) has the same name.
    """
    for path in glob.iglob('/proc/[0-9]*/comm'):
        process = os.path.dirname(path)
        with contextlib.suppress(OSError):  # the process has just ended
            with open(path, errors='replace') as file:
                name = file.read().strip()
            if (name in _LISTENER and os.stat(process).st_uid == 0
                    and os.path.samefile(f'{process}/net/tcp', '/proc/self/net/tcp')):
                yield int(os.path.basename(process)), name


def _listens(pid: int, port: Optional[int]) -> bool:
    """Return whether a process listens on a TCP port; False if only root can see that."""
    import psutil
    try:
        process = psutil.Process(pid)
        # psutil < 6 has only the second name
        connections = getattr(process, 'net_connections', None) or process.connections
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port
                   for one in connections('tcp'))
    except psutil.Error:
        return False


def _by_sockets() -> set[str]:
    """Judge from the sockets for local clients, as libvirt's own client library does."""
    if os.path.exists(f'{_SOCKETS}/{VIRTQEMUD}-sock'):
        return {VIRTPROXYD}
    return {LIBVIRTD} if os.path.exists(f'{_SOCKETS}/libvirt-sock') else set()


def _by_units() -> set[str]:
    """Judge from the socket units that systemd has enabled."""
    return {name for name in LISTENERS for transport in ('tls', 'tcp')
            if os.path.lexists(f'{_SOCKET_UNITS}/{name}-{transport}.socket')}


def _by_files() -> set[str]:
    return {name for name in LISTENERS if os.path.exists(_conf(name, ()))} or {LIBVIRTD}


def _conf(name: str, running: Sequence[tuple[int, str]]) -> str:
    """Return the configuration file in a daemon's command line, or else its default one."""
    for pid, other in running:
        if other == name:
            with contextlib.suppress(OSError):
                with open(f'/proc/{pid}/cmdline', errors='replace') as file:
                    arguments = file.read().split('\0')
                for argument, following in zip(arguments, arguments[1:]):
                    option, equals, value = argument.partition('=')
                    path = value if equals else following
                    if option in ('-f', '--config') and os.path.isabs(path):
                        return path
    return libvirtconf.LIBVIRTD_CONF if name == LIBVIRTD else libvirtconf.VIRTPROXYD_CONF
