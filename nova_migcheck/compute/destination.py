# SPDX-License-Identifier: Apache-2.0
"""Decide on the destination, when Nova asks whether a server may come here."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple, Optional

from nova import exception
from oslo_log import log as logging

from nova_migcheck import cpu as cpus
from nova_migcheck.aftermath import ledger
from nova_migcheck.aftermath.watch import Watch
from nova_migcheck.checks import loading
from nova_migcheck.compute.arrival import CONDUCTOR, Arrivals, Disks
from nova_migcheck.compute.refusal import Refusals
from nova_migcheck.compute.reporter import Reporter
from nova_migcheck.cpu import hypervisor
from nova_migcheck.cpu.population import fingerprint
from nova_migcheck.deadline import Bounded, Call
from nova_migcheck.judging.verdict import Guest, Verdict, between, judge, settle
from nova_migcheck.novadb import arriving, moves
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

# The name under which operators know this part in the log of nova-compute.
LOG = logging.getLogger('nova_migcheck.hook')

# Seconds that libvirtd may take for one question. It needs 0.2 ms, but 8 to 12 s while it probes
# QEMU after its own start.
LIBVIRT = 15.0
# How the destination tells the source its host name, and after a space the fingerprint of the CPU
# that it accepted. Nova's own check on the source overwrites this field after ours has read it; it
# is the only text of LibvirtLiveMigrateData that nobody reads before.
HOST_MARK = 'migcheck:'


class Compared(NamedTuple):
    """What the destination found about the CPU of a guest.

    :ivar context: of the request
    :ivar cpu: the guest's, according to the source's report
    :ivar comparison: of it with what this host provides
    """

    context: Any
    cpu: cpus.Cpu
    comparison: cpus.Comparison


class Destination:
    """This host as the target of live migrations.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param libvirt_host: Nova's own ``nova.virt.libvirt.host.Host``
    """

    def __init__(self, conf: Any, libvirt_host: Any, policies: Policies, refusals: Refusals,
                 reporter: Reporter, watch: Watch, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._conf = conf
        self._libvirt = libvirt_host
        self._policies = policies
        self._refusals = refusals
        self._reporter = reporter
        self._watch = watch
        self._bounded = Bounded()

    def decide(self, context: Any, instance: Any, src_compute_info: Any) -> Optional[Compared]:
        """Decide whether this host takes ``instance``.

        :param src_compute_info: primitive of the source's ComputeNode
        :returns: what was found about the CPU of the guest itself, None when that is not known
        :raises nova.exception.MigrationPreCheckError: it does not; the text begins with the check
        """
        stats = src_compute_info.get('stats') if isinstance(src_compute_info, dict) else None
        source = read_report(stats, 'the source', instance)
        begun = time.monotonic()
        disks = Disks(context, instance)
        # They are looked at while a round may run, and anew at each decision.
        arrival = self._arrivals.begin(instance, disks, self._requirements(instance, source),
                                       source, self._reporter.report)
        target = self._reporter.fresh(self._conf.migcheck.recheck_after)
        verdict, found = self._judge(context, instance, source, target, disks)
        transient = loading.of(self._policies.checks).transient
        if any(finding.check in transient for finding in verdict.rejections):
            # A fault that was seen before this decision may have been repaired since.
            target = self._reporter.fresh(time.monotonic() - begun)
            verdict, found = self._judge(context, instance, source, target, disks)
        verdict += settle(arrival(target), self._policies)
        self._refusals.enforce(context, instance, self._conf.host, verdict, source,
                               ledger.of_guest(source, instance.uuid))
        self._watch.remember_findings(instance.uuid, self._conf.host,
                                      verdict.rejections + verdict.warnings)
        return found

    def _requirements(self, instance: Any, source: Optional[Report]) -> str:
        """Return what the guest needs besides its CPU, '' when that is not known."""
        return arriving.requirements(instance, source, self._conf.migcheck)

    def _judge(self, context: Any, instance: Any, source: Optional[Report],
               target: Optional[Report], disks: Disks) -> tuple[Verdict, Optional[Compared]]:
        """Return the verdict on this host, and what was found about the CPU of the guest."""
        now = time.time()
        cpu, compared = self._compare_cpu(context, instance, source, target, now)
        guest = Guest(cpu, self._needs(instance, source, target, disks),
                      requirements=self._requirements(instance, source))
        verdict = judge(guest, source, target, now, self._policies, compared, self._conf.host)
        if cpu is None or compared is None:
            return verdict, None
        return verdict, Compared(context, cpu, compared)

    def _compare_cpu(self, context: Any, instance: Any, source: Optional[Report],
                     target: Optional[Report], now: float
                     ) -> tuple[Optional[cpus.Cpu], Optional[cpus.Comparison]]:
        """Return the guest's CPU and how it compares with this host, None for what is unknown."""
        migcheck = self._conf.migcheck
        if source is None or not source.knows(0, now, migcheck):
            return None, None
        cpu = source.guest(instance.uuid)
        if cpu is None or 'cpu' not in self._policies.checks:
            return cpu, None
        compared = self._compare_here(cpu, target, instance)
        if not compared.compatible:
            arrived = self._arrived(context, instance)
            if arrived is None or not source.knows(arrived, now, migcheck):
                # It came there after the source's last report, which may be wrong about it.
                # The source itself will look at the CPU that the guest has now.
                return None, None
        return cpu, compared

    def _compare_here(self, cpu: cpus.Cpu, target: Optional[Report], instance: Any
                      ) -> cpus.Comparison:
        """Ask this host's libvirt about the guest's CPU. It overrules our own arithmetic."""
        try:
            asked = self._bounded.call(LIBVIRT, lambda: hypervisor.ask_and_count(
                self._libvirt.get_connection(), cpu, target.cpu if target else None))
        except (TimeoutError, exception.HypervisorUnavailable) as e:
            asked = cpus.Comparison(
                cpus.UNKNOWN, reason=f'cannot say: libvirt gave no answer: {e}')
        if target is None or target.cpu is None:
            return asked
        # Where libvirt accepts, it knows the names in the guest's definition.
        spelled = frozenset[str]() if asked.compatible else cpu.spelled
        counted = cpus.compare(dataclasses.replace(cpu, spelled=spelled), target.cpu)
        if asked.outcome == cpus.UNKNOWN:
            return counted if counted.outcome != cpus.UNKNOWN else asked
        if asked.compatible:
            beyond = cpus.compare(_beyond_libvirt(cpu, target.cpu), target.cpu)
            if beyond.outcome == cpus.INCOMPATIBLE or (
                    cpu.tsc_hz is not None and not beyond.compatible):
                return beyond
        elif counted.outcome == cpus.INCOMPATIBLE and not asked.missing:
            # Both say incompatible, but our message names both vendors.
            return counted
        if asked.outcome != counted.outcome and counted.outcome != cpus.UNKNOWN:
            LOG.warning('libvirt and the comparison of features disagree about the CPU of the '
                        'guest, libvirt is believed. libvirt: %s. Features: %s',
                        asked.reason or asked.outcome, counted.reason or counted.outcome,
                        instance=instance)
        return asked

    def _arrived(self, context: Any, instance: Any) -> Optional[float]:
        """Return when the server came to its source, None when the conductor does not say."""
        call = Call(moves.arrived, context, instance.uuid, instance.host)
        try:
            return call.wait(CONDUCTOR)
        except Exception as e:  # of the conductor, or of the database behind it: any class
            LOG.warning('The migrations of this server cannot be read from nova-conductor, so its '
                        'CPU is only checked on its source: %s: %s', type(e).__name__, e,
                        instance=instance)
            return None

    def _needs(self, instance: Any, source: Optional[Report], target: Optional[Report],
               disks: Disks) -> frozenset[str]:
        """Return which of the findings with a scope concern this server.

        Costs a query only where there is such a finding.
        """
        if target is None:
            return frozenset()
        findings = (*target.findings, *(between(source, target, self._policies) if source else ()))
        if not any(finding.scope for finding in findings):
            return frozenset()
        try:
            return arriving.scopes(instance, disks.mappings())
        except Exception as e:  # of the conductor, or of the database behind it: any class
            LOG.warning('The disks of this server cannot be read from nova-conductor; they count '
                        'as local ones: %s: %s', type(e).__name__, e, instance=instance)
            return frozenset({'local-disk'})

    def tell_source(self, migrate_data: Any, compared: Optional[Compared] = None) -> None:
        """Tell the source which address to contact. ``pre_live_migration`` overwrites it."""
        migrate_data.target_connect_addr = (
            self._conf.libvirt.live_migration_inbound_addr or self._conf.host)
        accepted = ''
        if compared is not None and compared.comparison.compatible:
            accepted = fingerprint(compared.cpu)
        migrate_data.instance_relative_path = f'{HOST_MARK}{self._conf.host} {accepted}'

    def refuse_as_nova(self, compared: Compared, instance: Any, error: Exception) -> None:
        """Refuse, since Nova's own CPU check refuses what ours found compatible, and say so.

        Both options stand within the 255 bytes that Nova keeps of an error.

        :raises nova.exception.MigrationPreCheckError: always
        """
        text = ("cpu: Nova's own comparison refuses this host, which provides all that the guest "
                'uses (LP#2039803); see [workarounds] skip_cpu_compare_on_dest and [migcheck] '
                f'nova_cpu_check [cpu-refused-by-nova] [target {self._conf.host}]')
        LOG.warning('%s: %s', text, error, instance=instance)
        self._refusals.leave_event(compared.context, instance, self._conf.host, text)
        raise exception.MigrationPreCheckError(f'{text}: {error}')


def _beyond_libvirt(guest: cpus.Cpu, host: cpus.Cpu) -> cpus.Cpu:
    """Return what libvirt's comparison does not look at: TSC frequency and virt type."""
    return dataclasses.replace(guest, vendor=None, model=host.model, features=frozenset(),
                               forbids=frozenset(), at_most=None, spelled=frozenset())


def read_report(stats: Any, whose: str, instance: Any) -> Optional[Report]:
    """Return the report in the ``stats`` of a host, None when it has none that can be read."""
    try:
        return published.read(stats)
    except published.Unreadable as e:
        LOG.warning('The report of %s cannot be read, it counts as missing: %s', whose, e,
                    instance=instance)
        return None
