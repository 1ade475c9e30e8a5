# SPDX-License-Identifier: Apache-2.0
"""Determine the names by which Nova and libvirt on a source reach a target.

This follows ``_live_migration_uri`` and ``_migrate_uri`` of ``nova/virt/libvirt/driver.py`` (the
same in 27 to 34). If Nova passes no data URI, it follows libvirt's
``qemuMigrationDstPrepareDirect``, which takes the host name that the target's libvirt reports.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import urllib.parse
from typing import Optional

from nova_migcheck.checksettings import Settings

NATIVE_TLS = 'live_migration_with_native_tls'
# The options read here, for a check's OPTIONS.
OPTIONS = ('virt_type', 'live_migration_uri', 'live_migration_scheme', 'live_migration_tunnelled',
           NATIVE_TLS)

# The default ports. libssh and libssh2 are ssh through a library instead of the ssh client.
_PORTS = {'tcp': 16509, 'tls': 16514, 'ssh': 22, 'libssh': 22, 'libssh2': 22}
_DRIVERS = {'kvm': 'qemu', 'qemu': 'qemu', 'parallels': 'parallels'}


@dataclasses.dataclass(frozen=True)
class Destination:
    """Hold the names and ports of a migration to one target.

    :param uri: libvirt's URI of the target
    :param connect: the name in it, for the connection from daemon to daemon
    :param transport: ``tcp``, ``tls``, ``ssh``, …
    :param port: of that connection; None if it is unknown for this transport
    :param port_given: whether the URI contains it
    :param data: the name to which QEMU sends the guest; None if it goes through libvirt's
        connection (tunnelled), '' if libvirt uses a name that is unknown on this host
    :param pkipath: directory of the TLS files, if the URI contains one
    :param verify: False if the URI switches off the verification of the target's certificate
    """

    uri: str
    connect: str
    transport: str
    port: Optional[int]
    port_given: bool
    data: Optional[str]
    pkipath: str = ''
    verify: bool = True


def destination(settings: Settings, connect: str, inbound: bool, libvirt_host: str) -> Destination:
    """Return the destination that Nova and libvirt on this host use for a target.

    :param connect: ``target_connect_addr``, or the target's name in Nova if that is unset
    :param inbound: whether ``live_migration_inbound_addr`` is set on the target
    :param libvirt_host: the host name that libvirt on the target reports; '' if unknown
    :raises ValueError: if the options give no URI, or one without a host name
    """
    virt_type = settings.get('libvirt', 'virt_type', 'kvm')
    escaped = _escape(connect)
    template = settings.get('libvirt', 'live_migration_uri')
    if template:
        try:
            uri = template % escaped
        except (TypeError, ValueError) as e:
            raise ValueError(f"[libvirt] live_migration_uri {template} has no single %s for the "
                             f"target's name: {e}")
    elif virt_type in _DRIVERS:
        scheme = settings.get('libvirt', 'live_migration_scheme') or 'tcp'
        if virt_type == 'parallels':
            scheme = 'tcp'
        uri = f'{_DRIVERS[virt_type]}+{scheme}://{escaped}/system'
    else:
        raise ValueError(f'Nova has no live migration for virt_type {virt_type}')
    parts = urllib.parse.urlsplit(uri)
    # To libvirt, a URI without a transport like "qemu://host/system" means TLS.
    transport = parts.scheme.partition('+')[2] or 'tls'
    if not parts.hostname:
        raise ValueError(f'there is no host name in {uri}')
    data: Optional[str] = libvirt_host
    if settings.get('libvirt', 'live_migration_tunnelled'):
        data = None
    elif inbound and virt_type in ('kvm', 'qemu'):
        data = connect
    extra = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
    return Destination(uri, parts.hostname, transport, parts.port or _PORTS.get(transport),
                       parts.port is not None, data, extra.get('pkipath', ''),
                       extra.get('no_verify', '0') == '0')


def data_uri(to: Destination, inbound: bool) -> str:
    """Return the URI that Nova gives to libvirt for the guest's memory; '' if it gives none."""
    return f'tcp://{_escape(to.data)}' if inbound and to.data else ''


def tls_origin(settings: Settings) -> str:
    """Return the origin of the option that selects libvirt's transport."""
    uri = settings.get('libvirt', 'live_migration_uri')
    return settings.origin('libvirt', 'live_migration_uri' if uri else 'live_migration_scheme')


def _escape(name: str) -> str:
    """Put an IPv6 address into brackets, as ``oslo_utils.netutils.escape_ipv6`` does."""
    try:
        return f'[{name}]' if ipaddress.ip_address(name).version == 6 else name
    except ValueError:
        return name
