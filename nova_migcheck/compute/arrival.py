# SPDX-License-Identifier: Apache-2.0
"""Look on the destination at what concerns one server that is about to come."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Callable, Mapping, Optional

from nova import exception, objects
from oslo_log import log as logging

from nova_migcheck.checks import loading
from nova_migcheck.checks.base import Arrival
from nova_migcheck.deadline import Bounded, Call
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.novadb import arriving
from nova_migcheck.policies import Policies
from nova_migcheck.report.report import Report
from nova_migcheck.rounds import process, runner
from nova_migcheck.rounds.reader import Reader
from nova_migcheck.volumes import attached

# The name under which operators know this part in the log of nova-compute.
LOG = logging.getLogger('nova_migcheck.hook')

# Seconds that the conductor may take for one query, which needs 10 ms.
CONDUCTOR = 10.0
# Seconds that libvirtd may take for two questions, which need 0.2 ms.
LIBVIRT = 5.0
# Maximum number of servers that are looked at at the same time.
SERVERS = 4


class Disks:
    """The block device mappings of a server, which are asked for once, and only if needed."""

    def __init__(self, context: Any, instance: Any) -> None:
        self._context, self._instance = context, instance
        self._lock = threading.Lock()
        self._call: Optional[Call[Any]] = None

    def mappings(self) -> Any:
        """Return Nova's BlockDeviceMappingList.

        :raises Exception: of the conductor, or of the database behind it: any class
        """
        with self._lock:
            if self._call is None:
                self._call = Call(objects.BlockDeviceMappingList.get_by_instance_uuid,
                                  self._context, self._instance.uuid)
        return self._call.wait(CONDUCTOR)


class Arrivals:
    """What checks find about a server on its target.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param libvirt_host: Nova's own ``nova.virt.libvirt.host.Host``
    :param checks: the checks of ``WHEN = 'server'``
    """

    def __init__(self, conf: Any, libvirt_host: Any, policies: Policies, reader: Reader,
                 checks: Mapping[str, runner.Loaded]) -> None:
        self._conf = conf
        self._libvirt = libvirt_host
        self._policies = policies
        self._reader = reader
        self._checks = checks
        self._bounded = Bounded()
        self._turns = threading.BoundedSemaphore(SERVERS)

    def begin(self, instance: Any, disks: Disks, requirements: str, source: Optional[Report],
              here: Optional[Report]) -> Callable[[Optional[Report]], list[Finding]]:
        """Begin to look.

        :param requirements: what the guest needs besides its CPU, '' when that is not known
        :param source: the report of the host that it is on
        :param here: the last report of this host
        :returns: a function that waits for what was found. It is given the report of this host as
            it is now, and looks at what concerns the server by that one only
        """
        registry = loading.of(self._policies.checks)
        server = arriving.of_instance(self._conf, instance, source, here)
        needs = registry.concerned(server, requirements)
        running = Call(self._run, server, needs, instance, disks) if needs else None

        def found(now: Optional[Report]) -> list[Finding]:
            findings = self._in_the_way(server, instance) if registry.arriving else []
            if now is not None and now is not here:
                later = dataclasses.replace(server, here=now.common)
                more = {name: need for name, need in registry.concerned(
                    later, requirements).items() if name not in needs}
                findings += self._run(later, more, instance, disks)
            return findings + (running.wait(self._longest()) if running is not None else [])
        return found

    def _longest(self) -> float:
        """Return the seconds after which the checks have ended."""
        return float(2 * (self._conf.migcheck.round_deadline + process.GRACE) + CONDUCTOR + 1)

    def _in_the_way(self, server: Arrival, instance: Any) -> list[Finding]:
        """Return what is on this host already."""
        try:
            return self._bounded.call(LIBVIRT, lambda: loading.of(self._policies.checks).arrives(
                server, self._libvirt.get_connection()))
        except (TimeoutError, exception.HypervisorUnavailable) as e:
            LOG.warning('What an earlier attempt has left here is unknown, libvirt gave no answer: '
                        '%s', e, instance=instance)
            return []

    def _run(self, server: Arrival, needs: Mapping[str, Any], instance: Any, disks: Disks
             ) -> list[Finding]:
        """Return what the checks of a server find, in a process of their own.

        :param needs: check -> what the guest needs of it
        """
        checks = {name: self._checks[name] for name in needs if name in self._checks}
        volumes: list[attached.Attached] = []
        if any(one.check is not None and one.check.READS_VOLUMES for one in checks.values()):
            volumes = self._volumes(instance, disks)
        checks = {name: one for name, one in checks.items()
                  if volumes or not (one.check and one.check.READS_VOLUMES)}
        if not checks:
            return []
        deadline = self._conf.migcheck.round_deadline
        if not self._turns.acquire(timeout=deadline):
            detail = f'{SERVERS} other servers held up its check for {deadline:g} s'
            return [Finding(name, Outcome.UNKNOWN, instance.uuid, detail, code='check-not-run')
                    for name in checks]
        try:
            settings = {
                name: self._reader.of_server(one.check, server, needs[name], volumes)
                for name, one in checks.items() if one.check is not None}
            found = runner.Runner(checks).run(settings, deadline).findings
            return [finding for finding in found if finding.outcome is not Outcome.OK]
        finally:
            self._turns.release()

    def _volumes(self, instance: Any, disks: Disks) -> list[attached.Attached]:
        try:
            return attached.of_mappings(disks.mappings())
        except Exception as e:  # of the conductor, or of the database behind it: any class
            LOG.warning('The volumes of this server cannot be read from nova-conductor, they are '
                        'not looked at: %s: %s', type(e).__name__, e, instance=instance)
            return []
