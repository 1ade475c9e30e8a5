# SPDX-License-Identifier: Apache-2.0
"""Derive from a CPU definition the features that a guest uses, or that a host provides.

A definition is a model and changes to it. An *expand* function, ``expand(model, arch) -> names``,
returns the features of a model and raises :class:`UnknownModel`:
:meth:`nova_migcheck.cpu.models.CpuMap.expand` reads libvirt's files,
:func:`nova_migcheck.cpu.hypervisor.expander` asks a libvirtd.
"""

from __future__ import annotations

import contextlib
import re
from typing import Callable, Optional

from nova_migcheck.cpu import X86, Cpu
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu.xml import HOSTS_OWN, Definition, Undefined

Expand = Callable[[str, str], frozenset[str]]
#: Model -> the features that were added after its release, None if unknown:
#: :meth:`nova_migcheck.cpu.models.CpuMap.added`
Added = Callable[[str], Optional[frozenset[str]]]
#: Returns the features in the definition with which a guest was started.
Asked = Callable[[], frozenset[str]]

#: A guest with the host's CPU gets these only if its definition requires them by name: QEMU leaves
#: out what it cannot migrate (its CPU property ``migratable``), although the domain capabilities
#: list it.
NOT_BY_DEFAULT = frozenset({'invtsc'})

#: KVM gives these to any guest on any host: QEMU's kvm_arch_get_supported_cpuid() adds topoext, but
#: never enables it for ``-cpu host``, from which libvirt learns what the host can do. So every
#: running EPYC host-model guest "lacks" it on its own host by libvirt's comparison, and migrates
#: without a problem.
ALWAYS_FROM_KVM = frozenset({'topoext'})

#: The end of the name of a version of a model.
VERSIONED = re.compile(r'-v[0-9]+$')


class UnknownModel(LookupError):
    """Raised for a CPU model that this libvirt does not know."""


def guest_features(definition: Definition, expand: Expand) -> frozenset[str]:
    """Return the features that the target must provide for a guest.

    These are the model's and the required ones, without disabled, optional and forced ones. QEMU
    emulates forced ones. Optional ones that are in use are required in a live XML.

    :raises Undefined: if the definition takes the CPU of a host
    :raises UnknownModel: from ``expand``
    """
    if definition.takes_hosts_cpu:
        raise Undefined(f'a definition with mode {definition.mode} does not show which features '
                        'the guest has: use the XML of the running guest, or the domain '
                        'capabilities of the host that it runs on')
    if (definition.model is None and definition.document in ('domain', 'cpu')
            and not definition.features):
        raise Undefined('the definition names no model: use the XML of the running guest')
    return ((_model(definition, expand) | definition.named('require'))
            - definition.named('disable', 'optional', 'force'))


def host_features(definition: Definition, expand: Expand) -> frozenset[str]:
    """Return the features that a host with this definition provides.

    :raises Undefined: if the definition takes the CPU of another host
    :raises UnknownModel: from ``expand``
    """
    if definition.takes_hosts_cpu:
        raise Undefined(f'a definition with mode {definition.mode} does not describe a host')
    if definition.model is None:
        raise Undefined('the definition names no model')
    return ((_model(definition, expand) | definition.named('require', 'force'))
            - definition.named('disable', 'forbid'))


def passthrough_features(definition: Definition, host: frozenset[str]) -> frozenset[str]:
    """Return the features of a guest that takes the CPU of its host (host-passthrough, maximum).

    :param host: the features that the host provides
    """
    given = host - NOT_BY_DEFAULT if definition.migratable else host
    return (given | definition.named('require')) - definition.named('disable', 'forbid')


def spelled(definition: Definition, expand: Expand, added: Optional[Added] = None,
            asked: Optional[Asked] = None) -> frozenset[str]:
    """Return the names in a definition that not every libvirt knows, with any policy.

    They are the model and features. They travel with the guest, and the target's libvirt must know
    them. Two kinds of features are left out:

    - Those that belong to the model. A libvirt that knows the model knows them: from release to
      release, nothing is added to a model without a mark.
    - Those that were added to the model later. libvirt does not send them, unless the guest was
      requested with them (see :meth:`nova_migcheck.cpu.models.CpuMap.added`).

    :param added: without it, all features of VMX count as added to a model without ``-vN``. Up to
        libvirt 12.9 nothing else was added.
    :param asked: called only if it matters. Without it, the guest was requested with none of the
        features that were added.
    """
    names = cpunames.beyond(name for name, _policy in definition.features)
    whole = definition.mode == 'custom' or definition.document == 'domainCapabilities'
    if definition.model is None or not whole:
        return names
    if names:
        later = _added(definition.model, names, added)
        kept = later & asked() if later and asked is not None else frozenset[str]()
        with contextlib.suppress(UnknownModel):  # then it is unknown what belongs to it
            names -= _model(definition, expand)
        names = (names - later) | kept
    return names | cpunames.beyond([definition.model])


