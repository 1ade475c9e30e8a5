# SPDX-License-Identifier: Apache-2.0
"""Let a libvirt check a guest that does not start: ``domainXMLToNative``.

It is libvirt's own check of a definition, against its QEMU and this host: the machine type, the
emulator, devices, secrets, hugepages. It takes 1 ms, and creates nothing.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from nova_migcheck.cpu import xml as cpuxml

# What Nova writes anew for the target (nova/virt/libvirt/migration.py), what exists on one host
# only, and what is no matter of the target's libvirt. An interface must never be sent: libvirt 9.0
# dies of <interface type='hostdev'> in every third dry run (SIGSEGV, measured).
_DOMAIN = ('metadata', 'title', 'description', 'cputune', 'numatune', 'perf', 'seclabel',
           'resource')
_DEVICES = ('interface', 'hostdev', 'memory', 'serial', 'console', 'filesystem', 'shmem')


def portable(xml: str) -> str:
    """Return a guest's definition without what says nothing about a target.

    The CPU keeps its topology only: its features are compared elsewhere, with what is known of
    each libvirt's own comparison. A volume's login comes from the target's own connection to it.

    :param xml: migratable XML, as libvirt gives it to a target
    :raises ValueError: if it is not well-formed, or not a domain
    """
    domain = cpuxml.parse(xml)
    _remove(domain, *_DOMAIN)
    for vcpu in domain.iterfind('vcpu'):
        vcpu.attrib.pop('cpuset', None)
    for cpu in domain.iterfind('cpu'):
        cpu.attrib.clear()
        _remove(cpu, *{child.tag for child in cpu} - {'topology', 'numa'})
    if domain.find('memoryBacking/source[@type="file"]') is not None:
        _remove(domain, 'memoryBacking')
    for devices in domain.iterfind('devices'):
        _remove(devices, *_DEVICES)
        for disk in devices.iterfind('disk'):
            _without_login(disk)
        for backend in devices.iterfind('tpm/backend'):
            _remove(backend, 'encryption')
    return ElementTree.tostring(domain, encoding='unicode')


def _without_login(disk: ElementTree.Element) -> None:
    """Remove the secrets that Nova writes anew.

    Nova makes those of encryption on the target. A disk with a serial is a volume.
    """
    for element in (disk, *disk.iterfind('source')):
        _remove(element, 'encryption')
        if disk.find('serial') is not None:
            _remove(element, 'auth')


def _remove(parent: ElementTree.Element, *tags: str) -> None:
    for child in [child for child in parent if child.tag in tags]:
        parent.remove(child)


def refusal(target: Any, source: Any, xml: str) -> str:
    """Return why the target's libvirt refuses a guest, in its own words; '' if it does not.

    What the source's own libvirt refuses, too, is no difference between the two: the guest runs
    there.

    :param target: a connection, ``libvirt.virConnect``; a read-only one may not ask
    :param xml: what :func:`portable` returned
    :raises libvirt.libvirtError: if the target cannot be asked
    """
    import libvirt
    try:
        target.domainXMLToNative('qemu-argv', xml)
        return ''
    except libvirt.libvirtError as error:
        if not _is_about_guest(error):
            raise
        said = str(error)
    try:
        source.domainXMLToNative('qemu-argv', xml)
    except libvirt.libvirtError:
        return ''
    return said


def _is_about_guest(error: Any) -> bool:
    """Return whether libvirt says it of the definition, and not of a connection or a right."""
    import libvirt
    code, domain = error.get_error_code(), error.get_error_domain()
    if code == libvirt.VIR_ERR_SYSTEM_ERROR:
        return 'Cannot check QEMU binary' in str(error)
    if code == libvirt.VIR_ERR_INTERNAL_ERROR:
        return domain in (libvirt.VIR_FROM_QEMU, libvirt.VIR_FROM_DOMAIN, libvirt.VIR_FROM_SECRET)
    return code in (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_XML_ERROR,
                    libvirt.VIR_ERR_XML_DETAIL, libvirt.VIR_ERR_NO_SECRET,
                    libvirt.VIR_ERR_INVALID_SECRET)
