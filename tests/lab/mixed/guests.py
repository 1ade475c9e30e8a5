# SPDX-License-Identifier: Apache-2.0
"""The guests that migrate: each has a CPU definition as Nova writes it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Iterator, Sequence

VIRTS = ('qemu', 'kvm')

_DOMAIN = """
<domain type='{virt}'>
  <name>guest</name><memory unit='MiB'>16</memory><vcpu>{cores}</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/></features>
  {cpu}
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='none'/>
  </devices>
</domain>
"""
# QEMU cannot start a guest with it under the nested KVM of some machines.
_NEVER_WITH_KVM = 'arch-capabilities'
_INCOMPATIBLE = 91  # libvirt's VIR_ERR_CPU_INCOMPATIBLE
_LACKING = re.compile(r'does not provide required features: ([\w., +-]+)')

_PLAIN = ('qemu64', 'kvm64', 'pentium3', 'core2duo', 'Penryn', 'Nehalem', 'Westmere', 'Opteron_G3')
# No emulation has all of them: what the source lacks is switched off, as an operator does by
# cpu_model_extra_flags.
_FITTED = ('SandyBridge', 'IvyBridge-IBRS', 'Haswell-noTSX', 'Broadwell-noTSX-IBRS',
           'Skylake-Client-noTSX-IBRS', 'Skylake-Server-noTSX-IBRS', 'Cascadelake-Server-noTSX',
           'Icelake-Server-noTSX', 'Snowridge', 'Opteron_G5', 'EPYC', 'EPYC-IBPB', 'EPYC-Rome',
           'EPYC-Milan', 'Dhyana')
# Models that libvirt 9.0 does not know.
_NEWER = ('SapphireRapids', 'GraniteRapids', 'SierraForest', 'EPYC-Genoa', 'Nehalem-v1',
          'Haswell-v4', 'Skylake-Server-v4', 'Cascadelake-Server-v5', 'EPYC-v1', 'EPYC-v4',
          'EPYC-Rome-v4', 'EPYC-Milan-v2')
# Features that it does not know. TCG emulates the first, KVM gives the second to guests of many an
# AMD, the third stands in all models of a Skylake-Server, switched off unless guests may be nested.
_NEWER_NAMES = ('cmpccxadd', 'null-sel-clr-base', 'vmx-ins-outs')


@dataclasses.dataclass(frozen=True)
class Guest:
    """One guest.

    :param name: what the table calls it
    :param mode: of its CPU; '' for a domain that says nothing of it
    :param features: (name, policy) of each that is added to its model
    :param fitted: whether what the source lacks is switched off
    :param match: how a definition by a model is to be matched
    :param cores: in its one package
    """

    name: str
    mode: str = 'custom'
    model: str = ''
    features: tuple[tuple[str, str], ...] = ()
    fitted: bool = False
    match: str = 'exact'
    cores: int = 1
    virts: Sequence[str] = VIRTS

    def start(self, conn: Any, virt: str, machine: str) -> Any:
        """Start it, diskless: its firmware finds nothing to boot, and idles.

        :raises libvirt.libvirtError: when libvirt refuses it
        """
        import libvirt
        features = dict(self.features)
        if virt == 'kvm' and self.mode.startswith('host-'):
            features[_NEVER_WITH_KVM] = 'disable'
        while True:
            domain = _DOMAIN.format(virt=virt, machine=machine, cores=self.cores,
                                    cpu=self._cpu(features))
            try:
                return conn.createXML(domain)
            except libvirt.libvirtError as error:
                lacking = _LACKING.search(str(error))
                if (not self.fitted or error.get_error_code() != _INCOMPATIBLE or lacking is None
                        or lacking[1] in features):
                    raise
                features.update(dict.fromkeys(lacking[1].split(', '), 'disable'))

    def _cpu(self, features: dict[str, str]) -> str:
        if not self.mode:
            return ''
        model = f"<model fallback='forbid'>{self.model}</model>" if self.model else ''
        changes = ''.join(f"<feature policy='{policy}' name='{name}'/>"
                          for name, policy in features.items())
        match = f" match='{self.match}'" if self.mode == 'custom' else ''
        topology = f"<topology sockets='1' cores='{self.cores}' threads='1'/>"
        return f"<cpu mode='{self.mode}'{match}>{model}{topology}{changes}</cpu>"


def guests() -> Iterator[Guest]:
    """All of them."""
    yield Guest('no cpu element', mode='')
    yield Guest('host-model', 'host-model')
    yield Guest('host-model, avx2 off', 'host-model', features=(('avx2', 'disable'),))
    yield Guest('host-passthrough', 'host-passthrough', virts=('kvm',))
    yield Guest('maximum', 'maximum', virts=('qemu',))
    for model in _PLAIN:
        yield Guest(model, model=model)
    for name, policy in (('aes', 'require'), ('sse4.2', 'disable'), ('avx512f', 'optional'),
                         ('svm', 'forbid'), ('sse4.2', 'forbid')):
        yield Guest(f'Nehalem, {name} {policy}', model='Nehalem', features=((name, policy),))
    for match in ('minimum', 'strict'):
        yield Guest(f'Nehalem, match {match}', model='Nehalem', match=match)
    for name in _NEWER_NAMES:
        for policy in ('disable', 'optional', 'require'):
            yield Guest(f'Nehalem, {name} {policy}', model='Nehalem', features=((name, policy),))
    # QEMU since 10.0 says of them that they have ht.
    yield Guest('host-model, 2 cores', 'host-model', cores=2)
    yield Guest('Nehalem, 2 cores', model='Nehalem', cores=2)
    yield Guest('Nehalem, 2 cores, ht require', model='Nehalem', cores=2,
                features=(('ht', 'require'),))
    for model in (*_FITTED, *_NEWER):
        yield Guest(model, model=model, fitted=True)