def _added(model: str, names: frozenset[str], added: Optional[Added]) -> frozenset[str]:
    """Return those of ``names`` that were added to a model."""
    listed = added(model) if added is not None else None
    if listed is not None:
        return names & listed
    if VERSIONED.search(model):
        return frozenset()
    return frozenset(name for name in names if name.startswith('vmx-'))


def guest(definition: Definition, expand: Expand, own_host: Optional[Cpu] = None,
          libvirt: Optional[int] = None, added: Optional[Added] = None,
          asked: Optional[Asked] = None) -> Cpu:
    """Return the CPU of a running guest.

    :param own_host: the host that it runs on. A host-passthrough guest has its features. A guest
        that libvirt did not verify (``check='none'``) has no others, because QEMU silently leaves
        out what the host lacks
    :param libvirt: version of the libvirt that wrote the definition
    :param added: as for :func:`spelled`
    :param asked: as for :func:`spelled`
    :raises Undefined: if the definition takes the CPU of its host, and that is not given
    :raises UnknownModel: from ``expand``
    """
    arch = definition.arch or (own_host.arch if own_host else 'x86_64')
    virt = definition.virt or (own_host.virt if own_host else 'kvm')
    vendor, model = definition.vendor, definition.model
    if definition.mode in HOSTS_OWN and own_host is not None:
        features = passthrough_features(definition, own_host.features)
        vendor, model = own_host.vendor, own_host.model
    else:
        features = guest_features(definition, expand)
        if definition.document in ('domainCapabilities', 'capabilities'):
            features -= NOT_BY_DEFAULT
        elif definition.check == 'none' and own_host is not None:
            features &= own_host.features | definition.named('require')
    at_most = None
    forbids = definition.named('forbid') if definition.mode == 'custom' else frozenset[str]()
    if definition.document == 'domain':
        # The guest runs: libvirt switched off what the definition forbids, even if the model has
        # it. What a host must not have was looked at when the guest started. libvirt does not look
        # at it in a migration (./run mixed forbid strict).
        forbids = frozenset()
        features -= definition.named('forbid') | (ALWAYS_FROM_KVM if virt == 'kvm' else frozenset())
    elif definition.match == 'strict':
        at_most = features | definition.named('optional', 'disable', 'force')
    return Cpu(arch=arch, virt=virt, vendor=vendor, model=model, features=features,
               libvirt=libvirt, at_most=at_most, forbids=forbids,
               tsc_hz=_needed_tsc(definition, virt, features, own_host),
               spelled=spelled(definition, expand, added, asked) if arch in X86 else frozenset())


def host(definition: Definition, expand: Expand, libvirt: Optional[int] = None) -> Cpu:
    """Return the CPU that a host with this definition provides.

    :raises Undefined: if the definition takes the CPU of another host
    :raises UnknownModel: from ``expand``
    """
    return Cpu(arch=definition.arch or 'x86_64', virt=definition.virt or 'kvm',
               vendor=definition.vendor, model=definition.model,
               features=host_features(definition, expand), libvirt=libvirt,
               tsc_hz=definition.tsc_hz, tsc_scaling=definition.tsc_scaling)


def _model(definition: Definition, expand: Expand) -> frozenset[str]:
    if definition.model is None:
        return frozenset()
    return cpunames.canonical(expand(definition.model, definition.arch or 'x86_64'))


def _needed_tsc(definition: Definition, virt: str, features: frozenset[str],
                own_host: Optional[Cpu]) -> Optional[int]:
    # Under TCG, QEMU emulates the TSC on every host.
    if virt != 'kvm' or definition.document != 'domain':
        return None
    if definition.tsc_hz is not None:
        return definition.tsc_hz
    return own_host.tsc_hz if own_host is not None and 'invtsc' in features else None
