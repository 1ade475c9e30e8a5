# SPDX-License-Identifier: Apache-2.0
"""Names of CPU features: one name for each feature, and which libvirt knew which name."""

from __future__ import annotations

from typing import Iterable, Optional

# Other spellings -> libvirt's present name. QEMU's and Linux's spellings are those that libvirt's cpu_map lists as
# aliases; arch-facilities was libvirt's first name of arch-capabilities.
ALIASES = {
    'arch-facilities': 'arch-capabilities',
    'arch_capabilities': 'arch-capabilities',
    'cmp-legacy': 'cmp_legacy',
    'cqm': 'cmt',
    'ds-cpl': 'ds_cpl',
    'ffxsr': 'fxsr_opt',
    'fxsr-opt': 'fxsr_opt',
    'i64': 'lm',
    'lahf-lm': 'lahf_lm',
    'md_clear': 'md-clear',
    'nodeid-msr': 'nodeid_msr',
    'nrip_save': 'nrip-save',
    'pause_filter': 'pause-filter',
    'pclmulqdq': 'pclmuldq',
    'perfctr-core': 'perfctr_core',
    'perfctr-nb': 'perfctr_nb',
    'sse3': 'pni',
    'sse4-1': 'sse4.1',
    'sse4_1': 'sse4.1',
    'sse4-2': 'sse4.2',
    'sse4_2': 'sse4.2',
    'svm_lock': 'svm-lock',
    'tsc-adjust': 'tsc_adjust',
    'tsc_scale': 'tsc-scale',
    'vmcb_clean': 'vmcb-clean',
    'xd': 'nx',
}


def canonical(names: Iterable[str]) -> frozenset[str]:
    """``names`` by libvirt's present names."""
    return frozenset(ALIASES.get(name, name) for name in names)


def not_known_to(libvirt: Optional[int], names: frozenset[str], described_by: Optional[int]) -> frozenset[str]:
    """Those of ``names`` that libvirt version ``libvirt`` cannot have named, although the CPU may have the feature.

    libvirt never forgets a name, so a libvirt as new as ``described_by``, the one that named them, knows them all.
    """
    return frozenset()


def version_text(libvirt: Optional[int]) -> str:
    """``9.0.0`` for 9000000."""
    if libvirt is None:
        return 'of unknown version'
    return f'{libvirt // 1_000_000}.{libvirt // 1000 % 1000}.{libvirt % 1000}'
