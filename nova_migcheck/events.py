# SPDX-License-Identifier: Apache-2.0
"""A refusal where the operator looks for it: an instance action event of its own for each refused host.

Nova's own event of the check on the destination is finished by its name, so that with two refused hosts the second one's
reason lands on the first one's row. These rows have a name that is different for each host, and does not tell a tenant (who sees
names) which host it is.
"""

from __future__ import annotations

from typing import Any

from nova import objects, utils
from oslo_log import log as logging

from nova_migcheck.verdict import Verdict

LOG = logging.getLogger(__name__)

PREFIX = 'migcheck_refused_'
# Bytes that the column ``details`` keeps.
MAX_DETAILS = 255


def record(context: Any, instance: Any, host: str, text: str) -> None:
    """Write that ``host`` was refused for ``instance``, and why. Two messages to the conductor, 5 to 11 ms each.

    :param host: the refused target; only administrators see it
    :param text: the reason first; cut to what Nova keeps
    """
    name = PREFIX + utils.generate_hostid(host, instance.project_id)[:8]
    objects.InstanceActionEvent.event_start(context, instance.uuid, name, want_result=False, host=host)
    # With exc_tb=None Nova would write Success and drop the text.
    objects.InstanceActionEvent.event_finish_with_failure(
        context, instance.uuid, name, exc_val=clip(text, MAX_DETAILS), exc_tb='', want_result=False)


def reason(verdict: Verdict, target: str) -> str:
    """The text of a refusal: begins with the check, names the thing, then the target."""
    first, *others = verdict.rejections
    more = f'; and {len(others)} more: ' + ', '.join(sorted({f.check for f in others})) if others else ''
    text = str(first)
    return text + more if target in text else f'{text}{more} [target {target}]'


def clip(text: str, size: int) -> str:
    """``text`` in at most ``size`` bytes of UTF-8, not cut within a character."""
    data = text.encode('utf-8', 'replace')
    if len(data) <= size:
        return data.decode()
    return data[:size - 3].decode('utf-8', 'ignore') + '…'
