# SPDX-License-Identifier: Apache-2.0
"""Read from libvirt's documents which machines QEMU offers on this host."""

from __future__ import annotations

import functools
import itertools
import os
import re
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence

from nova_migcheck.machine import guest

_USERFAULTFD = '/proc/sys/vm/unprivileged_userfaultfd'
_DEVICE = '/dev/userfaultfd'
_CPUINFO = '/proc/cpuinfo'
_CGROUP_2 = '/sys/fs/cgroup/cgroup.controllers'

# Where distributions have QEMU. Of these, libvirt is asked which are there: an emulator that is
# none of them says nothing about a target.
EMULATORS = ('/usr/bin/qemu-system-{arch}', '/usr/libexec/qemu-kvm', '/usr/bin/kvm')

# The aliases of the machine types whose devices are asked for.
_ALIASES = {'x86_64': ('pc', 'q35'), 'i686': ('pc', 'q35'), 'aarch64': ('virt',)}


def dotted(number: int) -> str:
    """Return a version as libvirt gives it: ``7.2.22`` of 7002022."""
    return f'{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}'


def types(capabilities: ElementTree.Element) -> dict[str, set[str]]:
    """Return architecture -> the names of its machine types, aliases included."""
    found: dict[str, set[str]] = {}
    for arch in capabilities.iterfind('guest/arch'):
        names = {machine.text or '' for machine in arch.iterfind('.//machine')}
        found.setdefault(arch.get('name', ''), set()).update(names - {''})
    return found


def host_uuid(capabilities: ElementTree.Element) -> str:
    """Return the host UUID by which libvirt tells hosts apart, in lower case."""
    return (capabilities.findtext('host/uuid') or '').strip().lower()


def aliases(arch: str) -> Sequence[Optional[str]]:
    """Return the machine types to ask for; None is libvirt's default."""
    return _ALIASES.get(arch, (None,))


def devices(documents: Iterable[ElementTree.Element]) -> dict[str, dict[str, str]]:
    """Return family of machine types -> list -> what it names, from domain capabilities.

    A list that is not there is left out. A device that is not supported has empty lists.
    """
    found = {}
    for document in documents:
        family = guest.family(document.findtext('machine') or '')
        found[family] = {name: ' '.join(values) for name, values in _lists(document)}
    return found


def _lists(document: ElementTree.Element) -> Iterator[tuple[str, list[str]]]:
    for device in guest.DEVICES:
        element = document.find(f'devices/{device.element}')
        if element is None:
            continue
        values = element.find(f"enum[@name='{device.enum}']")
        if values is not None:
            yield device.name, [value.text or '' for value in values.iterfind('value')]
        elif element.get('supported') == 'no':
            yield device.name, []
    loader = document.find('os/loader')
    if loader is not None:
        yield 'loader', [(value.text or '').strip() for value in loader.iterfind('value')]
        secure = loader.find("enum[@name='secure']")
        if secure is not None:
            yield 'secure', [value.text or '' for value in secure.iterfind('value')]


def qemu_user(capabilities: ElementTree.Element) -> Optional[tuple[int, int]]:
    """Return the numbers of the user and the group as which libvirt starts QEMU, if it says so."""
    for model in capabilities.iterfind('host/secmodel'):
        if model.findtext('model') == 'dac':
            match = re.match(r'\+(\d+):\+(\d+)$', model.findtext('baselabel') or '')
            return (int(match[1]), int(match[2])) if match else None
    return None


def no_userfaultfd(user: Optional[int], setting: str = _USERFAULTFD, device: str = _DEVICE) -> str:
    """Return why QEMU may not use userfaultfd, which post-copy needs, '' if it may or who knows.

    :param user: number of QEMU's user
    :param setting: file of the sysctl
    :param device: that gives it to whoever may open it
    """
    if not user:
        return ''
    try:
        with open(setting, encoding='ascii') as file:
            value = file.read().strip()
    except (OSError, ValueError):
        return ''
    if value != '0':
        return ''
    try:
        status = os.stat(device)
    except OSError:
        pass
    else:
        # Its group may be QEMU's, and an ACL may name its user.
        if status.st_mode & 0o060 or status.st_mode & 0o006 or status.st_uid == user:
            return ''
    return f'vm.unprivileged_userfaultfd = 0, and QEMU runs as user {user}'


@functools.lru_cache(maxsize=1)
def has_pku(path: str = _CPUINFO) -> bool:
    """Return whether the CPU of this host has ``pku``. It is read once."""
    try:
        with open(path, encoding='ascii', errors='replace') as file:
            # One CPU is enough: the kernel asks each one for its frequency, which takes long.
            flags = next((line for line in itertools.islice(file, 40)
                          if line.startswith('flags')), '')
    except OSError:
        return False
    return 'pku' in flags.split()


def cgroup() -> int:
    """Return the version of the cgroups that guests are put in."""
    return 2 if os.path.exists(_CGROUP_2) else 1


def fact(capabilities: ElementTree.Element, devices: Mapping[str, Any],
         versions: Mapping[str, str], emulators: Mapping[str, bool], post_copy: bool
         ) -> dict[str, Any]:
    """Return what a host publishes about its machines.

    :param devices: from :func:`devices`
    :param versions: ``qemu``, ``libvirt`` and ``kernel``
    :param emulators: path -> whether libvirt can use it
    :param post_copy: whether nova.conf permits migrations from here to switch to post-copy
    """
    user = qemu_user(capabilities)
    cannot = no_userfaultfd(user[0] if user else None)
    return {
        **versions, 'devices': devices, 'machine_types': {
            arch: guest.fold(names) for arch, names in types(capabilities).items()},
        'emulators': ' '.join(path for path, usable in emulators.items() if usable),
        'no_emulators': ' '.join(path for path, usable in emulators.items() if not usable),
        'cgroup': cgroup(), 'uuid': host_uuid(capabilities),
        **({'post_copy': True} if post_copy else {}),
        **({'no_userfaultfd': cannot} if cannot else {})}
