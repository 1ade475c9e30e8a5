# SPDX-License-Identifier: Apache-2.0
"""What Nova's migration records tell: which move is under way, and when a server came to the host where it is."""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Optional

from nova import objects

LIVE = 'live-migration'
_UNDER_WAY = ('accepted', 'pre-migrating')
_ENDED_WELL = ('completed',)
_ENDED_BADLY = ('failed', 'error', 'cancelled')
# Records that are read: the newest, as Nova sorts them where there is a limit. A server that moves daily has hundreds, and 200 of them took
# the scheduler 6 ms.
_NEWEST = 20


class Move(NamedTuple):
    """A server on its way from one host to another.

    :ivar source: the host that it leaves
    :ivar kind: ``live-migration``, ``migration``, ``resize`` or ``evacuation``, as in ``Migration.migration_type``
    :ivar arrived: when it last came to its source by a migration, in seconds since the epoch; 0 when it never did
    """

    source: str
    kind: str
    arrived: float


def under_way(context: Any, instance_uuid: str) -> Optional[Move]:
    """The newest move of a server that has not begun yet. One query in the server's cell.

    A request to the scheduler does not say what it is for (``_nova_check_type`` is only ever ``rebuild``); the record does.
    """
    records = _records(context, instance_uuid, [*_UNDER_WAY, *_ENDED_WELL])
    # A record of an earlier attempt may have been left behind.
    newest = max((record for record in records if record.status in _UNDER_WAY), key=lambda record: record.id, default=None)
    if newest is None:
        return None
    return Move(newest.source_compute, newest.migration_type, _arrived(records, newest.source_compute))


def arrived(context: Any, instance_uuid: str, host: str) -> float:
    """When a server last came to ``host`` by a migration, in seconds since the epoch; 0 when it never did."""
    return _arrived(_records(context, instance_uuid, list(_ENDED_WELL)), host)


def ended_badly(context: Any, instance_uuid: str, host: str) -> str:
    """How the last live migration of a server to ``host`` ended: ``failed``, ``cancelled``, or '' when it did not end so."""
    statuses = [*_UNDER_WAY, 'preparing', 'running', 'queued', *_ENDED_WELL, *_ENDED_BADLY]
    records = [record for record in _records(context, instance_uuid, statuses)
               if record.dest_compute == host and record.migration_type == LIVE]
    newest = max(records, key=lambda record: record.id, default=None)
    if newest is None or newest.status not in _ENDED_BADLY:
        return ''
    return 'cancelled' if newest.status == 'cancelled' else 'failed'


def _records(context: Any, instance_uuid: str, statuses: list[str]) -> list[Any]:
    return list(objects.MigrationList.get_by_filters(context, {'instance_uuid': instance_uuid, 'status': statuses}, limit=_NEWEST))


def _arrived(records: Iterable[Any], host: str) -> float:
    return max((record.updated_at.timestamp() for record in records
                if record.status in _ENDED_WELL and record.dest_compute == host and record.updated_at is not None), default=0.0)
