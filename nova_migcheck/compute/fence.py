# SPDX-License-Identifier: Apache-2.0
"""Keep the errors of this package from Nova."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import nova.conf
from nova import exception
from oslo_log import log as logging

from nova_migcheck.deadline import is_exit
from nova_migcheck.policies import REJECT

# The name under which operators know this part in the log of nova-compute.
LOG = logging.getLogger('nova_migcheck.hook')
CONF = nova.conf.CONF


@contextlib.contextmanager
def fenced(doing: str, instance: Any = None) -> Iterator[None]:
    """Log what the block raises instead of raising it.

    A refusal leaves, since Nova tries the next host then.
    Any other exception of a check would put the server in ERROR.
    A BaseException is caught too: eventlet's Timeout is one.
    What ends the thread or the process leaves.

    :param doing: what the block does, for the log
    :param instance: the server that waits for a decision, None where nothing is decided
    :raises nova.exception.MigrationPreCheckError: a refusal, or an error with ``on_error = reject``
    """
    try:
        yield
    except exception.MigrationPreCheckError:
        raise
    except BaseException as e:
        if is_exit(e):
            raise
        LOG.exception('nova-migcheck failed while %s; this is a bug', doing, instance=instance)
        if instance is not None and _refuses_on_error():
            raise exception.MigrationPreCheckError(
                f'migcheck: it failed while {doing}: {type(e).__name__} ([migcheck] on_error)')


def _refuses_on_error() -> bool:
    return bool(CONF.migcheck.on_error == REJECT and CONF.migcheck.mode == 'enforce')
