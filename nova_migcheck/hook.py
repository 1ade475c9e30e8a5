# SPDX-License-Identifier: Apache-2.0
"""What the compute side decides: on the destination when Nova asks whether a server may come, on the source whether it may go there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from typing import Any, Callable, Iterator, NamedTuple, Optional

from nova import exception, objects
from oslo_log import log as logging

from nova_migcheck import conf as confs
from nova_migcheck import cpu as cpus
from nova_migcheck import events, moves, process, published, runner
from nova_migcheck.aftermath import past
from nova_migcheck.aftermath.watch import Watch
from nova_migcheck.bounded import Bounded, Call
from nova_migcheck.cpu import hypervisor
from nova_migcheck.cpu.guests import fingerprint
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.process import Spare
from nova_migcheck.report import Report
from nova_migcheck.reporter import Reporter
from nova_migcheck.settings import Reader
from nova_migcheck.verdict import Guest, Policies, Verdict, between, judge, settle

LOG = logging.getLogger(__name__)

# Seconds that libvirtd may take for one question. It needs 0.2 ms, but 8 to 12 s while it probes QEMU after its own start.
LIBVIRT = 15.0
# Decisions whose path is looked at side by side on one source.
PATHS = 4
# Seconds after a look at a path until the next process is made ready. Its imports would take a processor from the migration that begins.
READY_AFTER = 5.0
# How the destination tells the source its host name, and behind spaces the fingerprint of the CPU that it accepted and, as JSON, what else
# the source would have to ask the conductor for. Nova's own check on the source, which runs when ours has read it, always overwrites this
# field; it is the only text of LibvirtLiveMigrateData that nobody reads before.
_HOST_MARK = 'migcheck:'
# Findings that it tells so, at most.
_TOLD = 5


class Compared(NamedTuple):
    """What the destination found about the CPU of a guest.

    :ivar context: of the request
    :ivar cpu: the guest's, by the source's report
    :ivar comparison: of it with what this host provides
    """

    context: Any
    cpu: cpus.Cpu
    comparison: cpus.Comparison


class Hook:
    """One nova-compute's part in the decisions about live migrations.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param libvirt_host: Nova's own ``nova.virt.libvirt.host.Host``
    """

    def __init__(self, conf: Any, libvirt_host: Any) -> None:
        self._conf = conf
        self._libvirt = libvirt_host
        self._bounded = Bounded()
        self._reader = Reader(conf)
        loaded = runner.load(list(conf.migcheck.checks))
        paths = {name for name, check in loaded.items() if check.check is not None and check.check.WHEN == 'path'}
        self._path_checks = {name: check for name, check in loaded.items() if name in paths}
        self._paths = threading.BoundedSemaphore(PATHS)
        there = {name: one for name, one in self._path_checks.items() if one.check}
        self._spare = Spare({name: one.entry for name, one in there.items()}, [
            module for one in there.values() if one.check for module in (one.check.__module__, *one.check.HEAVY)])
        self._soon: Optional[threading.Timer] = None
        self.policies = Policies.from_conf(conf.migcheck)
        self.watch = Watch(conf, libvirt_host, lambda: self.reporter.report, lambda: self.reporter.migrated())
        self.reporter = Reporter(conf, self._reader, {name: check for name, check in loaded.items() if name not in paths}, self.watch.pasts)

    def start(self) -> None:
        """Begin to look at this host, and be ready to look at paths."""
        self.reporter.start()
        self.watch.start()
        self._make_ready()

    def stop(self) -> None:
        """End what :meth:`start` began."""
        self.watch.stop()
        self.reporter.stop()
        self._spare.stop()
        if self._soon is not None:
            self._soon.cancel()

    def _make_ready(self) -> None:
        with self.fenced('making a process ready for the next look at a path'):
            self._spare.refill()

    def _make_ready_soon(self) -> None:
        if self._soon is None or not self._soon.is_alive():
            self._soon = threading.Timer(READY_AFTER, self._make_ready)
            self._soon.daemon = True
            self._soon.start()

    @contextlib.contextmanager
    def fenced(self, doing: str, instance: Any = None) -> Iterator[None]:
        """Keep our own errors from Nova. Only MigrationPreCheckError leaves: anything else would put the server in ERROR.

        :raises nova.exception.MigrationPreCheckError: a refusal, or an error of ours with ``on_error = reject``
        """
        try:
            yield
        except exception.MigrationPreCheckError:
            raise
        except Exception as e:
            LOG.exception('nova-migcheck failed while %s; this is a bug', doing, instance=instance)
            if instance is not None and self._conf.migcheck.on_error == confs.REJECT and self._conf.migcheck.mode == 'enforce':
                raise exception.MigrationPreCheckError(f'migcheck: it failed while {doing}: {type(e).__name__} ([migcheck] on_error)')

    # The destination.

    def as_destination(self, context: Any, instance: Any, src_compute_info: Any) -> Optional[Compared]:
        """Decide whether this host takes ``instance``.

        :param src_compute_info: primitive of the source's ComputeNode
        :returns: what was found about the CPU of the guest itself, None when that is not known
        :raises nova.exception.MigrationPreCheckError: it does not; the text begins with the check
        """
        source = _read(src_compute_info.get('stats') if isinstance(src_compute_info, dict) else None, 'the source', instance)
        target = self.reporter.fresh(self._conf.migcheck.recheck_after)
        now = time.time()
        cpu = source.guest(instance.uuid) if source and source.knows(0, now, self._conf.migcheck) else None
        compared = self._compare_here(cpu, target, instance) if cpu and 'cpu' in self.policies.checks else None
        if compared is not None and source is not None and not compared.compatible and not source.knows(
                moves.arrived(context, instance.uuid, instance.host), now, self._conf.migcheck):
            # It came there after the source's last report: the source itself will look at the CPU that it has now.
            cpu = compared = None
        guest = Guest(cpu, self._needs(context, instance, source, target))
        verdict = judge(guest, source, target, now, self.policies, compared, self._conf.host)
        self._settle(context, instance, self._conf.host, verdict)
        self.watch.said(instance.uuid, self._conf.host, verdict.rejections + verdict.warnings)
        return Compared(context, cpu, compared) if cpu is not None and compared is not None else None

    def _compare_here(self, cpu: cpus.Cpu, target: Optional[Report], instance: Any) -> Optional[cpus.Comparison]:
        """Ask this host's libvirt about the guest's own CPU. It has the last word over our arithmetic."""
        try:
            asked = self._bounded.call(LIBVIRT, lambda: hypervisor.ask_and_count(self._libvirt.get_connection(), cpu,
                                                                                 target.cpu if target else None))
        except (TimeoutError, exception.HypervisorUnavailable) as e:
            asked = cpus.Comparison(cpus.UNKNOWN, reason=f'cannot say: libvirtd gave no answer: {e}')
        if target is None or target.cpu is None:
            return asked
        # Where libvirt accepts it knows the names in the guest's definition, whatever was published of what it knows.
        counted = cpus.compare(dataclasses.replace(cpu, spelled=frozenset()) if asked.compatible else cpu, target.cpu)
        if asked.outcome == cpus.UNKNOWN:
            return counted if counted.outcome != cpus.UNKNOWN else asked
        if asked.compatible:
            beyond = cpus.compare(_beyond_libvirt(cpu, target.cpu), target.cpu)
            if beyond.outcome == cpus.INCOMPATIBLE or (cpu.tsc_hz is not None and not beyond.compatible):
                return beyond
        elif counted.outcome == cpus.INCOMPATIBLE and not asked.missing:
            # They agree, and libvirt's words name one of the two vendors only.
            return counted
        if asked.outcome != counted.outcome and counted.outcome != cpus.UNKNOWN:
            LOG.warning('libvirt and the comparison of features disagree about the CPU of the guest, libvirt is believed. libvirt: %s. '
                        'Features: %s', asked.reason or asked.outcome, counted.reason or counted.outcome, instance=instance)
        return asked

    def _needs(self, context: Any, instance: Any, source: Optional[Report], target: Optional[Report]) -> frozenset[str]:
        """Which of the findings with a scope concern this server. Costs a query only where there is such a finding."""
        if target is None or not any(f.scope for f in (*target.findings, *(between(source, target) if source else ()))):
            return frozenset()
        needs = set()
        bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
        if any(bdm.is_volume for bdm in bdms):
            needs.add('volumes')
        if any('encrypted' in bdm and bdm.encrypted for bdm in bdms) or _has_vtpm(instance):
            needs.add('encryption')
        if any(bdm.is_local for bdm in bdms) or instance.config_drive:
            needs.add('local-disk')
        return frozenset(needs)

    def tell_source(self, migrate_data: Any, compared: Optional[Compared] = None) -> None:
        """Put into Nova's answer to the source where this host will be contacted; ``pre_live_migration`` sets it anew."""
        migrate_data.target_connect_addr = self._conf.libvirt.live_migration_inbound_addr or self._conf.host
        accepted = fingerprint(compared.cpu) if compared is not None and compared.comparison.compatible else ''
        report = self.reporter.report
        told = json.dumps({'migration': report.migration, 'findings': [f.to_dict() for f in report.findings[:_TOLD]]}) if report else ''
        migrate_data.instance_relative_path = f'{_HOST_MARK}{self._conf.host} {accepted} {told}'

    # The source.

    def as_source(self, context: Any, instance: Any, migrate_data: Any) -> Optional[Callable[[], None]]:
        """Begin to look at the path from here to where ``migrate_data`` says. Nova's own check runs meanwhile, and overwrites our mark.

        :returns: waits for the answer and decides whether ``instance`` can go there: raises nova.exception.MigrationPreCheckError when it
            cannot. None when there is nothing to decide.
        """
        mark = migrate_data.instance_relative_path if 'instance_relative_path' in migrate_data else ''
        if not mark.startswith(_HOST_MARK):
            LOG.info('The target does not run nova-migcheck: the path to it is not checked', instance=instance)
            return None
        host, _, rest = mark[len(_HOST_MARK):].partition(' ')
        accepted, _, rest = rest.partition(' ')
        told = _object(rest)
        looked_at = Call(self._path, host, migrate_data.target_connect_addr, told.get('migration'),
                         lambda: self._unless_lost(context, host, instance))

        def decide() -> None:
            verdict = self._guest_leaves(instance, host, accepted, lambda: self._unless_lost(context, host, instance))
            verdict += settle(looked_at.wait(self._longest_path()), self.policies)
            verdict += settle(past.warn(self.watch.pasts(), past.OUT, host, time.time()), self.policies)
            self._settle(context, instance, host, verdict)
            self.watch.said(instance.uuid, host, (*_findings(told.get('findings')), *verdict.rejections, *verdict.warnings))
        return decide

    def _published_by(self, context: Any, host: str) -> Any:
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(context, host)
        return node.stats if 'stats' in node else None

    def _unless_lost(self, context: Any, host: str, instance: Any) -> Optional[Report]:
        """What the target has published, which is asked for when it has not told enough. Where the conductor does not say, the path is
        what there is to decide by."""
        try:
            stats = Call(self._published_by, context, host).wait(self._longest_path())
        except Exception as e:  # of the conductor, or of the database behind it: any class there is
            LOG.warning('What %s has published cannot be asked for, only the path to it counts here: %s: %s', host, type(e).__name__, e,
                        instance=instance)
            return None
        return _read(stats, host, instance)

    def _guest_leaves(self, instance: Any, host: str, accepted: str, ask: Callable[[], Optional[Report]]) -> Verdict:
        """The guest's CPU as it is now, against what the target has published: our own report may be a minute older than the guest.

        :param accepted: fingerprint of the CPU that the target's own libvirt has accepted, which has the last word
        :param ask: for what the target has published
        """
        if 'cpu' not in self.policies.checks:
            return Verdict()
        cpu, trouble = None, ''
        report = self.reporter.report
        try:
            # What this host provides stands in its report, and is asked anew (4 ms) before that speaks against the target.
            for provided in (report.cpu, None) if accepted and report and report.cpu else (None,):
                cpu = self._bounded.call(LIBVIRT, self._guest_cpu, instance, provided)
                if fingerprint(cpu) == accepted:
                    return Verdict()
        except (TimeoutError, exception.NovaException, hypervisor.CannotSay) as e:
            cpu, trouble = None, f'libvirt on the source cannot say what it is: {e}'
        target = ask()
        if target is None or target.cpu is None:
            return Verdict()
        if cpu is None:
            return settle([Finding('cpu', Outcome.UNKNOWN, 'guest CPU', trouble, '', 'see libvirtd there')], self.policies)
        return judge(Guest(cpu), None, Report(target.time, cpu=target.cpu), time.time(), self.policies, name=host)

    def _guest_cpu(self, instance: Any, host: Optional[cpus.Cpu]) -> cpus.Cpu:
        connection = self._libvirt.get_connection()
        guest = self._libvirt.get_guest(instance)
        return hypervisor.guest_cpu(connection, guest.get_xml_desc(), host or hypervisor.host_cpu(connection, self._conf.libvirt.virt_type),
                                    asked=lambda: guest.get_xml_desc(dump_migratable=True))

    def _longest_path(self) -> float:
        """Seconds that :meth:`_path` may take: it waits for its turn, and for what it has started."""
        return float(2 * (self._conf.migcheck.round_deadline + 2 * process.GRACE))

    def _path(self, host: str, connect: str, facts: Any, ask: Callable[[], Optional[Report]]) -> list[Finding]:
        """What the checks of the path find, from here to the target.

        :param facts: what the target has told of its networks; when that is nothing, what it has published counts
        :param ask: for that
        """
        deadline = self._conf.migcheck.round_deadline
        if not self._path_checks:
            return []
        if not self._paths.acquire(timeout=deadline):
            detail = f'{PATHS} other migrations held up the check of the path for {deadline:g} s'
            return [Finding('transport', Outcome.UNKNOWN, host, detail)]
        try:
            known = {'host': host, 'connect': connect, 'migration': facts if facts and isinstance(facts, dict) else _migration(ask())}
            settings = {name: self._reader.read(loaded.check, target=known) for name, loaded in self._path_checks.items() if loaded.check}
            found = runner.Runner(self._path_checks, self._spare.take(), hurry=True).run(settings, deadline).findings
            return [f for f in found if f.outcome is not Outcome.OK]
        finally:
            self._paths.release()
            self._make_ready_soon()

    # Both.

    def _settle(self, context: Any, instance: Any, target: str, verdict: Verdict) -> None:
        """Log the verdict, leave its event, and raise when it is a refusal."""
        for finding in verdict.warnings:
            LOG.warning('Live migration to %s: %s', target, finding, instance=instance)
        if verdict.accepted:
            return
        text = events.reason(verdict, target)
        if self._conf.migcheck.mode != 'enforce':
            LOG.warning('Live migration to %s would be refused ([migcheck] mode = %s): %s', target, self._conf.migcheck.mode, text,
                        instance=instance)
            return
        LOG.warning('Live migration to %s is refused: %s', target, text, instance=instance)
        self._leave_event(context, instance, target, text)
        raise exception.MigrationPreCheckError(text)

    def _leave_event(self, context: Any, instance: Any, target: str, text: str) -> None:
        if self._conf.migcheck.events and self._conf.migcheck.mode == 'enforce':
            with self.fenced('writing the event of a refusal'):
                events.record(context, instance, target, text)

    def nova_disagrees(self, compared: Compared, instance: Any, error: Exception) -> exception.MigrationPreCheckError:
        """Nova's own CPU check refuses what ours found compatible: say so, and give what is to be raised.

        Both options stand within the 255 bytes that Nova keeps of an error.
        """
        text = ("cpu: Nova's own comparison refuses this host, which provides all that the guest uses (LP#2039803); see "
                f'[workarounds] skip_cpu_compare_on_dest and [migcheck] nova_cpu_check [target {self._conf.host}]')
        LOG.warning('%s: %s', text, error, instance=instance)
        self._leave_event(compared.context, instance, self._conf.host, text)
        return exception.MigrationPreCheckError(f'{text}: {error}')


