# SPDX-License-Identifier: Apache-2.0
"""Read from ``connection_info`` of a volume where its portals or monitors are, and nothing else.

It holds credentials (CHAP, keyrings). Only what :class:`Attached` lists leaves this module, and
only in the form of a name or an address with a port.
"""

from __future__ import annotations

import json
import re
from typing import Any, Iterable, Mapping, NamedTuple, Optional

# A host name, or an address of either version without brackets.
_HOST = re.compile(r'[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|[0-9A-Fa-f:.]{2,45}')
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}')
_NFS_PORT = 2049
_NFS_OPTION = re.compile(r'(?:^|[\s,])port=(\d{1,5})(?=$|[\s,])')
# More are not probed: a volume has two to eight, and Ceph three or five monitors.
MAX_PORTALS = 16


class Portal(NamedTuple):
    """Where a volume is reached.

    :ivar host: name or address, without brackets
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f'[{self.host}]:{self.port}' if ':' in self.host else f'{self.host}:{self.port}'


class Attached(NamedTuple):
    """A volume that is attached to a server.

    :ivar volume: its UUID
    :ivar driver: ``driver_volume_type`` as Nova has it, '' where it cannot be read
    :ivar portals: where it is reached over TCP
    :ivar unknown: why the portals are not known, '' where they are or where there are none
    """

    volume: str
    driver: str = ''
    portals: tuple[Portal, ...] = ()
    unknown: str = ''

    def to_json(self) -> list[Any]:
        """Return what :meth:`from_json` reads."""
        return [self.volume, self.driver, [list(portal) for portal in self.portals], self.unknown]

    @classmethod
    def from_json(cls, value: Any) -> Attached:
        """Return what :meth:`to_json` was called for."""
        volume, driver, portals, unknown = value
        return cls(volume, driver, tuple(Portal(*portal) for portal in portals), unknown)


def read(volume: Optional[str], connection_info: Any) -> Attached:
    """Return where a volume is reached.

    :param volume: its UUID
    :param connection_info: as Nova keeps it in its block device mapping: a JSON object
    """
    name = volume if volume and _NAME.fullmatch(volume) else 'volume'
    try:
        info = json.loads(connection_info)
        driver, data = info['driver_volume_type'], info['data']
    except (TypeError, ValueError, KeyError):
        # Not its text, nor the error, which quotes it.
        return Attached(name, unknown='its connection_info cannot be read')
    if not isinstance(driver, str) or not _NAME.fullmatch(driver) or not isinstance(data, dict):
        return Attached(name, unknown='its connection_info cannot be read')
    if driver not in _READERS:
        return Attached(name, driver, unknown=f'where volumes of {driver} are reached is not known')
    try:
        wanted = list(_READERS[driver](data))
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        wanted = [None]
    portals = tuple(dict.fromkeys(portal for portal in wanted if portal is not None))[:MAX_PORTALS]
    if wanted and not portals:
        return Attached(name, driver, unknown='its connection_info names no portal that can be '
                        'read')
    return Attached(name, driver, portals)


def of_mappings(mappings: Iterable[Any]) -> list[Attached]:
    """Return where the volumes of a server are reached, without their credentials.

    :param mappings: Nova's BlockDeviceMappingList
    """
    return [read(one.volume_id, one.connection_info) for one in mappings if one.is_volume]


def _portal(host: Any, port: Any) -> Optional[Portal]:
    """Return a portal, None if it is none."""
    host = host.strip().strip('[]') if isinstance(host, str) else ''
    number = int(port) if str(port).isascii() and str(port).isdigit() and len(str(port)) < 6 else 0
    return Portal(host, number) if _HOST.fullmatch(host) and 0 < number < 65536 else None


def _iscsi(data: Mapping[str, Any]) -> Iterable[Optional[Portal]]:
    """Return the portals; multipath's list has all of them."""
    for text in data.get('target_portals') or [data['target_portal']]:
        host, _colon, port = str(text).partition(',')[0].rpartition(':')
        yield _portal(host, port)


def _nvmeof(data: Mapping[str, Any]) -> Iterable[Optional[Portal]]:
    """Return the portals that are reached over TCP, of both forms that Cinder has had."""
    listed = [*(data.get('portals') or ()), *(
        portal for replica in data.get('volume_replicas') or ()
        for portal in replica.get('portals') or ())]
    if not listed:
        listed = [(data['target_portal'], data['target_port'], data.get('transport_type', ''))]
    for host, port, transport in listed:
        if 'tcp' in str(transport).lower():
            yield _portal(host, port)


def _rbd(data: Mapping[str, Any]) -> Iterable[Optional[Portal]]:
    """Return the monitors."""
    for host, port in zip(data.get('hosts') or (), data.get('ports') or ()):
        yield _portal(host, port)


def _nfs(data: Mapping[str, Any]) -> Iterable[Optional[Portal]]:
    """Return the server of the share."""
    host = data['export'].partition(':/')[0]
    port = _NFS_OPTION.search(str(data.get('options') or ''))
    yield _portal(host, port[1] if port else _NFS_PORT)


def _none(data: Mapping[str, Any]) -> Iterable[Optional[Portal]]:
    """Return nothing: no volume of this kind is reached over TCP."""
    return ()


_READERS = {'iscsi': _iscsi, 'nvmeof': _nvmeof, 'rbd': _rbd, 'nfs': _nfs,
            'fibre_channel': _none, 'local': _none}
