# SPDX-License-Identifier: Apache-2.0
"""Find targets for many servers, each of which takes room from the next. Pure."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Callable, Generic, Protocol, Sequence, TypeVar

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
    targets, undos = _greedy(servers, world)
    left = [server for server in servers if server not in targets]
    if not left:
        return Found(targets, frozenset(), True)
    _undo(undos)
    alone = {server: len(world.options(server).ranked) for server in servers}
    stuck = frozenset(server for server in servers if not alone[server])
    proven = True
    if not stuck.issuperset(left):
        # Who has the fewest hosts to go to is placed first: a dead end is found sooner.
        order = sorted((server for server in servers if server not in stuck), key=alone.__getitem__)
        search = _Search(order, world, targets, clock() + seconds, clock)
        proven = search.run()
        targets = search.best
    for server, host in targets.items():
        world.take(server, world.options(server), host)
    return Found(targets, stuck, proven)


def _greedy(servers: Sequence[S],
            world: World[S]) -> tuple[dict[S, str], list[Callable[[], None]]]:
    targets, undos = {}, []
    for server in servers:
        options = world.options(server)
        if options.ranked:
            targets[server] = options.ranked[0]
            undos.append(world.take(server, options, options.ranked[0]))
    return targets, undos


def _undo(undos: list[Callable[[], None]]) -> None:
    while undos:
        undos.pop()()


class _Search(Generic[S]):
    """Try all ways, best first, until none is left or the time is over."""

    def __init__(self, order: Sequence[S], world: World[S], best: dict[S, str], until: float,
                 clock: Callable[[], float]) -> None:
        self._order, self._world, self._until, self._clock = order, world, until, clock
        self.best = best
        self._fewest = len(order) - len(best)
        self._targets: dict[S, str] = {}
        self._over = len(order) > _MOST

    def run(self) -> bool:
        """Improve :attr:`best`, and return whether nothing better exists."""
        if not self._over:
            self._place(0, 0)
        return not self._over

    def _place(self, index: int, skipped: int) -> None:
        if skipped >= self._fewest:
            return
        if index == len(self._order):
            self.best, self._fewest = dict(self._targets), skipped
            return
        if self._over or self._clock() > self._until:
            self._over = True
            return
        server = self._order[index]
        options = self._world.options(server)
        for host in options.ranked:
            undo = self._world.take(server, options, host)
            self._targets[server] = host
            self._place(index + 1, skipped)
            del self._targets[server]
            undo()
        self._place(index + 1, skipped + 1)
