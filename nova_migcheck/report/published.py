# SPDX-License-Identifier: Apache-2.0
"""The report as it travels in ``ComputeNode.stats``: one short string under the key ``migcheck``.

``1 1764000000 89ab0123cdef4567:address=failure eJy… {'f': …}``

* the version, and the time as ten digits: as text, they compare as they do as numbers;
* the kind: a digest of the next two, at a fixed place. Hosts of a kind are judged alike, so that the filter compares and cuts this
  text and looks up the kind. Only what it must say something about is read: a thousand hosts are read for each request, and a JSON
  parser would cost 8 µs a host;
* what the findings mean, without their texts (:func:`nova_migcheck.report.report.summarise`);
* what is alike on many hosts: the hypervisor's CPU, then networks and storage as far as they are; two lines of JSON, deflated and in
  base64, parsed once per distinct text. ``-`` for neither;
* JSON with all that is this host's own, in which ``'`` and ``"`` have changed places.

It is one string, and almost without quotes, because Nova decodes the column for each host in each request: every further key costs
1.5 µs there, and every quote would be escaped in the JSON that the column is.

Whoever can write this field (a compromised compute host) must not be able to do more than to lie about that host: nothing that is read
here is trusted to be of any form or size.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import re
import zlib
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence

from nova_migcheck.checks.needs import Needs
from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu.dictionary import NAMES_1
from nova_migcheck.cpu.population import pack, unpack
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import past
from nova_migcheck.report.report import Group, Report, summarise

VERSION = '1'
MAIN = 'migcheck'
KEYS = (MAIN,)

# Bytes of key and value. ComputeNode.stats is a TEXT column of 64 KiB that the whole node fails with.
MAX_BYTES = 8 * 1024
# Findings beyond this many are not even tried to fit.
MAX_FINDINGS = 100
# Bytes that the common part may have when it is inflated: more than every CPU feature that libvirt knows.
_MAX_COMMON = 32 * 1024

# Common parts that are kept parsed: a cloud has tens of kinds, rarely hundreds. What differs on every host is never kept.
_KEPT = 1024
# Hosts whose findings are kept parsed: those whose reason is logged, which are the same ones at the next request.
_KEPT_FINDINGS = 128

_TIME = slice(2, 12)
#: Where the space after the time stands, and the kind.
SPACE, KIND = slice(12, 13), slice(13, 29)
_TSC_HZ = re.compile(r"'tsc_hz':([0-9]{1,13})[,}]")


# Keys of the part that is this host's own which are no facts.
_RESERVED = frozenset(('f', 'tsc_hz', 'default', 'guests', 'counted', 'past', 'dropped', 'needs'))


class Unreadable(ValueError):
    """What stands in the field is no report that this version can read."""


def is_dated(text: str) -> bool:
    """Whether a published text has a time where this version puts it."""
    return text[:2] == f'{VERSION} ' and text[SPACE] == ' '


def beginning(time: float) -> str:
    """How a report of that time begins, in seconds since the epoch; a later one is a greater text."""
    return f'{VERSION} {int(time):010d}'


def read_common(text: str) -> tuple[Report, str]:
    """What a host has in common with all of its kind: (their findings without texts, CPU, networks and storage, at time 0; what of the
    networks and the storage takes part in a comparison with another host, as text).

    :param text: what any one of them has published
    :raises Unreadable: for anything that this version cannot read, and when the kind is not that of what follows
    """
    with _unreadable():
        _time, summary, packed, _own = _split(text)
        cpu, site = _read_packed(packed)
        facts = _object(site)
        return Report(0, _bare(summary), cpu, common=_common_facts(facts)), site


def is_bare(finding: Finding) -> bool:
    """Whether this is a finding of a host itself, in the shape that :func:`read_common` gives it: without texts."""
    return not finding.subject and not finding.detail


def read_findings(text: str) -> tuple[Finding, ...]:
    """Only the findings of a published report, with their texts, for people: whether they are what it sums them up as, is not asked.

    :raises Unreadable: for anything that this version cannot read
    """
    try:
        own = text.split(' ', 4)[4]
        # What nobody of ours has written may be megabytes, which are not kept.
        return (_findings if len(own) <= MAX_BYTES else _findings.__wrapped__)(own)
    except _RAISED as e:
        raise _as_unreadable(e) from e


def tsc_hz(text: str) -> Optional[int]:
    """The frequency of the host's TSC in Hz, None when a published text names none."""
    # A quote in a string is escaped: this is a key. It is the last one, or nearly so.
    match = _TSC_HZ.match(text, text.rfind("'tsc_hz':"))
    return int(match[1]) or None if match else None


