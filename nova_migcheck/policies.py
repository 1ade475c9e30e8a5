# SPDX-License-Identifier: Apache-2.0
"""What an operator wants done about each outcome of each check."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from nova_migcheck.finding import Finding, Outcome

REJECT = 'reject'
WARN = 'warn'
IGNORE = 'ignore'


def policy(policies: Mapping[str, str], check: str, fallback: str = WARN) -> str:
    """Return what an ``on_…`` option says for one check."""
    return policies.get(check, policies.get('', fallback))


@dataclasses.dataclass(frozen=True)
class Policies:
    """What each outcome means: check -> ``reject``, ``warn`` or ``ignore``.

    These are the ``[migcheck] on_…`` options. The key '' is the default.

    :param checks: the enabled checks
    :param stale_after: seconds
    """

    checks: tuple[str, ...] = ()
    stale_after: float = 300
    on_failure: Mapping[str, str] = dataclasses.field(default_factory=lambda: {'': REJECT})
    on_unknown: Mapping[str, str] = dataclasses.field(default_factory=lambda: {'': WARN})
    on_missing: Mapping[str, str] = dataclasses.field(default_factory=lambda: {'': WARN})
    on_stale: Mapping[str, str] = dataclasses.field(default_factory=lambda: {'': WARN})

    @classmethod
    def from_conf(cls, group: Any) -> Policies:
        """Return the policies of ``CONF.migcheck``."""
        return cls(tuple(group.checks), group.stale_after, group.on_failure, group.on_unknown,
                   group.on_missing, group.on_stale)

    def of(self, finding: Finding) -> str:
        """Return the policy for a finding. A warning warns, whatever the check."""
        if finding.outcome is Outcome.FAILURE:
            return policy(self.on_failure, finding.check, REJECT)
        if finding.outcome is Outcome.UNKNOWN:
            return policy(self.on_unknown, finding.check, WARN)
        return WARN if finding.outcome is Outcome.WARNING else IGNORE

    def strictest(self, policies: Mapping[str, str]) -> str:
        """Return the strictest policy among the enabled checks."""
        wanted = {policy(policies, check) for check in self.checks} or {policy(policies, '')}
        return next(p for p in (REJECT, WARN, IGNORE) if p in wanted)
