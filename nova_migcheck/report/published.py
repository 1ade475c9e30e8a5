# SPDX-License-Identifier: Apache-2.0
"""Write and read the report in ``ComputeNode.stats``: one short string, the key is ``migcheck``.

``1 1764000000 89ab0123cdef4567:address=failure eJy… {'f': …}``

* the version, and the time as ten digits. So two texts compare as their times do;
* the kind: a digest of the next two parts, at a fixed place. Hosts of one kind are judged alike, so
  the filter only compares and slices this text and looks up the kind. JSON is parsed only for a
  host about which something is logged: a JSON parser would cost 8 µs per host, and a thousand hosts
  are read for each request;
* the outcomes of the findings, without texts (:func:`nova_migcheck.report.report.summarise`);
* the facts that are alike on many hosts, ``-`` if there are none: two lines of JSON, deflated and
  in base64. The first line is the CPU, the second the other facts. Each distinct text is parsed
  once;
* JSON with all that is this host's own, with ``'`` and ``"`` exchanged.

It is one string with few quotes, because Nova decodes the column for each host in each request.
There each further key costs 1.5 µs, and each quote would be escaped in the JSON of the column.

Whoever can write this field (a compromised compute host) must not be able to do more than to lie
about that host. So nothing that is read here is trusted to have any form or size.
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
from typing import Any, Iterator, Mapping, Optional, Sequence

from nova_migcheck.checks.needs import Needs
from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu.dictionary import NAMES_1
from nova_migcheck.cpu.population import pack, unpack
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import fitting, past
from nova_migcheck.report.report import Group, Report, summarise

VERSION = '1'
MAIN = 'migcheck'
KEYS = (MAIN,)

# Bytes of key and value. ComputeNode.stats is a TEXT column of 64 KiB. If it does not fit, saving
# the whole node fails.
MAX_BYTES = 8 * 1024
# Bytes of the common part when it is inflated: more than all CPU features of libvirt need.
_MAX_COMMON = 32 * 1024

# Number of parsed common parts in the cache: a cloud has tens of kinds, rarely hundreds.
_CACHED = 1024
# Number of hosts whose parsed findings are in the cache: the next request logs the same ones.
_CACHED_FINDINGS = 128

_TIME = slice(2, 12)
#: Positions of the space after the time, and of the kind.
SPACE, KIND = slice(12, 13), slice(13, 29)
_TSC_HZ = re.compile(r"'tsc_hz':([0-9]{1,13})[,}]")
# Keys of the part that is this host's own that are not facts.
_RESERVED = frozenset(('f', 'tsc_hz', 'default', 'guests', 'counted', 'past', 'rehearsed',
                       'dropped', 'needs'))


class Unreadable(ValueError):
    """The field does not contain a report that this version can read."""


def is_dated(text: str) -> bool:
    """Return whether a published text has a time where this version writes it."""
    return text[:2] == f'{VERSION} ' and text[SPACE] == ' '


def beginning(time: float) -> str:
    """Return how a report of that time begins. The text of a later report is greater.

    :param time: in seconds since the epoch
    """
    return f'{VERSION} {int(time):010d}'


def read_common(text: str) -> tuple[Report, str]:
    """Return what a host has in common with all of its kind.

    :param text: what any of them has published
    :returns: a report at time 0, with findings without texts; and its facts that are compared with
        those of another host, as text
    :raises Unreadable: for anything that this version cannot read, and if the digest is wrong
    """
    with _unreadable():
        _time, summary, packed, _own = _split(text)
        cpu, site = _read_packed(packed)
        facts = _object(site)
        return Report(0, _bare(summary), cpu, common=_common_facts(facts)), site


def is_bare(finding: Finding) -> bool:
    """Return whether a finding has no texts, as :func:`read_common` returns a host's own."""
    return not finding.subject and not finding.detail


def read_findings(text: str) -> tuple[Finding, ...]:
    """Return only the findings of a published report, with their texts, for people.

    Whether they agree with the summary is not checked.

    :raises Unreadable: for anything that this version cannot read
    """
    try:
        own = text.split(' ', 4)[4]
        # What this package did not write may be megabytes: do not cache it.
        return (_findings if len(own) <= MAX_BYTES else _findings.__wrapped__)(own)
    except _RAISED as e:
        raise _as_unreadable(e) from e


