# SPDX-License-Identifier: Apache-2.0
"""Put the lines of ledgers together: the migrations, and how often the checks were right.

Pure. A ledger may come from another version, or be forged, so reading one never raises.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Iterable, Mapping, Optional

from nova_migcheck.aftermath.ledger import ACCEPTED, DECISION, REHEARSAL, REJECTED, UNKNOWN
from nova_migcheck.aftermath.traffic import mebibytes
from nova_migcheck.finding import printable, without_credentials
from nova_migcheck.report import past
from nova_migcheck.report.past import Past

# Seconds between what two hosts say of one migration. Their clocks may differ.
_SAME = 600.0
# Maximum number of characters of a text, and of different texts in a row.
_TEXT, _TEXTS = 200, 3
_VERDICTS = (ACCEPTED, UNKNOWN, REJECTED)


@dataclasses.dataclass(frozen=True)
class Move:
    """A live migration that was asked for.

    :param time: of the first line about it, in seconds since the epoch
    :param hosts: those whose ledgers tell of it
    :param verdict: ``accepted``, ``unknown`` (accepted, but not everything was known) or
        ``rejected``; '' if no decision is known
    :param rejections: check and code of each finding that rejects
    :param ended: as in :class:`nova_migcheck.report.past.Past`; '' if it was not tried
    :param error: libvirt's or Nova's words
    :param rate: of the link in bytes per second, where a rehearsal has measured it
    """

    time: float
    hosts: frozenset[str]
    instance: str
    source: str
    target: str
    verdict: str = ''
    rejections: tuple[str, ...] = ()
    ended: str = ''
    error: str = ''
    rate: Optional[int] = None

    @property
    def checks(self) -> set[str]:
        """Return the checks that reject; the verdict in brackets if none does."""
        return {text.partition(' ')[0] for text in self.rejections} or {
            f'({self.verdict or "no decision"})'}

    @property
    def failed(self) -> bool:
        return self.ended in (past.FAILED, past.STRAYED)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that the command prints."""
        return {**dataclasses.asdict(self), 'hosts': sorted(self.hosts),
                'rejections': list(self.rejections)}

    def _with(self, other: Move) -> Move:
        """Return the two hosts' accounts of one migration as one."""
        verdict = max(self.verdict, other.verdict, key=lambda word: ('', *_VERDICTS).index(word))
        # The source knows better how it ended: it has called libvirt.
        return dataclasses.replace(
            self, time=min(self.time, other.time), hosts=self.hosts | other.hosts, verdict=verdict,
            rejections=tuple(sorted({*self.rejections, *other.rejections})),
            ended=_worse(self.ended, other.ended), error=self.error or other.error)


def moves(ledgers: Iterable[Iterable[Mapping[str, Any]]]) -> list[Move]:
    """Return the migrations in the ledgers of some hosts, in the order of their times.

    :param ledgers: for each file, its entries
    """
    found: dict[tuple[str, ...], list[Move]] = {}
    for entries in ledgers:
        for key, one in _of_file(entries):
            same = found.setdefault(key, [])
            number = next((number for number, other in enumerate(same)
                           if not one.hosts & other.hosts and abs(one.time - other.time) < _SAME),
                          None)
            if number is None:
                same.append(one)
            else:
                # The line of the source comes last, as its name in the key says.
                pair = (one, same[number]) if key[1] in one.hosts else (same[number], one)
                same[number] = pair[0]._with(pair[1])
    return sorted((one for same in found.values() for one in same), key=lambda one: one.time)


def rehearsals(ledgers: Iterable[Iterable[Mapping[str, Any]]]) -> list[Move]:
    """Return the rehearsals in the ledgers of some hosts, in the order of their times.

    :param ledgers: for each file, its entries
    """
    found = [_rehearsed(entry) for entries in ledgers for entry in entries
             if entry.get('kind') == REHEARSAL]
    return sorted(found, key=lambda one: one.time)


def rates(found: Iterable[Move]) -> dict[tuple[str, str], Move]:
    """Return for each source and target the last move of which the rate was measured."""
    return {(one.source, one.target): one for one in found if one.rate is not None}


