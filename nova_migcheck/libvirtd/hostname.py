# SPDX-License-Identifier: Apache-2.0
"""Ask libvirt for its name of this host, which QEMU uses if no migration address is set."""

from __future__ import annotations

from typing import Any

from nova_migcheck.checksettings import Settings
from nova_migcheck.libvirtd import configfiles


def for_migrations(settings: Settings) -> str:
    """Return the name to which a source sends a guest if Nova gives no address.

    It is migration_host of qemu.conf, or libvirt's name of this host
    (``qemuMigrationDstPrepareDirect``). Return '' if libvirt does not answer.
    """
    configured = configfiles.read_if_any(configfiles.QEMU_CONF).get('migration_host', '')
    return str(configured) or name(settings)


def name(settings: Settings) -> str:
    """Return libvirt's name of this host.

    Return '' if libvirt does not answer, which other checks report.
    """
    try:
        import libvirt
    except ImportError:
        return ''
    defaults: dict[Any, str] = {'lxc': 'lxc:///', 'parallels': 'parallels:///system'}
    default = defaults.get(settings.get('libvirt', 'virt_type'), 'qemu:///system')
    uri = settings.get('libvirt', 'connection_uri') or default
    libvirt.registerErrorHandler(lambda context, error: None, None)  # or else it prints to stderr
    try:
        connection = libvirt.openReadOnly(uri)
        try:
            return str(connection.getHostname())
        finally:
            connection.close()
    except libvirt.libvirtError:
        return ''