def tsc_hz(text: str) -> Optional[int]:
    """Return the frequency of the host's TSC in Hz, None if a published text has none."""
    # A quote in a string is escaped, so this is a key. It is one of the last ones.
    match = _TSC_HZ.match(text, text.rfind("'tsc_hz':"))
    return int(match[1]) or None if match else None


def common(stats: Mapping[str, Any]) -> str:
    """Return the common part, as text, of a report that :func:`read` can read."""
    return _split(stats[MAIN])[2]


def site(report: Report) -> str:
    """Return the facts that are compared with those of another host, as text."""
    return report.site or _json(_filled(report.common))


def write(report: Report, order: Sequence[str] = ()) -> dict[str, str]:
    """Return the string for ``stats``, with its key at most :data:`MAX_BYTES`.

    What does not fit is dropped, and named.

    :param order: names of facts in the order in which they are dropped; others go before them
    """
    # The detail contains the first subjects; the list of all is only for the host itself.
    findings = tuple(dataclasses.replace(f, subjects=()) for f in report.findings)
    report = dataclasses.replace(report, findings=findings)
    return {MAIN: fitting.fit(report, _text, MAX_BYTES - len(MAIN), order)}


def read(stats: Any) -> Optional[Report]:
    """Return the report in a host's ``stats``, None if there is none.

    :raises Unreadable: for anything that this version cannot read
    """
    if not isinstance(stats, Mapping) or stats.get(MAIN) is None:
        return None
    with _unreadable():
        return _read(stats[MAIN])


@contextlib.contextmanager
def _unreadable() -> Iterator[None]:
    """Turn whatever reading a text raises into :class:`Unreadable`."""
    try:
        yield
    except _RAISED as e:
        raise _as_unreadable(e) from e


# Raised for a text that this package did not write.
_RAISED = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError,
           OverflowError, zlib.error)


def _as_unreadable(error: Exception) -> Unreadable:
    if isinstance(error, Unreadable):
        return error
    return Unreadable(f'{type(error).__name__}: {error}'[:200])


def _text(report: Report) -> str:
    summary, packed = summarise(report.findings), _pack_common(report)
    return (f'{VERSION} {report.time:010d} {_kind(summary, packed)}:{summary} {packed} '
            f'{_exchange_quotes(_json(_own(report)))}')


def _pack_common(report: Report) -> str:
    facts = _filled(report.common)
    if not report.cpu and not facts:
        return '-'
    cpu = _json(dataclasses.replace(report.cpu, tsc_hz=None).to_dict()) if report.cpu else ''
    deflate = zlib.compressobj(9, zdict=NAMES_1)
    data = deflate.compress(f'{cpu}\n{_json(facts)}'.encode()) + deflate.flush()
    return base64.b64encode(data).decode()


def _own(report: Report) -> dict[str, Any]:
    own: dict[str, Any] = _filled(report.own)
    if report.findings:
        own['f'] = [f.to_dict() for f in report.findings]
    if report.cpu and report.cpu.tsc_hz:
        # Each kernel measures it: with it, no two hosts would have the same CPU.
        own['tsc_hz'] = report.cpu.tsc_hz
    if report.default_guest:
        own['default'] = pack(report.default_guest, report.cpu)
    if report.groups:
        own['guests'] = [[pack(group.cpu, report.cpu) if group.cpu else None, ' '.join(group.who)]
                         for group in report.groups]
    if report.needs != Needs():
        own['needs'] = report.needs.to_json()
    if report.counted is not None:
        own['counted'] = report.counted
    if report.migrations:
        own['past'] = [migration.to_json() for migration in report.migrations]
    if report.rehearsals:
        own['rehearsed'] = [rehearsal.to_json() for rehearsal in report.rehearsals]
    if report.dropped:
        own['dropped'] = list(report.dropped)
    return own


def _kind(summary: str, packed: str) -> str:
    # Nobody can find another text with the same digest, so no host can pass for another kind.
    text = f'{summary} {packed}'.encode(errors='surrogatepass')
    return hashlib.sha256(text).hexdigest()[:16]


