# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: SIM905 (two hundred names read better as text)
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
    'vmx-invept-single-context-noglobals': 'vmx-invvpid-single-context-noglobals',
    'xd': 'nx',
}


#: The bits of Intel's register IA32_ARCH_CAPABILITIES, and the feature that announces it.
ARCH_CAPABILITIES = frozenset("""
    arch-capabilities fb-clear fbsdp-no gds-no ibrs-all its-no mds-no pbrsb-no pschange-mc-no psdp-no rdctl-no
    rfds-clear rfds-no rsba sbdr-ssdp-no skip-l1dfl-vmentry ssb-no taa-no tsx-ctrl
""".split())

# The names of x86 features that every libvirt from 6.0.0 knows.
_SINCE_6_0 = frozenset("""
    3dnow 3dnowext 3dnowprefetch abm acpi adx aes amd-ssbd apic arat arch-capabilities avx avx2 avx512-4fmaps
    avx512-4vnniw avx512-vpopcntdq avx512bitalg avx512bw avx512cd avx512dq avx512er avx512f avx512ifma avx512pf
    avx512vbmi avx512vbmi2 avx512vl avx512vnni bmi1 bmi2 cid clflush clflushopt clwb cmov cmp_legacy cmt cr8legacy
    cvt16 cx16 cx8 dca de ds ds_cpl dtes64 erms est extapic f16c fma fma4 fpu fsgsbase fxsr fxsr_opt gfni hle ht
    hypervisor ia64 ibpb ibrs-all intel-pt invpcid invtsc la57 lahf_lm lm lwp mbm_local mbm_total mca mce md-clear
    misalignsse mmx mmxext monitor movbe mpx msr mtrr nodeid_msr npt nrip-save nx ospke osvw osxsave pae pat pbe pcid
    pclmuldq pcommit pconfig pdcm pdpe1gb perfctr_core perfctr_nb pge pku pn pni popcnt pse pse36 rdctl-no rdpid
    rdrand rdseed rdtscp rtm sep sha-ni skinit skip-l1dfl-vmentry smap smep smx spec-ctrl ss ssb-no ssbd sse sse2
    sse4.1 sse4.2 sse4a ssse3 stibp svm syscall tbm tce tm tm2 topoext tsc tsc-deadline tsc_adjust umip vaes virt-ssbd
    vme vmx vpclmulqdq wbnoinvd wdt x2apic xgetbv1 xop xsave xsavec xsaveopt xsaves xtpr
""".split())

# Those that libvirt 9.0.0 knows too. Some are older, by a release or twenty: taken for unknown to an older libvirt they
# make a verdict unknown where it could have been incompatible, which is the harmless side.
_SINCE_9_0 = frozenset("""
    amd-no-ssb amd-stibp amx-bf16 amx-int8 amx-tile arch-lbr avic avx-vnni avx512-bf16 avx512-fp16 avx512-vp2intersect
    bus-lock-detect cldemote clzero core-capability decodeassists flushbyasid fsrm ibrs ibs intel-pt-lip lbrv mds-no
    movdir64b movdiri pause-filter pfthreshold pks pschange-mc-no rsba serialize sgx sgx-debug sgx-exinfo sgx-kss
    sgx-mode64 sgx-provisionkey sgx-tokenkey sgx1 sgx2 sgxlc split-lock-detect svm-lock svme-addr-chk taa-no tsc-scale
    tsx-ctrl tsx-ldtrk v-vmsave-vmload vgif vmcb-clean waitpkg xfd xsaveerptr
""".split())

# libvirt's release notes (10.2.0): the features of VMX have names since 9.10.0.
_VMX, _VMX_SINCE = 'vmx-', 9_010_000


def canonical(names: Iterable[str]) -> frozenset[str]:
    """``names`` by libvirt's present names."""
    return frozenset(ALIASES.get(name, name) for name in names)


def known_to(libvirt: int, name: str, described_by: Optional[int]) -> bool:
    """Whether a libvirt of version ``libvirt`` has a name for an x86 feature which version ``described_by`` named.

    libvirt never forgets a name, so one as new as that which named it knows it. Names newer than this table are taken
    for known only to that.
    """
    if described_by is not None and libvirt >= described_by:
        return True
    if name.startswith(_VMX):
        return libvirt >= _VMX_SINCE
    return name in _SINCE_6_0 or (libvirt >= 9_000_000 and name in _SINCE_9_0)


def version_text(libvirt: Optional[int]) -> str:
    """``9.0.0`` for 9000000."""
    if libvirt is None:
        return 'of unknown version'
    return f'{libvirt // 1_000_000}.{libvirt // 1000 % 1000}.{libvirt % 1000}'
