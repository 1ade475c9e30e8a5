# SPDX-License-Identifier: Apache-2.0
"""The few lines of libvirt's own configuration files that concern a migration."""

from __future__ import annotations

import os
import re
from typing import Mapping, Optional, Union

from nova_migcheck.network.migration import DEFAULT_PORTS

QEMU_CONF = '/etc/libvirt/qemu.conf'
LIBVIRTD_CONF = '/etc/libvirt/libvirtd.conf'
VIRTPROXYD_CONF = '/etc/libvirt/virtproxyd.conf'

# Set in every image of kolla, and in every container of Kubernetes. Either has one process per container, so libvirtd has another.
_OF_CONTAINERS = ('KOLLA_BASE_DISTRO', 'KUBERNETES_SERVICE_HOST')

_LINE = re.compile(r'''^\s*(?P<key>\w+)\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<number>-?\d+))\s*(?:\#.*)?$''')


def read(path: str) -> dict[str, Union[int, str]]:
    """The settings of a file in libvirt's format that are numbers or strings; lists are left out.

    :raises OSError: when it is not there or cannot be read
    """
    found: dict[str, Union[int, str]] = {}
    with open(path, errors='replace') as file:
        for line in file:
            match = _LINE.match(line)
            if match:
                number, text = match['number'], match['double']
                found[match['key']] = int(number) if number else text if text is not None else match['single'] or ''
    return found


def read_if_any(path: str) -> dict[str, Union[int, str]]:
    """As :func:`read`; empty when the file cannot be read (libvirtd may live in another container)."""
    try:
        return read(path)
    except OSError:
        return {}


def read_libvirtd_s(path: str) -> Optional[dict[str, Union[int, str]]]:
    """Return what libvirt itself reads there; None when that cannot be told from here."""
    if not are_libvirtd_s():
        return None
    try:
        return read(path)
    except FileNotFoundError:
        return {}
    except OSError:
        return None


def are_libvirtd_s() -> bool:
    """Whether the files in this file system are those that libvirtd reads, so that one which is missing is missing there too.

    A qemu.conf alone proves nothing: kolla's nova-compute image may bring one with a library, while libvirtd and its certificates are in
    the container nova-libvirt.
    """
    return os.path.exists(QEMU_CONF) and not any(name in os.environ for name in _OF_CONTAINERS)


def qemu_verifies(qemu_conf: Mapping[str, Union[int, str]]) -> bool:
    """Return whether QEMU as a target refuses a source without a certificate of its own."""
    by_default = qemu_conf.get('default_tls_x509_verify', 1)
    return bool(qemu_conf.get('migrate_tls_x509_verify', by_default))


def migration_ports(qemu_conf: Mapping[str, Union[int, str]]) -> tuple[int, int]:
    """The first and the last port on which QEMU may listen for a migration."""
    first = qemu_conf.get('migration_port_min', DEFAULT_PORTS[0])
    last = qemu_conf.get('migration_port_max', DEFAULT_PORTS[1])
    if isinstance(first, int) and isinstance(last, int) and 0 < first <= last < 65536:
        return first, last
    return DEFAULT_PORTS
