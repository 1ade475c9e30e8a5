# SPDX-License-Identifier: Apache-2.0
"""What a check found: a value, never an exception.

The shape follows ``oslo.upgradecheck``: every result says what is wrong *and* what to do about it, and one list of
results feeds the log, the table, the JSON and the exit code.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any, Iterable


class Outcome(str, enum.Enum):
    """How one thing was found to be.

    ``UNKNOWN`` (could not tell) is not ``FAILURE``: what each of them means for a migration is the operator's policy.
    """

    OK = 'ok'
    WARNING = 'warning'
    FAILURE = 'failure'
    UNKNOWN = 'unknown'

    def __str__(self) -> str:
        return self.value


#: Outcomes by how much they matter.
WORST_FIRST = (Outcome.FAILURE, Outcome.UNKNOWN, Outcome.WARNING, Outcome.OK)

# The longest text that one field of a finding keeps, in characters. A check that was written badly must not be able to
# fill the report, the log or the user's screen.
MAX_FIELD = 1000

# Most things that one finding lists one by one.
MAX_SUBJECTS = 200


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that one check looked at.

    :param check: name of the check, as in the ``nova_migcheck.checks`` entry point
    :param outcome: an :class:`Outcome`
    :param subject: the thing, e.g. ``live_migration_inbound_addr`` or ``http://10.0.0.5:8780``; no credentials
    :param detail: what was found
    :param origin: where the subject comes from: a file and line, an option, the service catalog
    :param remedy: what the operator can do
    :param scope: empty when every migration is concerned, else what a server must have for this to matter
        (``volumes``, ``encryption``, ``local-disk``)
    :param subjects: each of several things that the finding sums up, e.g. all dead URLs of one address, where the detail names the
        first ones only; for programs, on the host itself. It is not published.
    """

    check: str
    outcome: Outcome
    subject: str = ''
    detail: str = ''
    origin: str = ''
    remedy: str = ''
    scope: str = ''
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'outcome', Outcome(self.outcome))
        for name in ('check', 'subject', 'detail', 'origin', 'remedy', 'scope'):
            object.__setattr__(self, name, _clean(getattr(self, name)))
        object.__setattr__(self, 'subjects', tuple(_clean(subject) for subject in self.subjects[:MAX_SUBJECTS]))

    def to_dict(self) -> dict[str, Any]:
        """The six keys of a finding's JSON object, and ``scope`` and ``subjects`` where there are any."""
        found: dict[str, Any] = {'check': self.check, 'outcome': self.outcome.value, 'subject': self.subject, 'detail': self.detail,
                 'origin': self.origin, 'remedy': self.remedy}
        if self.scope:
            found['scope'] = self.scope
        if self.subjects:
            found['subjects'] = list(self.subjects)
        return found

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Finding:
        """Read what :meth:`to_dict` wrote.

        :raises ValueError: when it is not a finding
        """
        if not isinstance(value, Mapping):
            raise ValueError('a finding is a JSON object')
        texts = {}
        for name in ('check', 'subject', 'detail', 'origin', 'remedy', 'scope'):
            text = value.get(name, '')
            if not isinstance(text, str):
                raise ValueError(f'{name} of a finding is a string')
            texts[name] = text
        if not texts['check']:
            raise ValueError('a finding names its check')
        subjects = value.get('subjects', ())
        if not isinstance(subjects, (list, tuple)) or not all(isinstance(subject, str) for subject in subjects):
            raise ValueError('subjects of a finding are strings')
        return cls(outcome=Outcome(value.get('outcome')), subjects=tuple(subjects), **texts)

    def __str__(self) -> str:
        """One line for the log: the check first, then what was found, where it comes from, and what to do."""
        text = f'{self.check}: {self.detail or self.subject}'
        if self.subject and self.subject not in text:
            text = f'{self.check}: {self.subject}: {self.detail}'
        if self.origin:
            text += f' ({self.origin})'
        if self.remedy:
            text += f'; {self.remedy}'
        return text


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that matters most: failure, then unknown, then warning; ``OK`` for none."""
    found = set(outcomes)
    return next((o for o in WORST_FIRST if o in found), Outcome.OK)


# A scheme is any word: what looks like user:password@ in front of a host goes, whatever the URL is for.
_USERINFO = re.compile(r'(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<userinfo>[^/?#\s]*@)')
# transport_url carries several hosts behind one scheme, each with a userinfo of its own.
_NEXT_USERINFO = re.compile(r'(?P<before>,)[^/?#\s,@:]*:[^/?#\s,@]*@')
_UNPRINTABLE = re.compile(r'[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]+')


def without_credentials(text: str) -> str:
    """``text`` without the ``user:password@`` of any URL in it.

    A URL's authority may hold several hosts (oslo.messaging's ``transport_url``) and a password may hold ``@``, so all
    up to the last ``@`` of each host goes.
    """
    def strip(match: re.Match[str]) -> str:
        hosts = [part.rpartition('@')[2] for part in match['userinfo'].split(',')]
        return match['scheme'] + ','.join(hosts)
    return _NEXT_USERINFO.sub(r'\g<before>', _USERINFO.sub(strip, text))


def printable(text: str) -> str:
    """``text`` without what could command a terminal."""
    return _UNPRINTABLE.sub(' ', text)


def _clean(text: Any) -> str:
    """A field as it may be stored and shown: bounded, printable, without credentials."""
    text = text if isinstance(text, str) else str(text)
    if len(text) > MAX_FIELD:
        text = text[:MAX_FIELD - 1] + '…'
    if '@' in text:
        text = without_credentials(text)
    return text if text.isprintable() else printable(text)
