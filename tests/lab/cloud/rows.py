# SPDX-License-Identifier: Apache-2.0
"""Play the rows of the table: set the fault, ask for the migration, look, mend."""

from __future__ import annotations

import dataclasses
import re
import time
import traceback
from typing import Optional

from tests.lab.cloud.cloud import Cloud, say
from tests.lab.cloud.faults import ELSEWHERE, ROWS, TARGET, Fault
from tests.lab.cloud.service import until
from tests.lab.cloud.user import Migration, Server

# Seconds after the fault within which the migration is asked for, with --at-once.
AT_ONCE = 3.0
# With --repaired: the rows that are played, and the seconds from the repair within which the target must have accepted.
REPAIRED = ('A9', 'E1', 'S1', 'T1')
ACCEPTED = {'named': 10.0, 'forced': 5.0}


@dataclasses.dataclass(frozen=True)
class Played:
    """What one row came to, with the plugin or without.

    :ivar caught: where the target was refused: ``filter``, ``destination``, ``source``, or said only in its own ``log``; '' when it was not
    :ivar text: the refusal as it was to be read, and where
    :ivar at_once: whether the migration was asked for before any round of checks saw the fault
    :ivar repaired: seconds from the repair until the target had accepted, with the target ``named`` and ``forced``
    :ivar wrong: what is not as the row wants it; '' when all is (always '' without the plugin)
    """

    row: str
    plugin: bool
    migration: Optional[Migration]
    caught: str = ''
    text: str = ''
    wrong: str = ''
    at_once: bool = False
    repaired: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def started(self) -> bool:
        """Whether pre_live_migration ran on the target."""
        return self.migration is not None and TARGET in self.migration.begun


class Players:
    """Plays rows, one after the other, in one cloud. A server that comes well out of a row is used for the next."""

    def __init__(self, cloud: Cloud, at_once: bool = False, repaired: bool = False) -> None:
        self.cloud = cloud
        self.at_once = at_once
        self.repaired = repaired
        self._server: Optional[Server] = None
        # Whether the row has taken its fault away itself.
        self._is_clear = False
        # When the last row was mended: what a host has said before is not about the next.
        self._mended = 0.0

    def play(self, row: str) -> Played:
        """Play one row with what the cloud has now: the plugin or not. Never raises because of the row itself."""
        began = time.monotonic()
        kind = ROWS[row]
        try:
            if kind.born_after:
                self._drop_server()
                fault = kind(self.cloud)
            else:
                fault = kind(self.cloud, self._server_away_from_target().host)
            self.cloud.wait_well(self._mended)
            self._is_clear = False
            try:
                played = self._with_fault(fault)
            finally:
                self._mended = time.time()
                if not self._is_clear:
                    fault.clear()
                fault.restart()
        except Exception as e:
            # One row that the lab cannot play must not cost the others; it counts as wrong.
            traceback.print_exc()
            played = Played(row, self.cloud.plugin, None, wrong=f'the lab failed: {type(e).__name__}: {e}')
        try:
            if kind.born_after or not _well(played.migration):
                self._drop_server()
        except Exception as e:
            traceback.print_exc()
            self._server = None
            played = dataclasses.replace(played, wrong=f'{played.wrong}; the server could not be deleted: {e}'.lstrip('; '))
        played = dataclasses.replace(played, at_once=self.at_once)
        say(f'{row:4} {"plugin" if self.cloud.plugin else "stock ":6} {time.monotonic() - began:5.0f} s  '
            f'{played.caught or ("started" if played.started else "not started"):12} {played.wrong or "as it should be"}')
        return played

    def _with_fault(self, fault: Fault) -> Played:
        if self.at_once:
            return self._with_fresh_fault(fault)
        if self.repaired:
            return self._after_repair(fault)
        broken, before = time.time(), self.cloud.nodes[TARGET].compute.mark()
        fault.set()
        fault.restart()
        if self._server is None:
            self._server = Server(self.cloud, TARGET if fault.born_on_target else fault.source.name)
        server = self._server
        if fault.way_back:
            there = server.migrate(fault.source.name)
            if not there.completed:
                return Played(fault.row, self.cloud.plugin, there, wrong=f'did not get away from {TARGET}: {there.read}')
        if type(fault).ready is not Fault.ready:
            fault.ready()
            broken = time.time()
        if self.cloud.plugin and fault.noticed:
            self.cloud.wait_checked(*(getattr(fault, role).name for role in fault.noticed), since=broken)
        if fault.accepted:
            until(120, f'{TARGET} counts as up', lambda: self.cloud.up(TARGET), 0.3)
        marks = self._marks()
        migration = server.migrate(TARGET if fault.named else '', force=fault.force)
        if not self.cloud.plugin:
            return Played(fault.row, False, migration)
        caught, text = self._refusal(migration, marks, before if fault.silent else None)
        return Played(fault.row, True, migration, caught, text, _judge(fault, migration, caught, text))

    def _with_fresh_fault(self, fault: Fault) -> Played:
        """Ask for the migration within :data:`AT_ONCE` seconds of the fault."""
        server = self._server
        assert server is not None
        if self.cloud.plugin:
            self.cloud.wait_old(TARGET)
        marks, broken = self._marks(), time.time()
        fault.set_in_a_moment()
        took = time.time() - broken
        migration = server.migrate(TARGET if fault.named else '', force=fault.force)
        if not self.cloud.plugin:
            return Played(fault.row, False, migration)
        caught, text = self._refusal(migration, marks, None)
        wrong = _judge(fault, migration, caught, text)
        if took > AT_ONCE:
            wrong = f'{wrong}; asked {took:.1f} s after the fault'.lstrip('; ')
        return Played(fault.row, True, migration, caught, text, wrong)

    def _after_repair(self, fault: Fault) -> Played:
        """Ask for the migration when the target has reported the fault, and it was repaired a moment ago."""
        assert self._server is not None
        took = {}
        for way in ACCEPTED:
            broken, self._is_clear = time.time(), False
            fault.set()
            self.cloud.wait_checked(TARGET, since=broken)
            fault.clear()
            self._is_clear = True
            # A libvirtd that was restarted is Nova's own affair.
            until(60, f'{TARGET} counts as up', lambda: self.cloud.up(TARGET), 0.1)
            migration = self._server.migrate(TARGET, force=way == 'forced')
            took[way] = migration.accepted
            wrong = '' if migration.completed and migration.host == TARGET else f'{way}: {migration.read}'
            if not wrong and took[way] > ACCEPTED[way]:
                wrong = f'{way}: accepted {took[way]:.1f} s after the repair'
            if wrong:
                break
            self._drop_server()
            self._server_away_from_target()
        return Played(fault.row, self.cloud.plugin, migration, repaired=took, wrong=wrong)

    def _server_away_from_target(self) -> Server:
        if self._server is not None and self._server.host == TARGET:
            self._drop_server()
        if self._server is None:
            self._server = Server(self.cloud, 'compute1')
        return self._server

    def _drop_server(self) -> None:
        if self._server is not None:
            self._server.delete()
            self._server = None

    def done(self) -> None:
        """Take the server away."""
        self._drop_server()

    def _marks(self) -> dict[str, int]:
        return {'': self.cloud.control.scheduler.mark(), **{name: node.compute.mark() for name, node in self.cloud.nodes.items()}}

    def _refusal(self, migration: Migration, marks: dict[str, int], silent: Optional[int]) -> tuple[str, str]:
        """Who refused the target, and the text: what the administrator reads in the events, else in the scheduler's log.

        :param silent: for a target that can tell nobody but its own log, the place in it from which on it is read
        """
        target = self.cloud.nodes[TARGET].compute.logged(marks[TARGET])
        source = self.cloud.nodes[migration.source].compute.logged(marks[migration.source])
        events = ' | '.join(f'{event}: {details}' for event, _host, details in migration.texts)
        pattern = re.compile(rf'Live migration to {TARGET} is refused: .*')
        found = pattern.search(target)
        if found:
            return 'destination', found.group() + ' || ' + events
        found = pattern.search(source)
        if found:
            return 'source', found.group() + ' || ' + events
        log = self.cloud.control.scheduler.logged(marks[''])
        # One of the three hosts is the source: the other two are the target and one more.
        lines = re.findall(rf'(?:Host {TARGET} is|2 hosts are) rejected as target.*', log)
        if lines:
            return 'filter', lines[0] + (' || ' + events if events else '')
        if silent is not None:
            said = re.findall(r'This host as a migration target: failure: .*', self.cloud.nodes[TARGET].compute.logged(silent))
            return ('log', ' '.join(dict.fromkeys(said))) if said else ('', '')
        return '', events


