# SPDX-License-Identifier: Apache-2.0
"""Read the servers of hosts that are to be emptied."""

from __future__ import annotations

from typing import Any, Iterable

from nova import context as nova_context
from nova import objects

from nova_migcheck.deadline import Call
from nova_migcheck.judging.matrix import Host
from nova_migcheck.novadb import fleet, moves
from nova_migcheck.planning.plan import Resident


def on_hosts(hosts: Iterable[Host], timeout: float) -> list[tuple[Resident, float]]:
    """Return the servers on these hosts, each with when it came there (see ``fleet.Server``).

    :param timeout: seconds for each cell
    :raises nova_migcheck.novadb.fleet.Unavailable: when a cell cannot be read
    :raises TimeoutError: when the global database does not answer
    """
    mappings = Call(objects.CellMappingList.get_all, nova_context.get_admin_context())
    cells = {cell.name or cell.uuid: cell for cell in mappings.wait(timeout)}
    by_cell: dict[str, list[str]] = {}
    for host in hosts:
        by_cell.setdefault(host.cell, []).append(host.name)
    return [server for cell, names in by_cell.items()
            for server in fleet.in_cell(cells[cell], timeout, _read, cell, names)]


def _read(context: Any, cell: str, hosts: list[str]) -> list[tuple[Resident, float]]:
    found = []
    for host in hosts:
        for instance in objects.InstanceList.get_by_host(context, host, expected_attrs=['flavor']):
            flavor = instance.flavor
            found.append((
                Resident(instance.uuid, instance.display_name or '', host, cell, flavor.memory_mb,
                         flavor.vcpus, flavor.root_gb + flavor.ephemeral_gb,
                         bool(instance.locked)),
                moves.arrived(context, instance.uuid, host)))
    return found
