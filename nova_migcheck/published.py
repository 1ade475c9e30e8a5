# SPDX-License-Identifier: Apache-2.0
"""The report as it travels in ``ComputeNode.stats``: three short strings.

``migcheck``
    ``1 1764000000 89ab0123cdef4567:address=failure {"f": …}``: the version, the time as ten digits, a word for what this host has in common
    with others (a digest of the two texts below, and what the findings mean), then JSON with all that is its own. The filter compares
    and cuts the text before the JSON, and parses the rest only of a host that it must say something about: a thousand hosts are read for
    each request; a JSON parser would cost 8 µs a host, and to hash the two texts 1 µs.
``migcheck_cpu``
    ``1 `` and the hypervisor's CPU, deflated and in base64. The same on all hosts of a kind; parsed once.
``migcheck_site``
    ``1 `` and JSON: networks and storage, as far as they are alike on many hosts; parsed once.

Whoever can write this field (a compromised compute host) must not be able to do more than to lie about that host: nothing that is read
here is trusted to be of any form or size.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import zlib
from typing import Any, Callable, Iterable, Mapping, Optional

from nova_migcheck.cpu import Cpu
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import OWN_KEYS, Group, Report, summarise

VERSION = '1'
MAIN, CPU, SITE = 'migcheck', 'migcheck_cpu', 'migcheck_site'
KEYS = (MAIN, CPU, SITE)

# Bytes of all keys and values. ComputeNode.stats is a TEXT column of 64 KiB that the whole node fails with.
MAX_BYTES = 8 * 1024
# Findings beyond this many are not even tried to fit.
MAX_FINDINGS = 100
# Bytes that one inflated CPU may have: more than every name that libvirt knows.
_MAX_CPU = 32 * 1024

# CPUs that are kept parsed: a cloud has tens of kinds, rarely hundreds. What differs on every host is never kept.
_KEPT = 512

_TIME = slice(2, 12)
REST = 13

# zlib's preset dictionary of format 1: frozen. A name that is not in it only takes more room; with another dictionary a reader would
# refuse the text (zlib checks), so a new dictionary needs a new version.
_NAMES_1 = (
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


class Unreadable(ValueError):
    """What stands in the field is no report that this version can read."""


def face(stats: Mapping[str, Any]) -> Optional[tuple[str, str]]:
    """(time, word) of a published report, None for what :func:`read` cannot read either. Costs less than a microsecond."""
    try:
        text: Any = stats.get(MAIN)
        if text[:2] == '1 ' and text[12] == ' ':
            return text[_TIME], text[REST:text.index(' ', REST)]
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        pass
    return None


def beginning(time: float) -> str:
    """How a report of that time begins, in seconds since the epoch; a later one is a greater text."""
    return f'{VERSION} {int(time):010d}'


def read_common(word: str, stats: Mapping[str, Any]) -> Report:
    """What all hosts with this word report alike: their findings without texts, CPU, networks and storage. Its time is 0.

    :param stats: of any one of them
    :raises Unreadable: for anything that this version cannot read, and when ``stats`` is not what ``word`` is the word for
    """
    try:
        findings = [finding.to_dict() for finding in _findings(word.partition(':')[2])]
    except ValueError as e:
        raise Unreadable(f'its findings are summed up in no word: {e}'[:200]) from e
    texts = {MAIN: f'{VERSION} {0:010d} {word} {{"f":{_json(findings)}}}', CPU: stats.get(CPU), SITE: stats.get(SITE)}
    report = read(texts)
    assert report is not None
    return report


def without_findings(word: str) -> str:
    """The word of a host that is like others but has no findings."""
    return word.partition(':')[0] + ':-'


def read_findings(stats: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Of a report that has a :func:`face` only the findings, with their texts.

    :raises Unreadable: for anything that this version cannot read
    """
    try:
        return tuple(Finding.from_dict(f) for f in json.loads(stats[MAIN][REST:].partition(' ')[2]).get('f', ()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise Unreadable(f'{type(e).__name__}: {e}'[:200]) from e


def site(report: Report) -> str:
    """What of the networks and the storage takes part in a comparison with another host, as text."""
    return _json(_parts(report)[1])


def write(report: Report) -> dict[str, str]:
    """The strings for ``stats``, together at most :data:`MAX_BYTES`. What does not fit is dropped, least use first, and named."""
    # What only lists, whoever reads the report has in the detail.
    report = dataclasses.replace(report, findings=tuple(dataclasses.replace(f, subjects=()) for f in report.findings))
    if len(report.findings) > MAX_FINDINGS:
        report = _drop(report, 'findings', findings=(*_one_each(report.findings), *report.findings)[:MAX_FINDINGS])
    for shrink in _SHRINK:
        texts = _texts(report)
        if sum(len(key) + len(text) for key, text in texts.items()) <= MAX_BYTES:
            return texts
        report = shrink(report)
    return _texts(report)


def read(stats: Any) -> Optional[Report]:
    """The report in a host's ``stats``, None when there is none.

    :raises Unreadable: for anything that this version cannot read
    """
    if not isinstance(stats, Mapping) or stats.get(MAIN) is None:
        return None
    try:
        return _read(stats)
    except Unreadable:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError, zlib.error) as e:
        raise Unreadable(f'{type(e).__name__}: {e}'[:200]) from e


def _parts(report: Report) -> tuple[dict[str, Any], dict[str, Any]]:
    """(this host's own, alike on many) of the facts about networks and storage"""
    own: dict[str, Any] = {}
    site: dict[str, Any] = {}
    for name in OWN_KEYS:
        fact = getattr(report, name)
        mine = {key: value for key, value in fact.items() if key in OWN_KEYS[name]}
        common = {key: value for key, value in fact.items() if key not in OWN_KEYS[name]}
        if mine:
            own[name] = mine
        if common:
            site[name] = common
    return own, site


def _texts(report: Report) -> dict[str, str]:
    own, site = _parts(report)
    if report.findings:
        own['f'] = [f.to_dict() for f in report.findings]
    if report.cpu and report.cpu.tsc_hz:
        # Measured by each kernel anew: with it, no two hosts would have the same CPU text.
        own['tsc_hz'] = report.cpu.tsc_hz
    if report.default_guest:
        own['default'] = _pack(report.default_guest, report.cpu)
    if report.groups:
        own['guests'] = [[_pack(group.cpu, report.cpu) if group.cpu else None, ' '.join(group.who)] for group in report.groups]
    if report.dropped:
        own['dropped'] = list(report.dropped)
    texts = {MAIN: ''}
    if report.cpu:
        cpu = _json(dataclasses.replace(report.cpu, tsc_hz=None).to_dict())
        deflate = zlib.compressobj(9, zdict=_NAMES_1)
        texts[CPU] = f'{VERSION} ' + base64.b64encode(deflate.compress(cpu.encode()) + deflate.flush()).decode()
    if site:
        texts[SITE] = f'{VERSION} {_json(site)}'
    texts[MAIN] = f'{VERSION} {report.time:010d} {_word(report.findings, texts)} {_json(own)}'
    return texts


def _word(findings: tuple[Finding, ...], texts: Mapping[str, Any]) -> str:
    # Nobody can find other texts with the same digest, so none can pass for the host that it is not.
    digest = hashlib.sha256(f'{texts.get(CPU)}\n{texts.get(SITE)}'.encode(errors='surrogatepass')).hexdigest()[:16]
    return f'{digest}:{summarise(findings)}'


def _read(stats: Mapping[str, Any]) -> Report:
    texts: dict[str, str] = {}
    for key in KEYS:
        text = stats.get(key)
        if text is None:
            continue
        if not isinstance(text, str) or len(text) > MAX_BYTES:
            raise Unreadable(f'{key} is not a string of at most {MAX_BYTES} characters')
        if text[:2] != f'{VERSION} ':
            raise Unreadable(f'{key} is of a version other than {VERSION}')
        texts[key] = text
    main = texts[MAIN]
    if not (main[_TIME].isdecimal() and main[_TIME].isascii()) or main[12:13] != ' ':
        raise Unreadable(f'{MAIN} has no time')
    word, _, own_text = main[REST:].partition(' ')
    own, site = json.loads(own_text), json.loads(texts[SITE][2:]) if SITE in texts else {}
    if not isinstance(own, dict) or not isinstance(site, dict):
        raise Unreadable('it holds something else than JSON objects')
    cpu = _read_cpu(texts[CPU]) if CPU in texts else None
    if cpu and own.get('tsc_hz') is not None:
        checked = Cpu.from_dict({'arch': cpu.arch, 'virt': cpu.virt, 'features': '', 'tsc_hz': own['tsc_hz']})
        cpu = dataclasses.replace(cpu, tsc_hz=checked.tsc_hz)
    findings = tuple(Finding.from_dict(f) for f in own.get('f', ()))
    if _word(findings, texts) != word:
        # The verdict on one host is taken for all with its word: a host must not look like others and say something else.
        raise Unreadable('its findings, CPU or site are not what it sums them up as')
    dropped = tuple(word for word in own.get('dropped', ()) if isinstance(word, str))
    return Report(
        int(main[_TIME]), findings, cpu, _unpack(own['default'], cpu) if 'default' in own else None,
        tuple(Group(_unpack(packed, cpu) if packed is not None else None, tuple(who.split())) for packed, who in own.get('guests', ())),
        _fact('migration', own, site), _fact('storage', own, site), dropped)


def _fact(name: str, own: Mapping[str, Any], site: Mapping[str, Any]) -> dict[str, Any]:
    """Both parts of a fact, each only with the keys that belong there."""
    return {**{key: value for key, value in site.get(name, {}).items() if key not in OWN_KEYS[name]},
            **{key: value for key, value in own.get(name, {}).items() if key in OWN_KEYS[name]}}


def _findings(word: str) -> list[Finding]:
    """The findings that ``report.summarise`` made this word of, without their texts."""
    found = []
    for part in word.split(',') if word != '-' else ():
        subject, _, outcome = part.rpartition('=')
        check, _, scope = subject.partition('/')
        found.append(Finding(check, Outcome(outcome), scope=scope))
    return found


@functools.lru_cache(_KEPT)
def _read_cpu(text: str) -> Cpu:
    inflate = zlib.decompressobj(zdict=_NAMES_1)
    data = inflate.decompress(base64.b64decode(text[2:], validate=True), _MAX_CPU)
    if not inflate.eof:
        raise Unreadable(f'{CPU} is larger than {_MAX_CPU} bytes, or cut')
    return Cpu.from_dict(json.loads(data))


def _pack(guest: Cpu, host: Optional[Cpu]) -> dict[str, Any]:
    """A guest's CPU as its difference from the host's: a guest lives on a host that provides nearly all it uses."""
    packed = guest.to_dict()
    if host:
        del packed['features']
        packed['+'] = ' '.join(sorted(guest.features - host.features))
        packed['-'] = ' '.join(sorted(host.features - guest.features))
    return packed


def _unpack(packed: Any, host: Optional[Cpu]) -> Cpu:
    packed = dict(packed)
    if 'features' not in packed:
        if host is None:
            raise Unreadable('a guest is described by a host that is not')
        more, less = packed.pop('+').split(), packed.pop('-').split()
        packed['features'] = ' '.join((host.features | set(more)) - set(less))
    return Cpu.from_dict(packed)


def _json(value: Any) -> str:
    # ASCII: a character is a byte wherever the string goes, and the limit is one of bytes.
    return json.dumps(value, separators=(',', ':'), sort_keys=True, default=str)


def _drop(report: Report, word: str, **changes: Any) -> Report:
    return dataclasses.replace(report, dropped=(*(d for d in report.dropped if d != word), word), **changes)


def _cut(findings: Iterable[Finding], length: int) -> tuple[Finding, ...]:
    return tuple(dataclasses.replace(f, detail=f.detail[:length], remedy='', subject=f.subject[:length], origin=f.origin[:length])
                 for f in findings)


def _one_each(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding of each kind: the decision stays what it was."""
    return tuple({(f.check, f.outcome, f.scope): f for f in reversed(tuple(findings))}.values())[::-1]


# Steps, least loss first. The decision itself (summary, CPU, networks) is never dropped before what explains it.
_SHRINK: tuple[Callable[[Report], Report], ...] = (
    lambda r: _drop(r, 'remedies', findings=tuple(dataclasses.replace(f, remedy='') for f in r.findings)),
    lambda r: _drop(r, 'texts', findings=_cut(r.findings, 120)),
    lambda r: _drop(r, 'findings', findings=_one_each(r.findings)),
    lambda r: _drop(r, 'guests', groups=()),
    lambda r: _drop(r, 'findings', findings=_cut(r.findings, 0)[:40]),
    lambda r: _drop(r, 'default', default_guest=None),
    lambda r: _drop(r, 'migration', migration={}),
    lambda r: _drop(r, 'storage', storage={}),
    lambda r: _drop(r, 'cpu', cpu=None),
    lambda r: Report(r.time, dropped=('all',)),
)