def _well(migration: Optional[Migration]) -> bool:
    """Whether the server came well out of it: where Nova says it is, there it runs, and nowhere else is anything left."""
    return migration is not None and migration.state == 'ACTIVE' and migration.running == {migration.host: 'running'}


def _judge(fault: Fault, migration: Migration, caught: str, text: str) -> str:
    """What is not as the row wants it."""
    wrong = []
    if not _well(migration):
        wrong.append(f'the server is {migration.state} on {migration.host}, the guest {migration.running}')
    if fault.accepted:
        if not (migration.completed and migration.host == TARGET):
            wrong.append(f'{TARGET} was not used: {text or migration.read}')
        return '; '.join(wrong)
    if TARGET in migration.begun:
        wrong.append(f'pre_live_migration ran on {TARGET}')
    if not caught:
        wrong.append('not refused by the plugin')
    missing = [name for name in fault.names if not re.search(name, text)]
    if missing:
        wrong.append(f'does not name {", ".join(missing)}: {text}')
    return '; '.join(wrong)


def chosen(names: list[str], at_once: bool = False, repaired: bool = False) -> list[str]:
    """The rows to play, in the table's order; all that can be played when none is named.

    :param at_once: of those, the ones whose fault can arise in a moment
    :param repaired: of those, the ones of :data:`REPAIRED`

    :raises SystemExit: for a row that is not there, with the reason
    """
    for name in names:
        if name in ELSEWHERE:
            raise SystemExit(f'{name} cannot be had on one machine: {ELSEWHERE[name]}')
        if name not in ROWS:
            raise SystemExit(f'there is no row {name}; there are {" ".join(ordered(ROWS))}')
        if at_once and not ROWS[name].is_momentary():
            raise SystemExit(f'{name} cannot be played at once: its fault does not arise in a moment')
    found = ordered(names or (REPAIRED if repaired else ROWS))
    return [name for name in found if ROWS[name].is_momentary()] if at_once else found


def ordered(names: object) -> list[str]:
    """C1 … C6, A1 …, E, S, T, M, V, N, K."""
    return sorted(names, key=lambda name: ('CAESTMVNK'.index(name[0]), int(name[1:])))  # type: ignore[call-overload,no-any-return]
