# SPDX-License-Identifier: Apache-2.0
"""Ask libvirt for its name of this host, which QEMU uses if no migration address is set."""

from __future__ import annotations

from typing import Any

from nova_migcheck.checksettings import Settings


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
