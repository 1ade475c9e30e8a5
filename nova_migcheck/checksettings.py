# SPDX-License-Identifier: Apache-2.0
"""The options of this host that a check is given, without Nova."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a check is given. Plain values: a check runs in a process without nova.

    :param host: ``[DEFAULT] host``, this host's name in Nova
    :param options: group -> option -> value, only those that its ``OPTIONS`` list
    :param files: ``group.option`` -> the file that set it; absent for a default
    :param timeout: seconds that any one wait of the check may take
    :param memory: what the check gave as :class:`Keep` in its last round, else None
    :param guests: for the check that reads the guests: check that has needs -> its entry point
    :param thorough: False in a round that no decision waits for. Then a check may rely on an
        earlier round for what was well, to spare the services
    :param target: for a check of ``WHEN = 'path'``: the facts of the target, its ``host``, and the
        address at which Nova will ``connect`` to it
    :param server: for a check of the path or of a server: the UUID of the server that is about to
        go; '' if the path is checked without one
    :param arrival: for a check of a server: the fields of its ``Arrival``, and its ``needs``
    :param volumes: for a check that reads the volumes of a server: where they are reached, as
        ``nova_migcheck.volumes.attached`` has it: without credentials
    :param changed: for the check that reads the guests: UUIDs of those whose disks have changed
    """

    host: str = ''
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    timeout: float = 5.0
    memory: Any = None
    target: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    guests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    thorough: bool = True
    server: str = ''
    arrival: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    volumes: Sequence[Any] = ()
    changed: Sequence[str] = ()

    def get(self, group: str, option: str, default: Any = None) -> Any:
        """Return the value of an option, or ``default`` when Nova does not set or know it."""
        value = self.options.get(group, {}).get(option)
        return default if value is None else value

    def origin(self, group: str, option: str) -> str:
        """Return where an option comes from: ``/etc/nova/nova.conf [libvirt] virt_type``."""
        path = self.files.get(f'{group}.{option}')
        return f'{path or "default of"} [{group}] {option}'
