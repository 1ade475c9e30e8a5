# SPDX-License-Identifier: Apache-2.0
"""Read the settings in libvirt's own configuration files that affect a migration."""

from __future__ import annotations

import os
import re
from typing import Mapping, Optional, Union

from nova_migcheck.network.migration import DEFAULT_PORTS

QEMU_CONF = '/etc/libvirt/qemu.conf'
LIBVIRTD_CONF = '/etc/libvirt/libvirtd.conf'
VIRTPROXYD_CONF = '/etc/libvirt/virtproxyd.conf'

# Environment variables of kolla's images and of Kubernetes' containers. Both run one process in a
# container, so libvirtd is in another one.
_OF_CONTAINERS = ('KOLLA_BASE_DISTRO', 'KUBERNETES_SERVICE_HOST')

_LINE = re.compile(r'''^\s*(?P<key>\w+)\s*=\s*
                       (?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<number>-?\d+))
                       \s*(?:\#.*)?$''', re.VERBOSE)


def read(path: str) -> dict[str, Union[int, str]]:
    """Return the settings in a file that are numbers or strings. Lists are skipped.

    :raises OSError: if the file does not exist or cannot be read
    """
    found: dict[str, Union[int, str]] = {}
    with open(path, errors='replace') as file:
        for line in file:
            match = _LINE.match(line)
            if match and match['number']:
                found[match['key']] = int(match['number'])
            elif match:
                found[match['key']] = match['double'] or match['single'] or ''
    return found


def read_if_any(path: str) -> dict[str, Union[int, str]]:
    """Return the settings in a file, or nothing if it cannot be read.

    libvirtd may run in another container.
    """
    try:
        return read(path)
    except OSError:
        return {}


def read_libvirtd_s(path: str) -> Optional[dict[str, Union[int, str]]]:
    """Return the settings that libvirt itself reads, or None if this process cannot see them."""
    if not are_libvirtd_s():
        return None
    try:
        return read(path)
    except FileNotFoundError:
        return {}
    except OSError:
        return None


def are_libvirtd_s() -> bool:
    """Return whether libvirtd reads the files in this file system.

    If it does, a file that is missing here is missing for libvirtd, too. A qemu.conf alone is no
    evidence: kolla's image of nova-compute may contain one from a library, while libvirtd and its
    certificates are in the container nova-libvirt.
    """
    return os.path.exists(QEMU_CONF) and not any(name in os.environ for name in _OF_CONTAINERS)


def qemu_verifies(qemu_conf: Mapping[str, Union[int, str]]) -> bool:
    """Return whether QEMU as a target refuses a source without a certificate of its own."""
    by_default = qemu_conf.get('default_tls_x509_verify', 1)
    return bool(qemu_conf.get('migrate_tls_x509_verify', by_default))


def migration_ports(qemu_conf: Mapping[str, Union[int, str]]) -> tuple[int, int]:
    """Return the first and the last port on which QEMU may listen for a migration."""
    first = qemu_conf.get('migration_port_min', DEFAULT_PORTS[0])
    last = qemu_conf.get('migration_port_max', DEFAULT_PORTS[1])
    if isinstance(first, int) and isinstance(last, int) and 0 < first <= last < 65536:
        return first, last
    return DEFAULT_PORTS
