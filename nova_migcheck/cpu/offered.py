# SPDX-License-Identifier: Apache-2.0
"""What a host's domain capabilities say themselves of a guest: of its CPU model, and of its names."""

from __future__ import annotations

from typing import Optional

from nova_migcheck.cpu import COMPATIBLE, INCOMPATIBLE, UNKNOWN, Comparison, lacks, naming
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu.models import CpuMap
from nova_migcheck.cpu.xml import Definition


def model(guest: Definition, host: Definition, cpu_map: CpuMap) -> Optional[Comparison]:
    """Compare by what the domain capabilities say of the guest's model, None where that does not decide.

    A model that they do not offer no guest can have there ("CPU model NAME is not supported by
    hypervisor"), unless libvirt may take another in its place. Of a guest that runs they tell no more:
    its definition says what it has. Of one that was asked for they do, and libvirt since 10.10 takes
    QEMU's word (src/qemu/qemu_domain.c, qemuDomainCheckCPU). A model that is usable is accepted,
    as long as features are only taken from it; libvirt 9.0 does not say so when it is asked, and
    starts such guests all the same. Of a model about which libvirt's CPU map does not decide, what
    blocks it must be taken from it.

    :raises UnknownModel: when it must be known what the host provides, and ``cpu_map`` does not tell
    """
    if not host.models or guest.model is None or (guest.document in ('cpu', 'domain') and guest.mode != 'custom'):
        return None
    found = next((one for one in host.models if one.name == guest.model), None)
    if found is None:
        if guest.fallback and not guest.live:  # libvirt takes the next best
            return None
        return Comparison(INCOMPATIBLE, reason=f'does not offer CPU model {guest.model}: its libvirt or its QEMU does not know it')
    if guest.live or guest.document not in ('cpu', 'domain'):
        return None
    usable = found.usable == 'yes'
    if usable and all(policy == 'disable' for _name, policy in guest.features):
        return Comparison(COMPATIBLE, reason=f'its domain capabilities call CPU model {guest.model} usable')
    if not (usable or found.blockers) or cpu_map.decides(guest.model, host.arch or 'x86_64'):
        return None
    required = guest.named('require')
    provided = cpuguest.host_features(host, cpu_map.expand) if required else frozenset[str]()
    missing = tuple(sorted((found.blockers - guest.named('disable')) | (required - provided)))
    if not missing:
        return Comparison(COMPATIBLE)
    said = f'{lacks(missing)}, as its domain capabilities say of CPU model {guest.model}' if found.blockers else lacks(missing)
    return Comparison(INCOMPATIBLE, missing, said)


def names(guest: Definition, host: Definition, cpu_map: CpuMap) -> Optional[Comparison]:
    """Compare the names in the guest's definition with what the host's libvirt knows, None where nothing is wrong or known.

    Domain capabilities do not tell libvirt's version, but the models that it offers are those of some
    releases only.
    """
    known = cpunames.known_with([one.name for one in host.models])
    if not known:
        return None
    # A running guest does not say for what it was asked.
    asked = None if guest.live else lambda: guest.named(*(policy for _, policy in guest.features))
    said = cpunames.canonical(name for name, _ in host.features) | {one.name for one in host.models}
    spelled = cpuguest.spelled(guest, cpu_map.expand, asked=asked) - said
    for outcome, unknown in ((INCOMPATIBLE, spelled - frozenset[str]().union(*known.values())),
                             (UNKNOWN, spelled - frozenset.intersection(*known.values()))):
        if unknown:
            verb = 'has a libvirt that does not know' if outcome == INCOMPATIBLE else 'does not say whether its libvirt knows'
            like = ' or '.join(cpunames.version_text(version) for version in known)
            return Comparison(outcome, reason=f'{verb} {naming(unknown, guest.model)} of the guest: '
                                              f'the CPU models that it offers are those of libvirt {like}')
    return None