def common(stats: Mapping[str, Any]) -> str:
    """The part that is alike on many hosts, as text, of a report that :func:`read` has read."""
    return _split(stats[MAIN])[2]


def site(report: Report) -> str:
    """What of the networks and the storage takes part in a comparison with another host, as text."""
    return report.site or _json(_filled(report.common))


def write(report: Report, order: Sequence[str] = ()) -> dict[str, str]:
    """Return the string for ``stats``, with its key at most :data:`MAX_BYTES`.

    What does not fit is dropped, least use first, and named.

    :param order: names of facts in the order in which they are dropped; others go before them
    """
    # What only lists, whoever reads the report has in the detail.
    report = dataclasses.replace(report, findings=tuple(
        dataclasses.replace(f, subjects=()) for f in report.findings))
    if len(report.findings) > MAX_FINDINGS:
        report = _drop(report, 'findings', findings=(
            *_one_each(report.findings), *report.findings)[:MAX_FINDINGS])
    others = sorted((report.common.keys() | report.own.keys()) - set(order))
    facts: list[Callable[[Report], Report]] = [
        functools.partial(_drop_fact, name=name) for name in (*others, *order)]
    for shrink in (*_SHRINK, *facts, *_SHRINK_LAST):
        text = _text(report)
        if len(MAIN) + len(text) <= MAX_BYTES:
            return {MAIN: text}
        report = shrink(report)
    return {MAIN: _text(report)}


def _drop_fact(report: Report, name: str) -> Report:
    return _drop(report, name, **{
        part: {fact: value for fact, value in getattr(report, part).items() if fact != name}
        for part in ('common', 'own')})


def read(stats: Any) -> Optional[Report]:
    """The report in a host's ``stats``, None when there is none.

    :raises Unreadable: for anything that this version cannot read
    """
    if not isinstance(stats, Mapping) or stats.get(MAIN) is None:
        return None
    with _unreadable():
        return _read(stats[MAIN])


@contextlib.contextmanager
def _unreadable() -> Iterator[None]:
    """Whatever reading a text raises says that it cannot be read."""
    try:
        yield
    except _RAISED as e:
        raise _as_unreadable(e) from e


# By what reads a text that is none of ours.
_RAISED = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError, zlib.error)


def _as_unreadable(error: Exception) -> Unreadable:
    return error if isinstance(error, Unreadable) else Unreadable(f'{type(error).__name__}: {error}'[:200])


def _text(report: Report) -> str:
    own: dict[str, Any] = _filled(report.own)
    site = _filled(report.common)
    if report.findings:
        own['f'] = [f.to_dict() for f in report.findings]
    if report.cpu and report.cpu.tsc_hz:
        # Measured by each kernel anew: with it, no two hosts would have the same CPU.
        own['tsc_hz'] = report.cpu.tsc_hz
    if report.default_guest:
        own['default'] = pack(report.default_guest, report.cpu)
    if report.groups:
        own['guests'] = [[pack(group.cpu, report.cpu) if group.cpu else None, ' '.join(group.who)] for group in report.groups]
    if report.needs != Needs():
        own['needs'] = report.needs.to_json()
    if report.counted is not None:
        own['counted'] = report.counted
    if report.migrations:
        own['past'] = [migration.to_json() for migration in report.migrations]
    if report.dropped:
        own['dropped'] = list(report.dropped)
    packed = '-'
    if report.cpu or site:
        cpu = _json(dataclasses.replace(report.cpu, tsc_hz=None).to_dict()) if report.cpu else ''
        deflate = zlib.compressobj(9, zdict=NAMES_1)
        packed = base64.b64encode(deflate.compress(f'{cpu}\n{_json(site)}'.encode()) + deflate.flush()).decode()
    summary = summarise(report.findings)
    return f'{VERSION} {report.time:010d} {_kind(summary, packed)}:{summary} {packed} {_change_quotes(_json(own))}'


def _kind(summary: str, packed: str) -> str:
    # Nobody can find other texts with the same digest, so none can pass for the host that it is not.
    return hashlib.sha256(f'{summary} {packed}'.encode(errors='surrogatepass')).hexdigest()[:16]


def _split(text: Any) -> tuple[int, str, str, str]:
    """(time, summary of the findings, common part, own part) of a published text"""
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        raise Unreadable(f'{MAIN} is not a string of at most {MAX_BYTES} characters')
    if text[:2] != f'{VERSION} ':
        raise Unreadable(f'{MAIN} is of a version other than {VERSION}')
    if not (text[_TIME].isdecimal() and text[_TIME].isascii()) or not is_dated(text):
        raise Unreadable(f'{MAIN} has no time')
    word, packed, own = text[KIND.start:].split(' ', 2)
    kind, _, summary = word.partition(':')
    if kind != _kind(summary, packed):
        # The verdict on one host is taken for all of its kind: a host must not look like others and say something else.
        raise Unreadable('its findings, CPU or site are not of the kind that it names')
    return int(text[_TIME]), summary, packed, own


