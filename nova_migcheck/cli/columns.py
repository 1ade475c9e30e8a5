# SPDX-License-Identifier: Apache-2.0
"""What one cell of a list holds: objects for programs, words for people."""

from __future__ import annotations

from cliff import columns

from nova_migcheck.finding import Finding
from nova_migcheck.report.past import Past


class Findings(columns.FormattableColumn):
    """Findings: objects in JSON and YAML, a line each elsewhere."""

    def human_readable(self) -> str:
        return '\n'.join(brief(Finding.from_dict(finding)) for finding in self._value)


class Words(columns.FormattableColumn):
    """A mapping or a list of words: as it is for machines, ``a=b c=d`` for people."""

    def human_readable(self) -> str:
        if isinstance(self._value, dict):
            return ' '.join(f'{key}={value}' for key, value in self._value.items())
        return ' '.join(self._value)


class Migrations(columns.FormattableColumn):
    """Migrations that are over: objects for machines, a line each for people."""

    def human_readable(self) -> str:
        return '\n'.join(str(Past(**past)) for past in self._value)


def brief(finding: Finding) -> str:
    """A finding without its remedy."""
    return f'{finding.check}: {said(finding)}' + (f' ({finding.origin})' if finding.origin else '')


def said(finding: Finding) -> str:
    """What was found, and of what."""
    text = finding.detail or finding.subject
    return text if not finding.subject or finding.subject in text else f'{finding.subject}: {text}'
