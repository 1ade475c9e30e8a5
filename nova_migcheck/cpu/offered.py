# SPDX-License-Identifier: Apache-2.0
"""Compare a guest with the models and names in a host's domain capabilities."""

from __future__ import annotations

from typing import Optional

from nova_migcheck import wording
from nova_migcheck.cpu import COMPATIBLE, INCOMPATIBLE, UNKNOWN, Comparison, lacks, naming
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu.models import CpuMap
from nova_migcheck.cpu.xml import Definition


def model(guest: Definition, host: Definition, cpu_map: CpuMap) -> Optional[Comparison]:
    """Compare according to what the domain capabilities report about the guest's model.

    No guest can have a model that they do not offer ("CPU model NAME is not supported by
    hypervisor"), unless libvirt may use another one instead. Nothing else is compared for a running
    guest, because its definition lists what it has. For other definitions, the domain capabilities
    say whether QEMU can provide all of the model:

    - A usable model is accepted if the definition only disables features of it. libvirt accepts it
      since 10.10 (src/qemu/qemu_domain.c, qemuDomainCheckCPU). libvirt 9.0 does not when it is
      asked, but starts such guests.
    - If libvirt's CPU map does not decide about the model, the definition must disable each of the
      features that block it.

    :returns: None if the domain capabilities do not decide
    :raises UnknownModel: if ``cpu_map`` does not know the model of the host
    """
    if not host.models or guest.model is None or guest.takes_hosts_cpu:
        return None
    offer = next((one for one in host.models if one.name == guest.model), None)
    if offer is None:
        if guest.fallback and not guest.live:
            return None
        return Comparison(INCOMPATIBLE, reason=f'does not offer CPU model {guest.model}: its '
                                               'libvirt or its QEMU does not know it')
    if guest.live or guest.document not in ('cpu', 'domain'):
        return None
    usable = offer.usable == 'yes'
    if usable and all(policy == 'disable' for _name, policy in guest.features):
        reason = f'its domain capabilities call CPU model {guest.model} usable'
        return Comparison(COMPATIBLE, reason=reason)
    if not (usable or offer.blockers) or cpu_map.decides(guest.model, host.arch or 'x86_64'):
        return None
    required = guest.named('require')
    provided = cpuguest.host_features(host, cpu_map.expand) if required else frozenset[str]()
    missing = (offer.blockers - guest.named('disable')) | (required - provided)
    if not missing:
        return Comparison(COMPATIBLE)
    reason = lacks(sorted(missing))
    if offer.blockers:
        reason = f'{reason}, according to its domain capabilities for CPU model {guest.model}'
    return Comparison(INCOMPATIBLE, tuple(sorted(missing)), reason)


def names(guest: Definition, host: Definition, cpu_map: CpuMap) -> Optional[Comparison]:
    """Compare the names in the guest's definition with those that the host's libvirt knows.

    Domain capabilities do not contain libvirt's version, but only some releases offer their models.

    :returns: None if nothing is wrong, or nothing is known
    """
    known = cpunames.known_with([one.name for one in host.models])
    if not known:
        return None
    # The definition of a running guest does not show which features were requested.
    asked = None if guest.live else lambda: guest.all_named
    reported = host.all_named | {one.name for one in host.models}
    spelled = cpuguest.spelled(guest, cpu_map.expand, asked=asked) - reported
    like = wording.either(cpunames.version_text(version) for version in known)
    because = f'the CPU models that it offers are those of libvirt {like}'
    unknown = spelled - frozenset[str]().union(*known.values())
    if unknown:
        return Comparison(INCOMPATIBLE, reason='has a libvirt that does not know '
                          f'{naming(unknown, guest.model)} of the guest: {because}')
    doubtful = spelled - frozenset.intersection(*known.values())
    if doubtful:
        return Comparison(UNKNOWN, reason='does not report whether its libvirt knows '
                          f'{naming(doubtful, guest.model)} of the guest: {because}')
    return None
