# SPDX-License-Identifier: Apache-2.0
"""Tell whoever listens to Nova's notifications that a host became unfit as a target, or fit again.

Imported only with ``[migcheck] notify_changes``: each versioned object that is registered shows in
Nova's own list of them.
"""

from __future__ import annotations

from typing import Optional, Sequence

from nova import context as nova_context
from nova.notifications.objects import base
from nova.objects import base as nova_base
from nova.objects import fields
from oslo_log import log as logging

from nova_migcheck.deadline import Call, is_exit
from nova_migcheck.finding import Finding
from nova_migcheck.policies import REJECT, Policies
from nova_migcheck.report.report import Report

# The name under which operators know the part that keeps the report.
LOG = logging.getLogger('nova_migcheck.reporter')


@nova_base.NovaObjectRegistry.register_notification
class MigrationTargetPayload(base.NotificationPayloadBase):
    """What a notification says: the host, whether it is fit, and the findings that reject it."""

    VERSION = '1.0'
    fields = {
        'host': fields.StringField(),
        'fit': fields.BooleanField(),
        'findings': fields.ListOfDictOfNullableStringsField(),
    }

    def __init__(self, host: str, findings: Sequence[Finding]) -> None:
        super().__init__()
        self.host = host
        self.fit = not findings
        self.findings = [{name: text for name, text in finding.to_dict().items()
                          if isinstance(text, str)} for finding in findings]


@nova_base.NovaObjectRegistry.register_notification
class MigrationTargetNotification(base.NotificationBase):
    """``migration_target.update``: an error for a host that is unfit, else an info."""

    VERSION = '1.0'
    fields = {'payload': fields.ObjectField('MigrationTargetPayload')}


class Notifier:
    """Sends a notification when the kinds of findings that reject this host change.

    The first report is told too: nobody knows what it was before nova-compute started.

    :param host: its name as Nova has it
    """

    def __init__(self, host: str, policies: Policies) -> None:
        self._host = host
        self._policies = policies
        self._told: Optional[frozenset[tuple[str, str]]] = None
        self._sending: Optional[Call[None]] = None

    def reported(self, report: Report) -> None:
        """Tell of a report, unless the last one that was told had findings of the same kinds.

        Nobody waits for the message bus. While it takes a message, the next is left to the next
        round.
        """
        if self._sending is not None and not self._sending.ended:
            return
        rejecting = [f for f in report.findings if self._policies.of(f) == REJECT]
        kinds = frozenset((f.code or f.check, f.scope) for f in rejecting)
        if kinds != self._told:
            self._told = kinds
            self._sending = Call(self._send, rejecting)

    def _send(self, rejecting: Sequence[Finding]) -> None:
        try:
            MigrationTargetNotification(
                priority=fields.NotificationPriority.ERROR if rejecting
                else fields.NotificationPriority.INFO,
                publisher=base.NotificationPublisher(
                    self._host, fields.NotificationSource.COMPUTE),
                event_type=base.EventType('migration_target', fields.NotificationAction.UPDATE),
                payload=MigrationTargetPayload(self._host, rejecting),
            ).emit(nova_context.get_admin_context())
        except BaseException as e:  # of oslo.messaging or its driver: any class
            if is_exit(e):
                raise
            LOG.warning('The notification that this host is %s as a migration target could not be '
                        'sent: %s: %s', 'unfit' if rejecting else 'fit', type(e).__name__, e)
