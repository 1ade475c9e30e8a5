# SPDX-License-Identifier: Apache-2.0
"""Decide on the source, when Nova asks whether a server may go to the target that was chosen."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any, Callable, Iterable, Mapping, Optional

from nova import exception, objects
from oslo_log import log as logging

from nova_migcheck import cpu as cpus
from nova_migcheck.aftermath import ledger
from nova_migcheck.aftermath.watch import Watch
from nova_migcheck.checks import loading
from nova_migcheck.checks.base import Server
from nova_migcheck.compute.arrival import CONDUCTOR
from nova_migcheck.compute.destination import HOST_MARK, LIBVIRT, read_report
from nova_migcheck.compute.refusal import Refusals
from nova_migcheck.compute.reporter import Reporter
from nova_migcheck.cpu import hypervisor
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.population import fingerprint
from nova_migcheck.deadline import Bounded, Call
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.verdict import Guest, Verdict, judge, settle
from nova_migcheck.policies import Policies
from nova_migcheck.report import past
from nova_migcheck.report.report import Report
from nova_migcheck.rounds import process, runner
from nova_migcheck.rounds.reader import Reader

# The name under which operators know this part in the log of nova-compute.
LOG = logging.getLogger('nova_migcheck.hook')

# Maximum number of concurrent path checks on a source host.
PATHS = 4


class Source:
    """This host as the source of live migrations.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param libvirt_host: Nova's own ``nova.virt.libvirt.host.Host``
    :param checks: the checks of ``WHEN = 'path'``
    """

    def __init__(self, conf: Any, libvirt_host: Any, policies: Policies, refusals: Refusals,
                 reporter: Reporter, watch: Watch, reader: Reader,
                 checks: Mapping[str, runner.Loaded]) -> None:
        self._conf = conf
        self._libvirt = libvirt_host
        self._policies = policies
        self._refusals = refusals
        self._reporter = reporter
        self._watch = watch
        self._reader = reader
        self._checks = checks
        self._bounded = Bounded()
        self._paths = threading.BoundedSemaphore(PATHS)

    def begin(self, context: Any, instance: Any, migrate_data: Any,
              block_device_info: Any = None) -> Optional[Callable[[], None]]:
        """Begin to check the path from here to where ``migrate_data`` says.

        Nova's own check runs meanwhile, and overwrites our mark.

        :returns: a function that waits for the answer and decides: it raises
            nova.exception.MigrationPreCheckError when ``instance`` cannot go there. None when
            there is nothing to decide.
        """
        mark = ''
        if 'instance_relative_path' in migrate_data:
            mark = migrate_data.instance_relative_path or ''
        if not mark.startswith(HOST_MARK):
            LOG.info('The target does not run nova-migcheck: the path to it is not checked',
                     instance=instance)
            return None
        # A target of an earlier version tells more, as JSON after the two words.
        host, accepted, _ = (mark[len(HOST_MARK):] + '  ').split(' ', 2)
        published = Call(self._target_report, context, host, instance)
        path = Call(self._check_path, host, migrate_data.target_connect_addr, published,
                    instance.uuid)

        def decide() -> None:
            target = published.wait(self._longest())
            verdict = self._guest_leaves(instance, host, accepted, target)
            verdict += settle(self._needs_fit(instance, target), self._policies)
            verdict += settle(path.wait(self._longest()), self._policies)
            past_ones = past.warn(self._watch.pasts(), past.OUT, host, time.time())
            verdict += settle(past_ones, self._policies)
            self._refusals.enforce(context, instance, host, verdict, needs=ledger.of_guest(
                self._reporter.report, instance.uuid))
            reported = _concerning(block_device_info, target.findings if target else ())
            self._watch.remember_findings(
                instance.uuid, host, (*reported, *verdict.rejections, *verdict.warnings))
        return decide

    def _published_by(self, context: Any, host: str) -> Any:
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(context, host)
        return node.stats if 'stats' in node else None

    def _target_report(self, context: Any, host: str, instance: Any) -> Optional[Report]:
        """Return the report that ``host`` has published, None when there is none to be had."""
        try:
            stats = Call(self._published_by, context, host).wait(CONDUCTOR)
        except Exception as e:  # of the conductor, or of the database behind it: any class
            LOG.warning('What %s has published cannot be asked for, only the path to it counts '
                        'here: %s: %s', host, type(e).__name__, e, instance=instance)
            return None
        return read_report(stats, host, instance)

    def _guest_leaves(self, instance: Any, host: str, accepted: str, target: Optional[Report]
                      ) -> Verdict:
        """Compare the CPU that the guest has now with what the target has published.

        Our own report may be older than the guest.

        :param accepted: fingerprint of the CPU that the target's own libvirt has accepted,
            which overrules our comparison
        """
        if 'cpu' not in self._policies.checks:
            return Verdict()
        report = self._reporter.report
        try:
            # What this host provides stands in its report, and is asked for again (4 ms) before
            # that speaks against the target.
            known = (report.cpu, None) if accepted and report and report.cpu else (None,)
            for provided in known:
                cpu = self._bounded.call(LIBVIRT, self._guest_cpu, instance, provided)
                if fingerprint(cpu) == accepted:
                    return Verdict()
        except (TimeoutError, exception.NovaException, hypervisor.CannotSay) as e:
            if target is None or target.cpu is None:
                return Verdict()
            unknown = Finding('cpu', Outcome.UNKNOWN, 'guest CPU',
                              f'libvirt on the source cannot say what it is: {e}', '',
                              'see libvirt on the source', code='cpu-guest-unknown')
            return settle([unknown], self._policies)
        if target is None or target.cpu is None:
            return Verdict()
        # Only its CPU, which changes no sooner than libvirtd restarts: not its findings.
        offered = Report(target.time, cpu=target.cpu)
        return judge(Guest(cpu), None, offered, time.time(), self._policies, name=host)

    def _needs_fit(self, instance: Any, target: Optional[Report]) -> list[Finding]:
        """Compare what the guest needs now, besides its CPU, with what the target has published."""
        registry = loading.of(self._policies.checks)
        if target is None or not (registry.needing or registry.leaving):
            return []
        try:
            domain = cpuxml.parse(self._bounded.call(
                LIBVIRT, lambda: self._libvirt.get_guest(instance).get_xml_desc()))
            own = self._reporter.report
            return [*registry.compare(registry.needs(domain), target.common,
                                      own.common if own else None),
                    *registry.leaves(domain, _server(instance), target.common)]
        except (TimeoutError, ValueError, exception.NovaException) as e:
            return [Finding('report', Outcome.UNKNOWN, 'guest',
                            f'what the guest needs is unknown: {e}', 'its live XML in libvirt',
                            'see libvirtd on the source', code='guest-unknown')]

    def _guest_cpu(self, instance: Any, host: Optional[cpus.Cpu]) -> cpus.Cpu:
        connection = self._libvirt.get_connection()
        guest = self._libvirt.get_guest(instance)
        if host is None:
            host = hypervisor.host_cpu(connection, self._conf.libvirt.virt_type)
        return hypervisor.guest_cpu(
            connection, guest.get_xml_desc(), host,
            asked=lambda: guest.get_xml_desc(dump_migratable=True))

    def _longest(self) -> float:
        """Return the seconds after which whatever a decision waits for has ended.

        That is the turn of a check, the conductor's answer, and the check itself.
        """
        return float(2 * (self._conf.migcheck.round_deadline + 2 * process.GRACE) + 2 * CONDUCTOR)

    def _check_path(self, host: str, connect: str, published: Call[Optional[Report]],
                    server: str) -> list[Finding]:
        """Return what the checks of the path find, from here to the target.

        :param server: UUID of the one that is about to go
        """
        deadline = self._conf.migcheck.round_deadline
        if not self._checks:
            return []
        if not self._paths.acquire(timeout=deadline):
            detail = f'{PATHS} other migrations held up the check of the path for {deadline:g} s'
            return [Finding('transport', Outcome.UNKNOWN, host, detail, code='check-not-run')]
        try:
            target = published.wait(self._longest())
            facts = target.facts if target else {}
            known = {**facts, 'host': host, 'connect': connect}
            settings = {
                name: dataclasses.replace(self._reader.read(loaded.check, target=known),
                                          server=server)
                for name, loaded in self._checks.items() if loaded.check}
            found = runner.Runner(self._checks).run(settings, deadline).findings
            return [f for f in found if f.outcome is not Outcome.OK]
        finally:
            self._paths.release()


def _server(instance: Any) -> Server:
    """Return what Nova will write into the XML of a server for its target."""
    mtus = {}
    try:
        vifs = instance.get_network_info()
    except Exception as e:  # of the conductor, or of the database behind it: any class
        LOG.warning('The networks of this server are unknown, their MTU is not compared: %s: %s',
                    type(e).__name__, e, instance=instance)
        vifs = ()
    for vif in vifs:
        mtu = (vif.get('network') or {}).get('meta', {}).get('mtu')
        if mtu and vif.get('address'):
            mtus[vif['address'].lower()] = int(mtu)
    flavor = instance.flavor
    return Server(dict(flavor.extra_specs) if flavor and 'extra_specs' in flavor else {}, mtus)


def _concerning(block_device_info: Any, findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings of a target without those about volumes for a server that has none.

    :param block_device_info: Nova's dict, None when it is not known
    """
    if block_device_info is None or block_device_info.get('block_device_mapping'):
        return list(findings)
    return [finding for finding in findings if finding.scope != 'volumes']
