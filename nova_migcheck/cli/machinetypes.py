# SPDX-License-Identifier: Apache-2.0
"""Show which machine types all hosts have, and which running guests some could not take."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Collection, Mapping, Sequence

from cliff import columns

from nova_migcheck import hostranges
from nova_migcheck.machine import fleet
from nova_migcheck.machine.guest import unfold
from nova_migcheck.report.report import Report


@dataclasses.dataclass(frozen=True)
class Machines:
    """The machine types of the hosts that have published theirs.

    :param arch: of the hosts
    :param offered: host -> names of its machine types
    :param used: machine type -> hosts that run guests with it
    """

    arch: str = ''
    offered: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    used: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, reports: Mapping[str, Report]) -> Machines:
        """Read them from the reports of all hosts, which are of one architecture."""
        arch = next(report.cpu.arch for report in reports.values() if report.cpu)
        offered: dict[str, list[str]] = {}
        used: dict[str, set[str]] = {}
        for host, report in reports.items():
            types = report.fact('machine').get('machine_types')
            names = types.get(arch) if isinstance(types, dict) else None
            if isinstance(names, str):
                offered[host] = unfold(names)
            for text in {report.needs.usual, *(text for text, _who in report.needs.others)} - {''}:
                needs = json.loads(text).get('machine')
                name = needs.get('type') if isinstance(needs, dict) else None
                if isinstance(name, str) and needs.get('arch') == arch:
                    used.setdefault(name, set()).add(host)
        return cls(arch, offered, used)

    @property
    def newest(self) -> str:
        """The value of ``[libvirt] hw_machine_type``, '' if there is none."""
        name = fleet.newest(self.offered, self.used)
        return f'{self.arch}={name}' if name else ''

    def lacking(self) -> list[fleet.InUse]:
        """Return the machine types of running guests that some of the hosts lack."""
        return fleet.lacking(self.offered, self.used)

    def lines(self) -> list[str]:
        """Return lines for nova.conf, with comments about running guests."""
        lines = [f'hw_machine_type = {self.newest}'] if self.newest else []
        return [*lines, *(
            f'# guests on {hostranges.fold(one.on, 12)} have {one.type}, which is not on '
            f'{hostranges.fold(one.lacking, 12)}' for one in self.lacking())]


class MachineTypes(columns.FormattableColumn):
    """Machine types that some hosts lack: objects for programs, one line for people."""

    def human_readable(self) -> str:
        """Return all of them in one line."""
        return '; '.join(f'{one.type} on {", ".join(one.on)}: not on {", ".join(one.lacking)}'
                         for one in self._value)

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return an object for each."""
        return [{'type': one.type, 'on': list(one.on), 'lacking': list(one.lacking)}
                for one in self._value]
