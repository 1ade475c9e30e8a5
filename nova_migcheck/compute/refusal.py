# SPDX-License-Identifier: Apache-2.0
"""Tell Nova, and the operator, that a target is refused.

Each refused host gets an instance action event of its own. Nova finishes its own event of the
check by name, so that with two refused hosts the second one's reason lands on the first one's
row. Members see the names of events but not their hosts: the name holds a digest of the host.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, Optional

from nova import exception, objects, utils
from oslo_log import log as logging

from nova_migcheck.aftermath import ledger
from nova_migcheck.compute.fence import fenced
from nova_migcheck.deadline import Call
from nova_migcheck.judging import common
from nova_migcheck.judging.verdict import Verdict
from nova_migcheck.policies import Policies
from nova_migcheck.report.report import Report

LOG = logging.getLogger('nova_migcheck.hook')

PREFIX = 'migcheck_refused_'
# Bytes that the column ``details`` keeps.
MAX_DETAILS = 255
# Seconds that a refusal waits for the conductor to take its event; it needs 5 to 11 ms.
CONDUCTOR = 2.0


class Refusals:
    """Carries out the verdicts of nova-compute.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :param decided: called with what the ledger keeps of each decision
    """

    def __init__(self, conf: Any, policies: Policies,
                 decided: Callable[[Mapping[str, Any]], None]) -> None:
        self._conf, self._policies, self._decided = conf, policies, decided

    def enforce(self, context: Any, instance: Any, target: str, verdict: Verdict,
                source: Optional[Report] = None, needs: str = '') -> None:
        """Log a verdict; when it rejects, record its event and raise.

        :param target: the host that was judged
        :param source: the report of the source, where it may have the same fault
        :param needs: digest of what the guest needs (``ledger.of_guest``)
        :raises nova.exception.MigrationPreCheckError: for a rejection in ``mode = enforce``
        """
        with fenced('noting a decision in the ledger'):
            self._decided(ledger.decision(self._conf.host, instance, target, verdict,
                                          self._conf.migcheck.mode, needs))
        for finding in verdict.warnings:
            LOG.warning('Live migration to %s: %s', target, finding, instance=instance)
        if verdict.accepted:
            return
        service = common.shared([verdict.rejections], source, self._policies)
        text = '; '.join(filter(None, (service, reason(verdict, target))))
        if self._conf.migcheck.mode != 'enforce':
            LOG.warning('Live migration to %s would be refused ([migcheck] mode = %s): %s',
                        target, self._conf.migcheck.mode, text, instance=instance)
            return
        LOG.warning('Live migration to %s is refused: %s', target, text, instance=instance)
        self.leave_event(context, instance, target, text)
        raise exception.MigrationPreCheckError(text)

    def leave_event(self, context: Any, instance: Any, target: str, text: str) -> None:
        """Record the event of a refusal, where ``[migcheck] events`` wants one.

        The refusal does not depend on it: a conductor that is silent is waited for no longer
        than :data:`CONDUCTOR` seconds.
        """
        if not self._conf.migcheck.events or self._conf.migcheck.mode != 'enforce':
            return
        with fenced('writing the event of a refusal'):
            name = PREFIX + utils.generate_hostid(target, instance.project_id)[:8]
            call = Call(_record, context, instance.uuid, name, target, event_text(text))
            try:
                call.wait(CONDUCTOR)
            except Exception as e:  # of the conductor, or of the database behind it: any class
                why = str(e) if not call.ended else f'{type(e).__name__}: {e}'
                LOG.warning('The event of this refusal is not written, since nova-conductor did '
                            'not take it: %s. The refusal stands.', why, instance=instance)


def _record(context: Any, instance_uuid: str, name: str, host: str, text: str) -> None:
    event = objects.InstanceActionEvent
    event.event_start(context, instance_uuid, name, want_result=False, host=host)
    # With exc_tb=None Nova would write Success and drop the text.
    event.event_finish_with_failure(
        context, instance_uuid, name, exc_val=text, exc_tb='', want_result=False)


def reason(verdict: Verdict, target: str) -> str:
    """Return the text of a refusal: it begins with the check, names the thing, then the target."""
    first, *others = verdict.rejections
    text = str(first)
    if others:
        checks = ', '.join(sorted({f.check for f in others}))
        text = f'{first}; and {len(others)} more: {checks}'
    return text if target in str(first) else f'{text} [target {target}]'


def event_text(text: str) -> str:
    """Return ``text`` as an event keeps it: cut where necessary, but with its first code."""
    code = re.search(r' \[[a-z]+(-[a-z]+)+\]', text)
    end = code[0] if code else ''
    cut = clip(text, MAX_DETAILS)
    return cut if end in cut else clip(text, MAX_DETAILS - len(end)) + end


def clip(text: str, size: int) -> str:
    """Return ``text`` in at most ``size`` bytes of UTF-8, not cut within a character."""
    data = text.encode('utf-8', 'replace')
    if len(data) <= size:
        return data.decode()
    return data[:size - 3].decode('utf-8', 'ignore') + '…'
