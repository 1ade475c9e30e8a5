# SPDX-License-Identifier: Apache-2.0
"""Provide the preset dictionary of names with which a published CPU is deflated."""

# zlib's preset dictionary of format 1. It is frozen: with another one, zlib refuses the text. A new
# dictionary needs a new version of the format. A name that it lacks only takes more room.
NAMES_1 = (
    b'3dnow 3dnowext 3dnowprefetch abm acpi adx aes amd-no-ssb amd-ssbd amd-stibp amx-bf16 '
    b'amx-int8 amx-tile apic arat arch-capabilities arch-lbr avic avx avx-vnni avx2 '
    b'avx512-4fmaps avx512-4vnniw avx512-bf16 avx512-fp16 avx512-vp2intersect avx512-vpopcntdq '
    b'avx512bitalg avx512bw avx512cd avx512dq avx512er avx512f avx512ifma avx512pf avx512vbmi '
    b'avx512vbmi2 avx512vl avx512vnni bmi1 bmi2 bus-lock-detect cid cldemote clflush clflushopt '
    b'clwb clzero cmov cmp_legacy cmt core-capability cr8legacy cvt16 cx16 cx8 dca de '
    b'decodeassists ds ds_cpl dtes64 erms est extapic f16c flushbyasid fma fma4 fpu fsgsbase '
    b'fsrm fxsr fxsr_opt gfni hle ht hypervisor ia64 ibpb ibrs ibrs-all ibs intel-pt '
    b'intel-pt-lip invpcid invtsc la57 lahf_lm lbrv lm lwp mbm_local mbm_total mca mce md-clear '
    b'mds-no misalignsse mmx mmxext monitor movbe movdir64b movdiri mpx msr mtrr nodeid_msr npt '
    b'nrip-save nx ospke osvw osxsave pae pat pause-filter pbe pcid pclmuldq pcommit pconfig '
    b'pdcm pdpe1gb perfctr_core perfctr_nb pfthreshold pge pks pku pn pni popcnt pschange-mc-no '
    b'pse pse36 rdctl-no rdpid rdrand rdseed rdtscp rsba rtm sep serialize sgx sgx-debug '
    b'sgx-exinfo sgx-kss sgx-mode64 sgx-provisionkey sgx-tokenkey sgx1 sgx2 sgxlc sha-ni skinit '
    b'skip-l1dfl-vmentry smap smep smx spec-ctrl split-lock-detect ss ssb-no ssbd sse sse2 '
    b'sse4.1 sse4.2 sse4a ssse3 stibp svm svm-lock svme-addr-chk syscall taa-no tbm tce tm tm2 '
    b'topoext tsc tsc-deadline tsc-scale tsc_adjust tsx-ctrl tsx-ldtrk umip v-vmsave-vmload '
    b'vaes vgif virt-ssbd vmcb-clean vme vmx vpclmulqdq waitpkg wbnoinvd wdt x2apic xfd xgetbv1 '
    b'xop xsave xsavec xsaveerptr xsaveopt xsaves xtpr'
)
