# SPDX-License-Identifier: Apache-2.0
"""Find targets for many servers, each of which takes room from the next. Pure."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Callable, Dict, Generic, Protocol, Sequence, Tuple, TypeVar

S = TypeVar('S')
S_contra = TypeVar('S_contra', contravariant=True)

#: Seconds to look for a better plan if the simple one leaves servers that could go alone.
SECONDS = 10.0
# More servers would go deeper than Python's stack, and no search would end anyway.
_MOST = 300


class Options(Protocol):
    """Where one server can go now."""

    @property
    def ranked(self) -> Sequence[str]:
        """The hosts, in the order of preference."""


class World(Protocol[S_contra]):
    """What the search asks. A move takes from the room of its target until it is undone."""

    def options(self, server: S_contra) -> Options:
        """Return where a server can go after the moves so far."""

    def take(self, server: S_contra, options: Any, host: str) -> Callable[[], None]:
        """Move a server, and return what undoes it. The last one is undone first."""


# Server -> what was decided about it, and the host that it takes of that.
_Placed = Dict[S, Tuple[Options, str]]


@dataclasses.dataclass(frozen=True)
class Found(Generic[S]):
    """The best plan.

    :param targets: server -> host, all moves are made
    :param stuck: servers that have no target even while all others stay
    :param proven: whether no plan moves more servers
    """

    targets: dict[S, str]
    stuck: frozenset[S]
    proven: bool


def place(servers: Sequence[S], world: World[S], seconds: float = SECONDS,
          clock: Callable[[], float] = time.monotonic) -> Found[S]:
    """Return targets for as many servers as possible. The moves of the result are made.

    First each server goes where it is preferred, in the order given. Only if that leaves servers
    that could go alone, all other ways are tried, for a limited time. A move never makes room on
    a target, so the order of the moves does not matter, and what is stuck alone stays stuck.
    """
    placed, undos = _greedy(servers, world)
    left = [server for server in servers if server not in placed]
    if not left:
        return _found(placed, frozenset(), True)
    while undos:
        undos.pop()()
    stuck = frozenset(server for server in left if not world.options(server).ranked)
    proven = True
    if len(stuck) < len(left):
        free = [server for server in servers if server not in stuck]
        proven = len(free) <= _MOST
        if proven:
            # Who has the fewest hosts to go to is placed first: a dead end is found sooner.
            alone = {server: len(world.options(server).ranked) for server in free}
            search = _Search(sorted(free, key=alone.__getitem__), world, placed,
                             clock() + seconds, clock)
            proven = search.run()
            placed = search.best
    # The same moves in the same order: each takes what it was decided to take.
    for server, (options, host) in placed.items():
        world.take(server, options, host)
    return _found(placed, stuck, proven)


def _found(placed: _Placed[S], stuck: frozenset[S], proven: bool) -> Found[S]:
    return Found({server: host for server, (_options, host) in placed.items()}, stuck, proven)


def _greedy(servers: Sequence[S],
            world: World[S]) -> tuple[_Placed[S], list[Callable[[], None]]]:
    placed: _Placed[S] = {}
    undos = []
    for server in servers:
        options = world.options(server)
        if options.ranked:
            placed[server] = options, options.ranked[0]
            undos.append(world.take(server, *placed[server]))
    return placed, undos


class _Search(Generic[S]):
    """Try all ways, best first, until none is left or the time is over."""

    def __init__(self, order: Sequence[S], world: World[S], best: _Placed[S], until: float,
                 clock: Callable[[], float]) -> None:
        self._order, self._world, self._until, self._clock = order, world, until, clock
        self.best = best
        self._fewest = len(order) - len(best)
        self._placed: _Placed[S] = {}
        self._over = False

    def run(self) -> bool:
        """Improve :attr:`best`, and return whether nothing better exists."""
        self._place(0, 0)
        return not self._over

    def _place(self, index: int, skipped: int) -> None:
        if skipped >= self._fewest:
            return
        if index == len(self._order):
            self.best, self._fewest = dict(self._placed), skipped
            return
        if self._over or self._clock() > self._until:
            self._over = True
            return
        server = self._order[index]
        options = self._world.options(server)
        for host in options.ranked:
            undo = self._world.take(server, options, host)
            self._placed[server] = options, host
            self._place(index + 1, skipped)
            del self._placed[server]
            undo()
        self._place(index + 1, skipped + 1)
