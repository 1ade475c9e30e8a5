# SPDX-License-Identifier: Apache-2.0
"""Store a changed report at once, instead of with the next resource audit."""

from __future__ import annotations

from typing import Any, Mapping

from nova import context as nova_context
from nova import utils
from nova.compute import resource_tracker


def store(virtapi: Any, texts: Mapping[str, str]) -> None:
    """Put ``texts`` into the stats of this host's ComputeNode, where the scheduler reads them.

    It takes one call of nova-conductor, as each audit does, and nothing of placement. It holds the
    lock under which the audit itself changes the record, so neither loses what the other wrote.

    :param virtapi: of Nova's driver; in nova-compute it leads to the resource tracker
    """
    tracker = virtapi._compute.rt

    def update() -> None:
        for name, node in tracker.compute_nodes.items():
            # Nova writes its own copy of them with each server that comes or goes.
            tracker.stats[name].update(texts)
            node.stats = {**(node.stats or {}), **texts}
            with node.obj_alternate_context(nova_context.get_admin_context()):
                node.save()
    utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)(update)()
