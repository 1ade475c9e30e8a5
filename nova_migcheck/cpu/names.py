# SPDX-License-Identifier: Apache-2.0
"""Map each CPU feature to one name, and each name to the releases of libvirt that know it."""

from __future__ import annotations

import hashlib
from typing import Iterable, Optional

from nova_migcheck.cpu.releases import RELEASES

# Other spellings -> libvirt's present name. QEMU's and Linux's spellings are those that libvirt's
# cpu_map lists as aliases; arch-facilities was libvirt's first name of arch-capabilities.
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
    'vmx-invept-single-context-noglobals': 'vmx-invvpid-single-context-noglobals',
    'xd': 'nx',
}


#: The bits of Intel's register IA32_ARCH_CAPABILITIES, and the feature that announces it.
ARCH_CAPABILITIES = frozenset("""
    arch-capabilities fb-clear fbsdp-no gds-no ibrs-all its-no mds-no pbrsb-no pschange-mc-no
    psdp-no rdctl-no rfds-clear rfds-no rsba sbdr-ssdp-no skip-l1dfl-vmentry ssb-no taa-no tsx-ctrl
""".split())

# The features of VMX have names since 9.10.0 (libvirt's release notes, 10.2.0). The first of
# RELEASES that has them is 11.3.0.
_VMX, _VMX_SINCE, _VMX_FIRST = 'vmx-', 9_010_000, 11_003_000
# The features that 7.0.0, the oldest of RELEASES, knows and 6.0.0 does not.
_SINCE_7_0 = frozenset("""
    amd-no-ssb amd-stibp avx512-bf16 cldemote clzero core-capability decodeassists flushbyasid fsrm
    ibs lbrv mds-no movdir64b movdiri pause-filter pfthreshold pschange-mc-no rsba split-lock-detect
    svm-lock taa-no tsc-scale tsx-ctrl vmcb-clean waitpkg xsaveerptr
""".split())


def canonical(names: Iterable[str]) -> frozenset[str]:
    """Translate ``names`` to libvirt's present names."""
    return frozenset(ALIASES.get(name, name) for name in names)


def digest(models: Iterable[str], features: Iterable[str]) -> str:
    """Return 12 hexadecimal digits, the same for two libvirts that know the same names."""
    text = f'{" ".join(sorted(models))}\n{" ".join(sorted(features))}'
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _cumulate() -> tuple[dict[str, int], dict[str, tuple[int, frozenset[str]]], frozenset[str]]:
    since: dict[str, int] = {}
    by_digest: dict[str, tuple[int, frozenset[str]]] = {}
    for version, its_digest, models, features in RELEASES:
        since.update(dict.fromkeys(canonical([*models.split(), *features.split()]), version))
        by_digest.setdefault(its_digest, (version, frozenset(since)))
    everywhere = next(iter(by_digest.values()))[1]
    since.update(dict.fromkeys(everywhere - _SINCE_7_0, 6_000_000))
    since.update({name: _VMX_SINCE for name, first in since.items()
                  if name.startswith(_VMX) and first == _VMX_FIRST})
    return since, by_digest, everywhere


# Name -> first of RELEASES that knows it; digest -> (first of RELEASES with it, its names); the
# names that each of RELEASES knows.
_SINCE, _BY_DIGEST, _EVERYWHERE = _cumulate()


def beyond(names: Iterable[str]) -> frozenset[str]:
    """Return those of ``names`` that the oldest of :data:`RELEASES` does not know."""
    return canonical(names) - _EVERYWHERE


def _exactly(libvirt: Optional[int], cpu_map: Optional[str]) -> Optional[frozenset[str]]:
    first, known = _BY_DIGEST.get(cpu_map or '', (0, None))
    # After an upgrade the files are newer than the libvirt that still runs.
    return known if libvirt is not None and libvirt >= first else None


def knows(libvirt: Optional[int], cpu_map: Optional[str], name: str,
          named_by: Optional[int]) -> Optional[bool]:
    """Return whether a libvirt knows a name of an x86 CPU model or feature.

    A libvirt with the digest of one of :data:`RELEASES` knows exactly the names of that release.
    Otherwise it knows at least those of its version. It may know more, because distributions take
    names from later releases.

    :param libvirt: its version, None if unknown
    :param cpu_map: the :func:`digest` of what it knows, None if unknown
    :param named_by: version of the libvirt that used the name. Any later one knows it too, because
        libvirt never removes a name
    :returns: None if it cannot be determined
    """
    exact = _exactly(libvirt, cpu_map)
    if exact is not None:
        return name in exact
    if libvirt is None:
        return None
    if named_by is not None and libvirt >= named_by:
        return True
    since = _SINCE.get(name)
    return True if since is not None and libvirt >= since else None


def is_listed(name: str) -> bool:
    """Return whether one of :data:`RELEASES` knows a name."""
    return name in _SINCE


def known_with(models: Iterable[str]) -> dict[int, frozenset[str]]:
    """Return which of :data:`RELEASES` may offer these models, and all names that each knows.

    libvirt offers the models that it knows and QEMU has. Every QEMU since 6.0 has EPYC-Milan, and
    the first version (-v1) of each model. Nothing can be derived for a host with an older QEMU. Of
    releases that know the same names, only the first is returned.
    """
    offered = frozenset(models)
    releases = {}
    for version, known in _BY_DIGEST.values() if beyond(offered) else ():
        first_versions = {name for name in known if name.endswith('-v1') and name[:-3] in offered}
        if offered <= known and first_versions <= offered:
            releases[version] = known
    return releases


def version_text(libvirt: Optional[int]) -> str:
    """Return ``9.0.0`` for 9000000."""
    if libvirt is None:
        return 'of unknown version'
    return f'{libvirt // 1_000_000}.{libvirt // 1000 % 1000}.{libvirt % 1000}'
