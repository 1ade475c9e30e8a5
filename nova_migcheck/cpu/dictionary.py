# SPDX-License-Identifier: Apache-2.0
"""The names with which a published CPU is deflated: what both sides know need not travel."""

# zlib's preset dictionary of format 1: frozen. A name that is not in it only takes more room; with another dictionary a reader would
# refuse the text (zlib checks), so a new dictionary needs a new version.
NAMES_1 = (
    b'3dnow 3dnowext 3dnowprefetch abm acpi adx aes amd-no-ssb amd-ssbd amd-stibp amx-bf16 amx-int8 amx-tile apic arat '
    b'arch-capabilities arch-lbr avic avx avx-vnni avx2 avx512-4fmaps avx512-4vnniw avx512-bf16 avx512-fp16 '
    b'avx512-vp2intersect avx512-vpopcntdq avx512bitalg avx512bw avx512cd avx512dq avx512er avx512f avx512ifma avx512pf '
    b'avx512vbmi avx512vbmi2 avx512vl avx512vnni bmi1 bmi2 bus-lock-detect cid cldemote clflush clflushopt clwb clzero cmov '
    b'cmp_legacy cmt core-capability cr8legacy cvt16 cx16 cx8 dca de decodeassists ds ds_cpl dtes64 erms est extapic f16c '
    b'flushbyasid fma fma4 fpu fsgsbase fsrm fxsr fxsr_opt gfni hle ht hypervisor ia64 ibpb ibrs ibrs-all ibs intel-pt '
    b'intel-pt-lip invpcid invtsc la57 lahf_lm lbrv lm lwp mbm_local mbm_total mca mce md-clear mds-no misalignsse mmx mmxext '
    b'monitor movbe movdir64b movdiri mpx msr mtrr nodeid_msr npt nrip-save nx ospke osvw osxsave pae pat pause-filter pbe '
    b'pcid pclmuldq pcommit pconfig pdcm pdpe1gb perfctr_core perfctr_nb pfthreshold pge pks pku pn pni popcnt pschange-mc-no '
    b'pse pse36 rdctl-no rdpid rdrand rdseed rdtscp rsba rtm sep serialize sgx sgx-debug sgx-exinfo sgx-kss sgx-mode64 '
    b'sgx-provisionkey sgx-tokenkey sgx1 sgx2 sgxlc sha-ni skinit skip-l1dfl-vmentry smap smep smx spec-ctrl split-lock-detect '
    b'ss ssb-no ssbd sse sse2 sse4.1 sse4.2 sse4a ssse3 stibp svm svm-lock svme-addr-chk syscall taa-no tbm tce tm tm2 topoext '
    b'tsc tsc-deadline tsc-scale tsc_adjust tsx-ctrl tsx-ldtrk umip v-vmsave-vmload vaes vgif virt-ssbd vmcb-clean vme vmx '
    b'vpclmulqdq waitpkg wbnoinvd wdt x2apic xfd xgetbv1 xop xsave xsavec xsaveerptr xsaveopt xsaves xtpr'
)
