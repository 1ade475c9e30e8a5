# SPDX-License-Identifier: Apache-2.0
"""What libvirt calls this host: where QEMU is reached when no address is set for migrations."""

from __future__ import annotations

from typing import Any

from nova_migcheck.checksettings import Settings


def name(settings: Settings) -> str:
    """What libvirt calls this host; '' where there is no libvirt to ask, which other checks say."""
    try:
        import libvirt
    except ImportError:
        return ''
    default: dict[Any, str] = {'lxc': 'lxc:///', 'parallels': 'parallels:///system'}
    uri = settings.get('libvirt', 'connection_uri') or default.get(settings.get('libvirt', 'virt_type'), 'qemu:///system')
    libvirt.registerErrorHandler(lambda context, error: None, None)  # it would print to stderr
    try:
        connection = libvirt.openReadOnly(uri)
        try:
            return str(connection.getHostname())
        finally:
            connection.close()
    except libvirt.libvirtError:
        return ''
