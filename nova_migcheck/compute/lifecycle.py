# SPDX-License-Identifier: Apache-2.0
"""What runs in nova-compute beside Nova, from its start to its stop."""

from __future__ import annotations

import functools
import threading
from typing import Any

from nova import exception
from oslo_log import log as logging

from nova_migcheck.aftermath.watch import Watch
from nova_migcheck.compute.arrival import Arrivals
from nova_migcheck.compute.destination import Destination
from nova_migcheck.compute.fence import fenced
from nova_migcheck.compute.refusal import Refusals
from nova_migcheck.compute.reporter import Reporter
from nova_migcheck.compute.source import Source
from nova_migcheck.novadb import telling
from nova_migcheck.policies import Policies
from nova_migcheck.rehearsal import guest
from nova_migcheck.rounds import runner
from nova_migcheck.rounds.reader import Reader

LOG = logging.getLogger('nova_migcheck.hook')


class Lifecycle:
    """All parts of one nova-compute.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param libvirt_host: Nova's own ``nova.virt.libvirt.host.Host``
    :param virtapi: of Nova's driver
    :ivar reporter: keeps this host's report
    :ivar watch: looks at what becomes of migrations
    :ivar destination: decides whether a server may come
    :ivar source: decides whether a server may go
    """

    def __init__(self, conf: Any, libvirt_host: Any, virtapi: Any = None) -> None:
        self._libvirt = libvirt_host
        # By then each guest of a rehearsal that was killed has had its time.
        self._sweeping = threading.Timer(guest.LONGEST, self._sweep)
        self._sweeping.daemon = True
        reader = Reader(conf)
        loaded = runner.load(list(conf.migcheck.checks))
        paths = {name: one for name, one in loaded.items()
                 if one.check is not None and one.check.WHEN == 'path'}
        servers = {name: one for name, one in loaded.items()
                   if one.check is not None and one.check.WHEN == 'server'}
        hosts = {name: one for name, one in loaded.items()
                 if name not in paths and name not in servers}
        policies = Policies.from_conf(conf.migcheck)
        self.reporter = Reporter(
            conf, reader, hosts, functools.partial(telling.store, virtapi), servers=servers,
            **_notifying(conf, policies))
        self.watch = Watch(conf, libvirt_host, self.reporter)
        refusals = Refusals(conf, policies, self.watch.decided)
        self.destination = Destination(
            conf, libvirt_host, policies, refusals, self.reporter, self.watch,
            Arrivals(conf, libvirt_host, policies, reader, servers))
        self.source = Source(
            conf, libvirt_host, policies, refusals, self.reporter, self.watch, reader, paths)

    @classmethod
    def started(cls, conf: Any, libvirt_host: Any, virtapi: Any) -> Lifecycle:
        """Make one and start it; when that fails, leave nothing behind."""
        made = cls(conf, libvirt_host, virtapi)
        try:
            made.start()
        except BaseException:
            made.stop()
            raise
        return made

    def start(self) -> None:
        """Begin to check this host, and to watch migrations."""
        self.reporter.start()
        self.watch.start()
        self._sweeping.start()

    def _sweep(self) -> None:
        """Destroy what a rehearsal that was killed may have left here."""
        import libvirt
        with fenced('looking for guests of old rehearsals'):
            try:
                for name in guest.sweep(self._libvirt.get_connection()):
                    LOG.info('Destroyed %s, which a rehearsal had left behind', name)
            except (exception.NovaException, libvirt.libvirtError) as e:
                LOG.debug('Guests of old rehearsals are not looked for: %s', e)

    def stop(self) -> None:
        """End what :meth:`start` began."""
        self._sweeping.cancel()
        self.watch.stop()
        self.reporter.stop()


def _notifying(conf: Any, policies: Policies) -> dict[str, Any]:
    if not conf.migcheck.notify_changes:
        return {}
    from nova_migcheck.compute.notification import Notifier
    return {'notify': Notifier(conf.host, policies).reported}
