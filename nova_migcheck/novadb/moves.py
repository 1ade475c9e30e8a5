# SPDX-License-Identifier: Apache-2.0
"""Read Nova's migration records: the move in progress, and when a server came to its host."""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Optional

from nova import objects

LIVE = 'live-migration'
_UNDER_WAY = ('accepted', 'pre-migrating')
_ENDED_WELL = ('completed',)
_ENDED_BADLY = ('failed', 'error', 'cancelled')
# Read only the newest records; Nova sorts them when there is a limit. A server that moves daily has
# hundreds, and reading 200 of them took the scheduler 6 ms.
_NEWEST = 20


class Move(NamedTuple):
    """A server on its way from one host to another.

    :ivar source: the host that it leaves
    :ivar kind: ``Migration.migration_type``: ``live-migration``, ``migration``, ``resize`` or
        ``evacuation``
    :ivar arrived: when it last came to its source by a migration, in seconds since the epoch;
        0 if it never did
    """

    source: str
    kind: str
    arrived: float


def under_way(context: Any, instance_uuid: str) -> Optional[Move]:
    """Return the newest move of a server that has not begun yet, by one query in its cell.

    A request to the scheduler does not contain its purpose (``_nova_check_type`` is only ever
    ``rebuild``), but the migration record does.
    """
    records = _records(context, instance_uuid, [*_UNDER_WAY, *_ENDED_WELL])
    # An earlier attempt may have left a record.
    newest = max((record for record in records if record.status in _UNDER_WAY),
                 key=lambda record: record.id, default=None)
    if newest is None:
        return None
    source = newest.source_compute
    return Move(source, newest.migration_type, _arrived(records, source))


def arrived(context: Any, instance_uuid: str, host: str) -> float:
    """Return when a server last came to ``host`` by a migration.

    In seconds since the epoch; 0 if it never did.
    """
    return _arrived(_records(context, instance_uuid, list(_ENDED_WELL)), host)


def ended_badly(context: Any, instance_uuid: str, host: str) -> str:
    """Return how the last live migration of a server to ``host`` failed.

    ``failed`` or ``cancelled``; '' if it did not end so.
    """
    statuses = [*_UNDER_WAY, 'preparing', 'running', 'queued', *_ENDED_WELL, *_ENDED_BADLY]
    records = [record for record in _records(context, instance_uuid, statuses)
               if record.dest_compute == host and record.migration_type == LIVE]
    newest = max(records, key=lambda record: record.id, default=None)
    if newest is None or newest.status not in _ENDED_BADLY:
        return ''
    return 'cancelled' if newest.status == 'cancelled' else 'failed'


def _records(context: Any, instance_uuid: str, statuses: list[str]) -> list[Any]:
    filters = {'instance_uuid': instance_uuid, 'status': statuses}
    return list(objects.MigrationList.get_by_filters(context, filters, limit=_NEWEST))


def _arrived(records: Iterable[Any], host: str) -> float:
    return max((record.updated_at.timestamp() for record in records
                if record.status in _ENDED_WELL and record.dest_compute == host
                and record.updated_at is not None), default=0.0)
