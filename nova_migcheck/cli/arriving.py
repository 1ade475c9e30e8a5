# SPDX-License-Identifier: Apache-2.0
"""What this host would find about a server that is to come here: ``check --server``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from nova_migcheck.checks.base import Arrival
from nova_migcheck.checks.registry import Registry
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.verdict import judge_fresh
from nova_migcheck.libvirtd import connection
from nova_migcheck.policies import Policies
from nova_migcheck.report import report as reports
from nova_migcheck.rounds import runner
from nova_migcheck.rounds.reader import Reader

if TYPE_CHECKING:
    from nova_migcheck.novadb.conductor import Coming


def findings(conf: Any, chosen: Mapping[str, runner.Loaded], coming: Coming,
             outcome: runner.Round) -> Iterator[Finding]:
    """Yield what the destination would find besides what it finds about itself.

    :param conf: with ``[migcheck]``
    :param chosen: the checks to run, those of a server among them
    :param outcome: a round of the checks of this host
    """
    registry = Registry([one.check for one in chosen.values() if one.check is not None])
    if coming.guest.cpu is None and not coming.guest.requirements:
        yield Finding('report', Outcome.UNKNOWN, 'guest',
                      f'what the guest needs is unknown: {coming.server.host} has published no '
                      'report, or an old one', 'ComputeNode.stats',
                      'see nova-compute there', code='guest-unknown')
    policies = dataclasses.replace(Policies.from_conf(conf.migcheck), checks=tuple(chosen))
    here = reports.build(outcome.started, outcome.findings, outcome.facts, registry)
    verdict = judge_fresh(coming.guest, coming.source, here, policies, name=str(conf.host))
    yield from (finding for finding in (*verdict.rejections, *verdict.warnings)
                if finding not in outcome.findings)
    server = dataclasses.replace(coming.server, here=here.common)
    reader = Reader(conf)
    yield from _in_the_way(reader, registry, server)
    yield from _looked_at(conf, reader, registry, chosen, server, coming)


def _in_the_way(reader: Reader, registry: Registry, server: Arrival) -> Iterator[Finding]:
    """Yield what an earlier attempt has left here."""
    for check in list(registry.arriving.values())[:1]:
        settings = reader.read(check)
        if connection.uri(settings) is not None:
            yield from connection.ask(check(), settings,
                                      lambda conn: iter(registry.arrives(server, conn)))


def _looked_at(conf: Any, reader: Reader, registry: Registry, chosen: Mapping[str, runner.Loaded],
               server: Arrival, coming: Coming) -> Iterator[Finding]:
    """Yield what the checks of a server find."""
    needs = registry.concerned(server, coming.guest.requirements)
    settings = {
        name: reader.of_server(check, server, needs[name], coming.volumes)
        for name, check in registry.of_servers.items()
        if name in needs and (coming.volumes or not check.READS_VOLUMES)}
    checks = {name: chosen[name] for name in settings}
    yield from runner.Runner(checks).run(settings, conf.migcheck.round_deadline).findings