def _read(text: Any) -> Report:
    time, summary, packed, own_text = _split(text)
    own = _object(_change_quotes(own_text))
    cpu, site_text = _read_packed(packed)
    site = _object(site_text)
    if cpu and own.get('tsc_hz') is not None:
        checked = Cpu.from_dict({'arch': cpu.arch, 'virt': cpu.virt, 'features': '', 'tsc_hz': own['tsc_hz']})
        cpu = dataclasses.replace(cpu, tsc_hz=checked.tsc_hz)
    findings = tuple(Finding.from_dict(f) for f in own.get('f', ()))
    if summarise(findings) != summary:
        raise Unreadable('its findings are not what it sums them up as')
    dropped = tuple(word for word in own.get('dropped', ()) if isinstance(word, str))
    counted = own.get('counted')
    if counted is not None and counted.__class__ is not int:
        raise Unreadable('the time at which its guests were counted is none')
    return Report(
        time, findings, cpu, unpack(own['default'], cpu) if 'default' in own else None,
        tuple(Group(unpack(packed, cpu) if packed is not None else None, tuple(who.split())) for packed, who in own.get('guests', ())),
        _common_facts(site), _own_facts(own), Needs.from_json(own.get('needs')), dropped, counted, past.read(own.get('past')), site_text)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise Unreadable('it holds something else than JSON objects')
    return value


def _filled(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: dict(fact) for name, fact in facts.items() if fact}


def _common_facts(site: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facts of the common part, those that nobody here declares included."""
    if not all(isinstance(fact, dict) for fact in site.values()):
        raise Unreadable('what it says of a fact is no JSON object')
    return dict(site)


def _own_facts(own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facts of the part that is the host's own; other keys may be a later version's."""
    return {name: value for name, value in own.items()
            if name not in _RESERVED and isinstance(value, dict)}


def _bare(summary: str) -> tuple[Finding, ...]:
    """The findings that ``report.summarise`` made this word of, without their texts."""
    found = []
    for part in summary.split(',') if summary != '-' else ():
        subject, _, outcome = part.rpartition('=')
        check, _, scope = subject.partition('/')
        found.append(Finding(check, Outcome(outcome), scope=scope))
    return tuple(found)


@functools.lru_cache(_KEPT_FINDINGS)
def _findings(own: str) -> tuple[Finding, ...]:
    """The findings in the own part of a published text."""
    return tuple(Finding.from_dict(f) for f in _object(_change_quotes(own)).get('f', ()))


@functools.lru_cache(_KEPT)
def _read_packed(packed: str) -> tuple[Optional[Cpu], str]:
    """(CPU, JSON of networks and storage) of a common part"""
    if packed == '-':
        return None, '{}'
    inflate = zlib.decompressobj(zdict=NAMES_1)
    data = inflate.decompress(base64.b64decode(packed, validate=True), _MAX_COMMON)
    if not inflate.eof:
        raise Unreadable(f'what is common is larger than {_MAX_COMMON} bytes, or cut')
    cpu, _, site = data.decode().partition('\n')
    return Cpu.from_dict(json.loads(cpu)) if cpu else None, site


def _json(value: Any) -> str:
    # ASCII: a character is a byte wherever the string goes, and the limit is one of bytes.
    return json.dumps(value, separators=(',', ':'), sort_keys=True, default=str)


def _change_quotes(text: str) -> str:
    """``'`` for ``"`` and the other way round. JSON holds no NUL; with ``str.translate`` it takes ten times as long."""
    return text.replace('"', '\0').replace("'", '"').replace('\0', "'")


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
    lambda r: _drop(r, 'migrations', migrations=()),
    lambda r: _drop(r, 'remedies', findings=tuple(dataclasses.replace(f, remedy='') for f in r.findings)),
    lambda r: _drop(r, 'texts', findings=_cut(r.findings, 120)),
    lambda r: _drop(r, 'findings', findings=_one_each(r.findings)),
    lambda r: _drop(r, 'guests', groups=()),
    lambda r: _drop(r, 'findings', findings=_cut(r.findings, 0)[:40]),
    lambda r: _drop(r, 'needs', needs=Needs()),
    lambda r: _drop(r, 'default', default_guest=None),
)
# Then the facts, and last of all the CPU.
_SHRINK_LAST: tuple[Callable[[Report], Report], ...] = (
    lambda r: _drop(r, 'cpu', cpu=None),
    lambda r: Report(r.time, dropped=('all',)),
)
