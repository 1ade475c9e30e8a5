# SPDX-License-Identifier: Apache-2.0
"""By which names Nova and libvirt on a source reach a target.

It follows ``_live_migration_uri`` and ``_migrate_uri`` of ``nova/virt/libvirt/driver.py`` (the same in 27 to 34) and, where
Nova gives no data URI, libvirt's ``qemuMigrationDstPrepareDirect``, which takes the host name that the
target's libvirt has for itself.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import urllib.parse
from typing import Optional

from nova_migcheck.checksettings import Settings

NATIVE_TLS = 'live_migration_with_native_tls'
# The options that decide, for a check's OPTIONS.
OPTIONS = ('virt_type', 'live_migration_uri', 'live_migration_scheme', 'live_migration_tunnelled', NATIVE_TLS)

# libvirt's and ssh's registered ports; libssh and libssh2 are libvirt's own ways to speak ssh.
_PORTS = {'tcp': 16509, 'tls': 16514, 'ssh': 22, 'libssh': 22, 'libssh2': 22}
_DRIVERS = {'kvm': 'qemu', 'qemu': 'qemu', 'parallels': 'parallels'}


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a migration to one target goes.

    :param uri: libvirt's URI of the target
    :param connect: the name in it, for the connection from daemon to daemon
    :param transport: ``tcp``, ``tls``, ``ssh``, …
    :param port: of that connection; None when the transport has none that is known
    :param port_given: whether the URI names it
    :param data: the name to which QEMU sends the guest; None when it goes through libvirt's connection (tunnelled), ''
        when libvirt takes a name that is not known here
    :param pkipath: directory of the TLS files, when the URI names one
    :param verify: False when the URI tells libvirt not to look at the target's certificate
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
    """Where Nova and libvirt on this host would migrate to.

    :param connect: ``target_connect_addr``, or the target's name in Nova when that is unset
    :param inbound: whether ``live_migration_inbound_addr`` is set on the target
    :param libvirt_host: what libvirt on the target calls that host, '' when unknown
    :raises ValueError: when Nova itself could make no URI of the options, or nobody could connect to it
    """
    virt_type = settings.get('libvirt', 'virt_type', 'kvm')
    escaped = _escape(connect)
    template = settings.get('libvirt', 'live_migration_uri')
    if template:
        try:
            uri = template % escaped
        except (TypeError, ValueError) as e:
            raise ValueError(f'[libvirt] live_migration_uri {template} takes no target name: {e}')
    elif virt_type in _DRIVERS:
        scheme = settings.get('libvirt', 'live_migration_scheme') or 'tcp'
        uri = f'{_DRIVERS[virt_type]}+{"tcp" if virt_type == "parallels" else scheme}://{escaped}/system'
    else:
        raise ValueError(f'Nova has no live migration for virt_type {virt_type}')
    parts = urllib.parse.urlsplit(uri)
    # "qemu://host/system", without a transport, is TLS to libvirt.
    transport = parts.scheme.partition('+')[2] or 'tls'
    if not parts.hostname:
        raise ValueError(f'there is no host name in {uri}')
    data: Optional[str] = libvirt_host
    if settings.get('libvirt', 'live_migration_tunnelled'):
        data = None
    elif inbound and virt_type in ('kvm', 'qemu'):
        data = connect
    extra = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
    return Destination(uri, parts.hostname, transport, parts.port or _PORTS.get(transport), parts.port is not None, data,
                       extra.get('pkipath', ''), extra.get('no_verify', '0') == '0')


def tls_origin(settings: Settings) -> str:
    """The option that says by which transport libvirt connects."""
    uri = settings.get('libvirt', 'live_migration_uri')
    return settings.origin('libvirt', 'live_migration_uri' if uri else 'live_migration_scheme')


def _escape(name: str) -> str:
    """As ``oslo_utils.netutils.escape_ipv6``."""
    try:
        return f'[{name}]' if ipaddress.ip_address(name).version == 6 else name
    except ValueError:
        return name