def matrix(measured: Mapping[tuple[str, str], Move]) -> tuple[list[str], list[list[str]]]:
    """Return the targets, and for each source a line: its name, and the MiB/s to each target.

    :param measured: what :func:`rates` returned
    """
    targets = sorted({target for _source, target in measured})
    lines = []
    for source in sorted({source for source, _target in measured}):
        known = (measured.get((source, target)) for target in targets)
        lines.append([source, *(str(mebibytes(one.rate)) if one else '' for one in known)])
    return targets, lines


def of_past(host: str, one: Past) -> Move:
    """Return what a host has published of a migration or a rehearsal."""
    arrives = one.direction == past.IN
    return Move(one.time, frozenset({host}), one.instance, one.peer if arrives else host,
                host if arrives else one.peer, ended=one.ended, error=one.text, rate=one.rate)


@dataclasses.dataclass
class Account:
    """How often something was decided, and what came of it.

    :ivar decided: how often
    :ivar untried: how often the migration was not tried, or is still under way
    :ivar worked: how often it ended well
    :ivar failed: how often it failed, or used an interface that was not intended
    :ivar words: of those that failed -> how often
    """

    decided: int = 0
    untried: int = 0
    worked: int = 0
    failed: int = 0
    words: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def texts(self) -> list[str]:
        """Return the most frequent words, each with its number."""
        return [f'{count} x {text}' for text, count in self.words.most_common(_TEXTS)]


def by_check(found: Iterable[Move]) -> dict[str, Account]:
    """Return an account for each check that has rejected, and for what none has rejected.

    A migration that was cancelled is only counted as decided.
    """
    accounts: dict[str, Account] = {}
    for one in found:
        for check in one.checks:
            account = accounts.setdefault(check, Account())
            account.decided += 1
            account.untried += not one.ended
            account.worked += one.ended == past.COMPLETED
            account.failed += one.failed
            if one.failed:
                account.words[one.error or one.ended] += 1
    return dict(sorted(accounts.items()))


def _of_file(entries: Iterable[Mapping[str, Any]]) -> list[tuple[tuple[str, ...], Move]]:
    """Return the migrations of one file. Its lines are in their order, whatever a clock says."""
    found: list[tuple[tuple[str, ...], Move]] = []
    waiting: dict[tuple[str, ...], int] = {}
    for entry in entries:
        if entry.get('kind') == REHEARSAL:
            continue
        one = _move(entry)
        (host,), key = one.hosts, (one.instance, one.source, one.target)
        if entry.get('kind') == DECISION:
            waiting[(*key, host)] = len(found)
            found.append((key, _decided(one, entry)))
            continue
        number = waiting.pop((*key, host), None)
        known = one if number is None else found[number][1]
        ended = _ended(known, entry)
        if number is None:
            found.append((key, ended))
        else:
            found[number] = key, ended
    return found


def _move(entry: Mapping[str, Any]) -> Move:
    """Return a migration of which nothing is known yet but who goes where."""
    host, instance, source, target = (
        _text(entry.get(word)) for word in ('host', 'instance', 'source', 'target'))
    return Move(float(entry['time']), frozenset({host}), instance, source, target)


def _rehearsed(entry: Mapping[str, Any]) -> Move:
    rate = entry.get('rate')
    known = isinstance(rate, int) and not isinstance(rate, bool) and 0 < rate < 1 << 62
    return dataclasses.replace(_ended(_decided(_move(entry), entry), entry),
                               rate=rate if known else None)


def _ended(one: Move, entry: Mapping[str, Any]) -> Move:
    return dataclasses.replace(one, ended=_text(entry.get('ended')),
                               error=_text(entry.get('error')))


def _decided(one: Move, entry: Mapping[str, Any]) -> Move:
    verdict, texts = _text(entry.get('verdict')), entry.get('rejections')
    rejections = tuple(_text(text) for text in texts) if isinstance(texts, list) else ()
    return dataclasses.replace(one, verdict=verdict if verdict in _VERDICTS else '',
                               rejections=tuple(filter(None, rejections)))


def _worse(ended: str, other: str) -> str:
    order = ('', past.COMPLETED, past.CANCELLED, past.STRAYED, past.FAILED)
    return max(ended, other, key=lambda word: order.index(word) if word in order else 0)


def _text(value: Any) -> str:
    return printable(without_credentials(value))[:_TEXT] if isinstance(value, str) else ''
