# SPDX-License-Identifier: Apache-2.0
"""What Nova does with it: forced past the scheduler, no report, an old report, no target left."""

from __future__ import annotations

import time

from tests.lab.cloud.faults import TARGET, Fault
from tests.lab.cloud.faults.endpoint import E3
from tests.lab.cloud.faults.network import Names
from tests.lab.cloud.service import until


class N1(E3):
    """A migration forced past the scheduler, to a target that cannot reach placement."""

    named = force = True
    names = E3.names[:2]


class _Reports(Fault):
    """The scheduler is told to reject what it has no fresh report of."""

    restarted = ('target',)

    def _scheduler(self, **options: object) -> None:
        self.cloud.control.more = {'migcheck': options} if options and self.cloud.plugin else {}
        self.cloud.control.configure()
        self.cloud.control.restart_scheduler()


class N2(_Reports):
    """The target's report is stale, and the operator has on_stale = reject."""

    names = (r'\d+ s old',)
    limit = 30
    noticed = ()

    def set(self) -> None:
        # It is well: as a last resort it would be asked itself, and accept.
        self._scheduler(on_stale='reject', stale_after=self.limit, last_resort_hosts=0)
        self.configure(self.target, {'migcheck': {'check_interval': 3600}} if self.cloud.plugin else {})

    def ready(self) -> None:
        if self.cloud.plugin:
            until(120, f'the report of {TARGET} is stale', self._stale, 1)

    def _stale(self) -> bool:
        report = self.cloud.reports().get(TARGET)
        return report is not None and report.time < time.time() - self.limit

    def clear(self) -> None:
        self._scheduler()
        self.configure(self.target, {})


class N3(_Reports):
    """The target has no report, since the plugin is not installed there, and the operator has on_missing = reject."""

    names = ('no report',)
    noticed = ()

    def set(self) -> None:
        self._scheduler(on_missing='reject')
        if self.cloud.plugin:
            self.configure(self.target, {'DEFAULT': {'compute_driver': 'libvirt.LibvirtDriver'}})

    def clear(self) -> None:
        self._scheduler()
        self.configure(self.target, {})


class N4(Names):
    """Every target is bad: the inbound names of both resolve to the management network."""

    noticed = ('target', 'third')
    # Not an endpoint: a host that cannot reach placement publishes nothing, so the filter would not know.
    names = (r'No valid host was found.*rejected 2 hosts \(address: 2\)',)

    def set(self) -> None:
        for node in (self.target, self.third):
            self.rename(f'{node.name}-mig', node.management, *self.cloud.nodes)
