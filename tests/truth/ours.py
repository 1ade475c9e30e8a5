# SPDX-License-Identifier: Apache-2.0
"""What we say of a migration: the rounds of both hosts, the path, and the decisions, as
nova-compute makes them.
"""

from __future__ import annotations

import dataclasses
import time
import types
from typing import Any, ClassVar, Iterator, Mapping, Optional, Sequence

from nova_migcheck import cpu as cpus
from nova_migcheck.checks import loading
from nova_migcheck.checks.address import AddressCheck
from nova_migcheck.checks.base import Check, Result, Server, Settings
from nova_migcheck.checks.cpu import CpuCheck
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.checks.storage import StorageCheck
from nova_migcheck.checks.tls import TlsCheck
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.verdict import Guest, Verdict, judge, settle
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report import report as reports
from nova_migcheck.report.report import Report
from tests.lab import two_hosts
from tests.truth.plan import INSTANCES, SOURCE, TARGET
from tests.truth.stage import Stage

# All built-in checks but that of the endpoints: there is no control plane here.
CHECKS = ('address', 'cpu', 'machine', 'storage', 'tls', 'transport')
# Seconds, as probe_timeout by default.
TIMEOUT = 5.0
_HERE = __name__


class HostChecks(Check):
    """A round of a host: all of its checks."""

    NAME = 'round'
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {}

    def run(self, settings: Settings) -> Iterator[Result]:
        for check in (AddressCheck, CpuCheck, MachineCheck, StorageCheck, TlsCheck):
            yield from check().run(settings)


@dataclasses.dataclass(frozen=True)
class Said:
    """What was said.

    :ivar verdict: ``accepted``, ``rejected``, or ``unknown``: accepted, with a finding that it
    is not known
    :ivar checks: names of the checks that reject
    :ivar texts: of what rejects, or else of what warns
    """

    verdict: str
    checks: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, verdict: Verdict) -> Said:
        findings = verdict.rejections or verdict.warnings
        unknown = any(one.outcome is Outcome.UNKNOWN for one in verdict.warnings)
        word = 'rejected' if verdict.rejections else 'unknown' if unknown else 'accepted'
        named = verdict.rejections or tuple(
            one for one in verdict.warnings if one.outcome is Outcome.UNKNOWN
        )
        return cls(
            word,
            tuple(sorted({one.check for one in named})),
            tuple(sorted({one.code for one in named})),
            tuple(str(one) for one in findings),
        )


def ask(stage: Stage) -> Said:
    """Return what would be said of the guest's migration, in ``mode = enforce`` with all other
    options as they are by default.
    """
    policies = Policies(CHECKS)
    source, target = (_report(stage, name) for name in (SOURCE, TARGET))
    now = time.time()
    # The filter and the target decide alike; the target asks its own libvirt, too.
    used = source.guest(stage.uuid)
    compared = _compared(stage, used, target) if used is not None else None
    guest = Guest(
        used,
        frozenset({'local-disk'} if stage.plan.disk else ()),
        requirements=source.needs.of(stage.uuid),
    )
    verdict = judge(guest, source, target, now, policies, compared, TARGET)
    # The source.
    registry = loading.of(CHECKS)
    domain = cpuxml.parse(stage.libvirts[SOURCE].conn.lookupByUUIDString(stage.uuid).XMLDesc())
    verdict += settle(
        [
            *registry.compare(registry.needs(domain), target.common),
            *registry.leaves(domain, Server(), target.common),
        ],
        policies,
    )
    return Said.of(verdict + settle(_path(stage, target), policies))


def _report(stage: Stage, name: str) -> Report:
    """Return what a host publishes, as another one reads it."""
    registry = loading.of(CHECKS)
    entries = {one: loading.load(CHECKS)[one].entry for one in registry.needing}
    settings = dataclasses.replace(_settings(stage, name), guests=entries)
    found = stage.spaces[name].check(f'{_HERE}:HostChecks', settings)
    report = published.read(
        published.write(reports.build(time.time(), found.findings, found.facts, registry))
    )
    assert report is not None
    return report


def _settings(stage: Stage, name: str, target: Optional[Mapping[str, Any]] = None) -> Settings:
    options = {
        'connection_uri': stage.libvirts[name].uri,
        'my_ip': stage.plan.address(name, 'mgmt0'),
        'ask_target': 'auto',
        **stage.plan.hosts[name].nova,
    }
    path = options.pop('instances_path', INSTANCES)
    settings = two_hosts.settings(name, target=target, timeout=TIMEOUT, **options)
    groups = {
        **settings.options,
        'DEFAULT': {**settings.options['DEFAULT'], 'instances_path': path},
    }
    return dataclasses.replace(settings, options=groups)


def _path(stage: Stage, target: Report) -> list[Finding]:
    known = {**target.facts, 'host': TARGET, 'connect': stage.plan.used}
    settings = dataclasses.replace(_settings(stage, SOURCE, known), server=stage.uuid)
    return stage.source.check(two_hosts.TRANSPORT, settings).findings


def _compared(stage: Stage, used: cpus.Cpu, target: Report) -> cpus.Comparison:
    """Return what the target finds about the CPU when it asks its libvirt."""
    # It imports nova, which the other parts do without.
    from nova_migcheck.compute.destination import Destination

    asks: Any = types.SimpleNamespace(get_connection=lambda: stage.libvirts[TARGET].conn)
    none: Any = None
    return Destination(none, asks, Policies(CHECKS), none, none, none, none)._compare_here(
        used, target, none
    )