def _beyond_libvirt(guest: cpus.Cpu, host: cpus.Cpu) -> cpus.Cpu:
    """What libvirt's comparison of a guest's CPU does not look at: the TSC's frequency, and with what the host runs its guests."""
    return dataclasses.replace(guest, vendor=None, model=host.model, features=frozenset(), forbids=frozenset(), at_most=None,
                               spelled=frozenset())


def _read(stats: Any, whose: str, instance: Any) -> Optional[Report]:
    try:
        return published.read(stats)
    except published.Unreadable as e:
        LOG.warning('The report of %s cannot be read, it counts as missing: %s', whose, e, instance=instance)
        return None


def _object(text: str) -> dict[str, Any]:
    """A JSON object; an empty one for anything else, since it comes from another host."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _findings(told: Any) -> tuple[Finding, ...]:
    """What the target has told of itself; as much as is understood."""
    try:
        return tuple(Finding.from_dict(one) for one in told or ())
    except (ValueError, TypeError):
        return ()


def _migration(target: Optional[Report]) -> dict[str, Any]:
    return dict(target.migration) if target else {}


def _has_vtpm(instance: Any) -> bool:
    specs = instance.flavor.extra_specs if instance.flavor and 'extra_specs' in instance.flavor else {}
    properties = instance.image_meta.properties
    return bool(specs.get('hw:tpm_version') or properties.get('hw_tpm_version'))
