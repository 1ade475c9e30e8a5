# SPDX-License-Identifier: Apache-2.0
"""Format the cells of a list: objects for programs, words for people."""

from __future__ import annotations

from typing import Any, Iterable, Sequence, Union

from cliff import columns

from nova_migcheck.finding import Finding, summary
from nova_migcheck.report.past import Past


class Findings(columns.FormattableColumn):
    """Findings in one column of a flat list, one line each."""

    @property
    def findings(self) -> Sequence[Finding]:
        """Return the findings themselves."""
        return list(self._value)

    def human_readable(self) -> str:
        """Return one line for each finding."""
        return '\n'.join(brief(finding) for finding in self.findings)


def objects(values: Iterable[Union[Finding, Past]]) -> list[dict[str, Any]]:
    """Return findings or past migrations for JSON and YAML."""
    return [value.to_dict() for value in values]


def brief(finding: Finding) -> str:
    """Return a finding in one line, without its remedy."""
    origin = f' ({finding.origin})' if finding.origin else ''
    return f'{finding.check}: {summary(finding)}{origin}'