def _split(text: Any) -> tuple[int, str, str, str]:
    """Return the time, the summary of the findings, the common part and the own part."""
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        raise Unreadable(f'{MAIN} is not a string of at most {MAX_BYTES} characters')
    if text[:2] != f'{VERSION} ':
        raise Unreadable(f'{MAIN} is of a version other than {VERSION}')
    if not (text[_TIME].isdecimal() and text[_TIME].isascii()) or not is_dated(text):
        raise Unreadable(f'{MAIN} has no time')
    word, packed, own = text[KIND.start:].split(' ', 2)
    kind, _, summary = word.partition(':')
    if kind != _kind(summary, packed):
        # The verdict on one host holds for all of its kind, so a wrong digest is not accepted.
        raise Unreadable('its findings, CPU or site are not of the kind that it names')
    return int(text[_TIME]), summary, packed, own


def _read(text: Any) -> Report:
    time, summary, packed, own_text = _split(text)
    own = _object(_exchange_quotes(own_text))
    cpu, site_text = _read_packed(packed)
    site = _object(site_text)
    if cpu and own.get('tsc_hz') is not None:
        checked = Cpu.from_dict({'arch': cpu.arch, 'virt': cpu.virt, 'features': '',
                                 'tsc_hz': own['tsc_hz']})
        cpu = dataclasses.replace(cpu, tsc_hz=checked.tsc_hz)
    findings = tuple(Finding.from_dict(f) for f in own.get('f', ()))
    if summarise(findings) != summary:
        raise Unreadable('its findings are not what it sums them up as')
    dropped = tuple(word for word in own.get('dropped', ()) if isinstance(word, str))
    counted = own.get('counted')
    if counted is not None and counted.__class__ is not int:
        raise Unreadable('the time at which its guests were counted is not a number')
    default = unpack(own['default'], cpu) if 'default' in own else None
    groups = tuple(Group(None if guest is None else unpack(guest, cpu), tuple(who.split()))
                   for guest, who in own.get('guests', ()))
    return Report(time, findings, cpu, default, groups, _common_facts(site), _own_facts(own),
                  Needs.from_json(own.get('needs')), dropped, counted, past.read(own.get('past')),
                  past.read_rehearsals(own.get('rehearsed')), site_text)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise Unreadable('it contains something other than JSON objects')
    return value


def _filled(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: dict(fact) for name, fact in facts.items() if fact}


def _common_facts(site: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facts of the common part, also those that no check here declares."""
    if not all(isinstance(fact, dict) for fact in site.values()):
        raise Unreadable('a fact is not a JSON object')
    return dict(site)


def _own_facts(own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facts of the host's own part. Other keys may be those of a later version."""
    return {name: value for name, value in own.items()
            if name not in _RESERVED and isinstance(value, dict)}


def _bare(summary: str) -> tuple[Finding, ...]:
    """Return the findings of a summary, without texts."""
    found = []
    for part in summary.split(',') if summary != '-' else ():
        subject, _, outcome = part.rpartition('=')
        check, _, scope = subject.partition('/')
        found.append(Finding(check, Outcome(outcome), scope=scope))
    return tuple(found)


@functools.lru_cache(_CACHED_FINDINGS)
def _findings(own: str) -> tuple[Finding, ...]:
    """Return the findings in the own part of a published text."""
    own_part = _object(_exchange_quotes(own))
    return tuple(Finding.from_dict(f) for f in own_part.get('f', ()))


@functools.lru_cache(_CACHED)
def _read_packed(packed: str) -> tuple[Optional[Cpu], str]:
    """Return the CPU and the JSON of the other facts of a common part."""
    if packed == '-':
        return None, '{}'
    inflate = zlib.decompressobj(zdict=NAMES_1)
    data = inflate.decompress(base64.b64decode(packed, validate=True), _MAX_COMMON)
    if not inflate.eof:
        raise Unreadable(f'the common part is larger than {_MAX_COMMON} bytes, or cut')
    cpu, _, site = data.decode().partition('\n')
    return Cpu.from_dict(json.loads(cpu)) if cpu else None, site


def _json(value: Any) -> str:
    # ASCII, so that the number of characters is the number of bytes.
    return json.dumps(value, separators=(',', ':'), sort_keys=True, default=str)


def _exchange_quotes(text: str) -> str:
    """Exchange ``'`` and ``"``. JSON contains no NUL. ``str.translate`` takes ten times as long."""
    return text.replace('"', '\0').replace("'", '"').replace('\0', "'")
