# SPDX-License-Identifier: Apache-2.0
"""Format the cells of a list: objects for programs, words for people."""

from __future__ import annotations

from typing import Any, Sequence

from cliff import columns

from nova_migcheck.finding import Finding


class Findings(columns.FormattableColumn):
    """Findings: objects in JSON and YAML, one line each elsewhere."""

    @property
    def findings(self) -> Sequence[Finding]:
        """Return the findings themselves."""
        return list(self._value)

    def human_readable(self) -> str:
        """Return one line for each finding."""
        return '\n'.join(brief(finding) for finding in self.findings)

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return an object for each finding."""
        return [finding.to_dict() for finding in self.findings]


class Words(columns.FormattableColumn):
    """A mapping or a list of words: unchanged for programs, ``a=b c=d`` for people."""

    def human_readable(self) -> str:
        """Return the words in one line."""
        if isinstance(self._value, dict):
            return ' '.join(f'{key}={value}' for key, value in self._value.items())
        return ' '.join(self._value)


class Migrations(columns.FormattableColumn):
    """Past migrations: objects for programs, one line each for people."""

    def human_readable(self) -> str:
        """Return one line for each migration."""
        return '\n'.join(str(past) for past in self._value)

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return an object for each migration."""
        return [past.to_dict() for past in self._value]


def brief(finding: Finding) -> str:
    """Return a finding in one line, without its remedy."""
    origin = f' ({finding.origin})' if finding.origin else ''
    return f'{finding.check}: {summary(finding)}{origin}'


def summary(finding: Finding) -> str:
    """Return the subject and the detail of a finding; only the detail if it names the subject."""
    text = finding.detail or finding.subject
    if not finding.subject or finding.subject in text:
        return text
    return f'{finding.subject}: {text}'
