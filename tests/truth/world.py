# SPDX-License-Identifier: Apache-2.0
"""A world: which state each group of states is in. It prints as the words that play it again."""

from __future__ import annotations

import dataclasses
import random
from typing import Callable, Iterator, Sequence

from tests.truth.plan import Plan
from tests.truth.states import GROUPS, State

# How often a world has a fault at all, how many it has then, and how often a group is in another
# healthy state than its first.
_FAULTY, _FAULTS, _OTHERWISE = 0.5, (1, 1, 1, 1, 2, 2, 3), 0.15


class Unknown(ValueError):
    """There is no such state."""


@dataclasses.dataclass(frozen=True)
class World:
    """:param states: in the order of their groups; a group that is missing is in its first state"""

    states: tuple[State, ...] = ()

    def __str__(self) -> str:
        return ' '.join(map(str, self.states)) or 'healthy'

    @classmethod
    def of(cls, words: str) -> World:
        """Read what :meth:`__str__` wrote.

        :raises Unknown: if a word is no state
        """
        known = {str(state): state for states in GROUPS.values() for state in states}
        chosen = words.split() if words.strip() != 'healthy' else []
        for word in chosen:
            if word not in known:
                raise Unknown(f'there is no state {word}; there are: {" ".join(known)}')
        return cls._sorted([known[word] for word in chosen])

    @classmethod
    def draw(cls, seed: int, number: int) -> World:
        """Draw one. The same numbers always draw the same."""
        chance = random.Random(f'{seed}:{number}')
        chosen = {
            group: chance.choice(healthy)
            for group, states in GROUPS.items()
            if (healthy := [state for state in states[1:] if not state.fault])
            and chance.random() < _OTHERWISE
        }
        if chance.random() < _FAULTY:
            faulty = [
                group for group, states in GROUPS.items() if any(state.fault for state in states)
            ]
            for group in chance.sample(faulty, chance.choice(_FAULTS)):
                chosen[group] = chance.choice([state for state in GROUPS[group] if state.fault])
        for drawn in list(chosen.values()):
            if drawn.along:
                along = cls.of(drawn.along).states[0]
                chosen.setdefault(along.group, along)
        return cls._sorted(list(chosen.values()))

    @classmethod
    def single(cls, state: State) -> World:
        """A world with this one state, and what it needs to matter."""
        return cls.of(f'{state.along} {state}')

    @classmethod
    def _sorted(cls, states: Sequence[State]) -> World:
        order = list(GROUPS)
        return cls(tuple(sorted(states, key=lambda state: order.index(state.group))))

    def plan(self) -> Plan:
        """What it comes to."""
        plan = Plan()
        chosen = {state.group: state for state in self.states}
        for group, states in GROUPS.items():
            chosen.get(group, states[0]).change(plan)
        return plan

    def smaller(self) -> Iterator[World]:
        """Each world with one state less."""
        for left_out in self.states:
            yield World(tuple(state for state in self.states if state is not left_out))

    def shrunk(self, still: Callable[[World], bool]) -> World:
        """The smallest world, one state after the other left out, of which ``still`` is true."""
        return next((one.shrunk(still) for one in self.smaller() if still(one)), self)
