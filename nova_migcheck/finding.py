# SPDX-License-Identifier: Apache-2.0
"""The result of a check: a value, never an exception.

The shape follows ``oslo.upgradecheck``: every result names what is wrong and what to do about it.
One list of results feeds the log, the table, the JSON and the exit code.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any, Iterable


class Outcome(str, enum.Enum):
    """The outcome of looking at one thing.

    ``UNKNOWN`` (the check could not determine it) is not ``FAILURE``. The operator's policy decides
    what each of them means for a migration.
    """

    OK = 'ok'
    WARNING = 'warning'
    FAILURE = 'failure'
    UNKNOWN = 'unknown'

    def __str__(self) -> str:
        return self.value


#: Outcomes, the worst first.
WORST_FIRST = (Outcome.FAILURE, Outcome.UNKNOWN, Outcome.WARNING, Outcome.OK)

# Maximum length of one field of a finding, in characters. A badly written check must not be able to
# fill the report, the log or the user's screen.
MAX_FIELD = 1000

# Maximum number of things that one finding lists.
MAX_SUBJECTS = 200

_TEXTS = ('check', 'subject', 'detail', 'origin', 'remedy', 'scope', 'code')


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a check looked at.

    :param check: name of the check, as in the ``nova_migcheck.checks`` entry point
    :param outcome: an :class:`Outcome`
    :param subject: the thing, e.g. ``live_migration_inbound_addr`` or ``http://10.0.0.5:8780``;
        without credentials
    :param detail: what is the case
    :param origin: where the subject comes from: a file and line, an option, the service catalog
    :param remedy: what the operator can do
    :param scope: empty when it concerns every migration, else what a server must have for the
        finding to matter (``volumes``, ``encryption``, ``local-disk``)
    :param subjects: each of several things that the finding sums up, e.g. all dead URLs of one
        address, when the detail names only the first ones. It is for programs on the host itself
        and is not published.
    :param code: which kind of finding it is, e.g. ``address-wrong-interface``: one of those that
        its check declares, or of ``codes.COMMON``. An ``ok`` has none
    """

    check: str
    outcome: Outcome
    subject: str = ''
    detail: str = ''
    origin: str = ''
    remedy: str = ''
    scope: str = ''
    subjects: tuple[str, ...] = ()
    code: str = ''

    def __post_init__(self) -> None:
        object.__setattr__(self, 'outcome', Outcome(self.outcome))
        for name in _TEXTS:
            object.__setattr__(self, name, _clean(getattr(self, name)))
        subjects = tuple(_clean(subject) for subject in self.subjects[:MAX_SUBJECTS])
        object.__setattr__(self, 'subjects', subjects)

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as a JSON object.

        It has six keys, and ``scope``, ``code`` and ``subjects`` if they are not empty.
        """
        result: dict[str, Any] = {
            'check': self.check, 'outcome': self.outcome.value, 'subject': self.subject,
            'detail': self.detail, 'origin': self.origin, 'remedy': self.remedy}
        if self.scope:
            result['scope'] = self.scope
        if self.code:
            result['code'] = self.code
        if self.subjects:
            result['subjects'] = list(self.subjects)
        return result

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Finding:
        """Return the finding that :meth:`to_dict` wrote.

        :raises ValueError: when ``value`` is not a finding
        """
        if not isinstance(value, Mapping):
            raise ValueError('a finding is a JSON object')
        texts = {}
        for name in _TEXTS:
            text = value.get(name, '')
            if not isinstance(text, str):
                raise ValueError(f'{name} of a finding is a string')
            texts[name] = text
        if not texts['check']:
            raise ValueError('a finding names its check')
        subjects = value.get('subjects', ())
        if (not isinstance(subjects, (list, tuple))
                or not all(isinstance(subject, str) for subject in subjects)):
            raise ValueError('subjects of a finding are strings')
        return cls(outcome=Outcome(value.get('outcome')), subjects=tuple(subjects), **texts)

    def __str__(self) -> str:
        """Return one line for the log: the check, the detail, the origin, the remedy, the code."""
        text = f'{self.check}: {self.detail or self.subject}'
        if self.subject and self.subject not in text:
            text = f'{self.check}: {self.subject}: {self.detail}'
        if self.origin:
            text += f' ({self.origin})'
        if self.remedy:
            text += f'; {self.remedy}'
        if self.code:
            text += f' [{self.code}]'
        return text


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst outcome: failure, then unknown, then warning; ``OK`` if there is none."""
    present = set(outcomes)
    return next((outcome for outcome in WORST_FIRST if outcome in present), Outcome.OK)


def summary(finding: Finding) -> str:
    """Return the subject and the detail of a finding; only the detail if it names the subject."""
    text = finding.detail or finding.subject
    if not finding.subject or finding.subject in text:
        return text
    return f'{finding.subject}: {text}'


# Any word counts as a scheme: user:password@ before a host is removed, whatever the URL is for.
_USERINFO = re.compile(r'(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<userinfo>[^/?#\s]*@)')
# A transport_url has several hosts after one scheme, each with its own userinfo.
_NEXT_USERINFO = re.compile(r'(?P<before>,)[^/?#\s,@:]*:[^/?#\s,@]*@')
_UNPRINTABLE = re.compile(r'[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]+')


def without_credentials(text: str) -> str:
    """Return ``text`` without the ``user:password@`` of any URL in it.

    A URL may have several hosts (oslo.messaging's ``transport_url``), and a password may contain
    ``@``. So everything up to the last ``@`` of each host is removed.
    """
    def strip(match: re.Match[str]) -> str:
        hosts = [part.rpartition('@')[2] for part in match['userinfo'].split(',')]
        return match['scheme'] + ','.join(hosts)
    return _NEXT_USERINFO.sub(r'\g<before>', _USERINFO.sub(strip, text))


def printable(text: str) -> str:
    """Return ``text`` without the characters that can control a terminal."""
    return _UNPRINTABLE.sub(' ', text)


def _clean(text: Any) -> str:
    """Return a field that is bounded, printable and without credentials."""
    text = text if isinstance(text, str) else str(text)
    if len(text) > MAX_FIELD:
        text = text[:MAX_FIELD - 1] + '…'
    if '@' in text:
        text = without_credentials(text)
    return text if text.isprintable() else printable(text)
