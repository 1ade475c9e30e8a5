# SPDX-License-Identifier: Apache-2.0
"""Decide whether a guest may migrate from one host to another.

Pure: the filter, the hooks and the command line all decide here.
"""

from __future__ import annotations

import dataclasses
from typing import Iterable, Optional

from nova_migcheck import cpu as cpus
from nova_migcheck.checks import loading
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.policies import REJECT, WARN, Policies
from nova_migcheck.report.report import Report


@dataclasses.dataclass(frozen=True)
class Guest:
    """What is to be migrated.

    :param cpu: what it uses; None when that is unknown (or plays no part: see ``running``)
    :param needs: which findings with a scope concern it: ``volumes``, ``encryption``,
        ``local-disk``
    :param requirements: what it needs of a target besides its CPU, as JSON (``checks.needs``)
    :param running: False when it is started again on the target (cold migration, evacuation).
        Then neither its CPU nor the migration network plays a part
    """

    cpu: Optional[cpus.Cpu] = None
    needs: frozenset[str] = frozenset()
    running: bool = True
    requirements: str = ''


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was decided, and why.

    :param rejections: findings for which the target is refused; none: it is accepted
    :param warnings: findings that are worth a line in the log
    """

    rejections: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether nothing rejects the target."""
        return not self.rejections

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.rejections + other.rejections, self.warnings + other.warnings)


def judge(guest: Guest, source: Optional[Report], target: Optional[Report], now: float,
          policies: Policies, compared: Optional[cpus.Comparison] = None, name: str = '',
          together: Optional[list[Finding]] = None) -> Verdict:
    """Decide whether ``guest`` may go from the host of ``source`` to the host of ``target``.

    :param source: the source's report, None when it has none
    :param target: the target's report, None when it has none
    :param now: seconds since the epoch
    :param compared: the answer of the target's own libvirt about the guest's CPU, if it was asked.
        It overrules our comparison
    :param name: the target's, for the text
    :param together: the result of :func:`between`, if it is there already
    """
    if target is None:
        missing = Finding('report', Outcome.UNKNOWN, 'report', 'it has published no report',
                          'ComputeNode.stats', 'install and enable nova-migcheck there, and see '
                          'its nova-compute log', code='report-missing')
        return _by(policies.strictest(policies.on_missing), missing) + _guest_on(
            guest, None, policies, compared, name)
    if not is_fresh(target.time, now, policies.stale_after):
        finding = stale(target.time, now, policies.stale_after)
        return _by(policies.strictest(policies.on_stale), finding) + _guest_on(
            guest, None, policies, compared, name)
    return judge_fresh(guest, source, target, policies, compared, name, together)


def judge_fresh(guest: Guest, source: Optional[Report], target: Report, policies: Policies,
                compared: Optional[cpus.Comparison] = None, name: str = '',
                together: Optional[list[Finding]] = None) -> Verdict:
    """Decide as :func:`judge` does, for a target whose report is there and believed."""
    verdict = _guest_on(guest, target, policies, compared, name)
    findings = list(target.findings)
    if guest.running and guest.requirements:
        findings += loading.of(policies.checks).compare(
            guest.requirements, target.common, source.common if source else None)
    if guest.running and source is not None:
        findings += between(source, target, policies) if together is None else together
        findings += loading.of(policies.checks).same(source.own, target.own)
    return settle(concerning(guest, findings), policies) + verdict


def concerning(guest: Guest, findings: Iterable[Finding]) -> list[Finding]:
    """Return those of a target's findings that concern this guest."""
    return [f for f in findings if not f.scope or f.scope in guest.needs]


def settle(findings: list[Finding], policies: Policies) -> Verdict:
    """Return the verdict that the policies make of findings."""
    pairs = [(policies.of(finding), finding) for finding in findings]
    return Verdict(tuple([finding for policy, finding in pairs if policy == REJECT]),
                   tuple([finding for policy, finding in pairs if policy == WARN]))


def is_fresh(time: float, now: float, stale_after: float) -> bool:
    """Return whether a report of ``time`` is believed.

    One from the future is as wrong as one from the past: that host's clock is off.
    """
    return abs(now - time) <= stale_after


def stale(time: float, now: float, stale_after: float) -> Finding:
    """Return the finding for a report that is too old."""
    age = now - time
    when = f'{age:.0f} s old' if age >= 0 else f'{-age:.0f} s in the future'
    return Finding('report', Outcome.UNKNOWN, 'report',
                   f'its report is {when} (limit {stale_after:g} s) and is not believed',
                   'ComputeNode.stats', 'see that nova-compute runs there, and its clock',
                   code='report-stale')


def between(source: Report, target: Report, policies: Policies) -> list[Finding]:
    """Return what the enabled checks find by comparing the facts of two hosts.

    Only what is alike on many hosts takes part (see ``report.published``).
    """
    return loading.of(policies.checks).between(source.common, target.common)


def _guest_on(guest: Guest, target: Optional[Report], policies: Policies,
              compared: Optional[cpus.Comparison], name: str) -> Verdict:
    """Decide whether the target gives the guest the CPU that it uses."""
    if not guest.running or 'cpu' not in policies.checks:
        return Verdict()
    if compared is None:
        if target is None or guest.cpu is None:
            return Verdict()
        if target.cpu is None:
            # Its own finding says why; without one it runs no CPU check, which is no fault.
            return Verdict()
        compared = cpus.compare(guest.cpu, target.cpu)
    if compared.compatible:
        return Verdict()
    outcome = Outcome.FAILURE if compared.outcome == cpus.INCOMPATIBLE else Outcome.UNKNOWN
    whom = f'target {name}' if name else 'target'
    remedy = compared.remedy or (
        'choose another target, or give all hosts one CPU: nova-migcheck baseline')
    return settle([Finding('cpu', outcome, whom, f'{whom} {compared.reason}',
                           'libvirt domain capabilities', remedy, code=compared.code)], policies)


def _by(policy: str, finding: Finding) -> Verdict:
    if policy == REJECT:
        return Verdict((finding,))
    return Verdict((), (finding,)) if policy == WARN else Verdict()
