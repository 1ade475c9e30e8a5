# SPDX-License-Identifier: Apache-2.0
"""One world, tried: what we say of it, and what happens."""

from __future__ import annotations

import dataclasses

from tests.truth import ours, reality
from tests.truth.host import Probes
from tests.truth.ours import Said
from tests.truth.reality import Went
from tests.truth.stage import Stage
from tests.truth.world import World

NOTHING, NOT_YET = Said(''), Went(False)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one world.

    :ivar error: why it could not be tried, '' if it was
    """

    world: World
    said: Said = NOTHING
    went: Went = NOT_YET
    error: str = ''

    @property
    def kind(self) -> str:
        """``missed`` or ``wrong`` where we and reality disagree, else ''."""
        if self.said.verdict == 'accepted' and not self.went.well:
            return 'missed'
        return 'wrong' if self.said.verdict == 'rejected' and self.went.well else ''

    def __str__(self) -> str:
        if self.error:
            return f'{self.world}: NOT TRIED: {self.error}'
        really = 'it arrives' if self.went.well else f'it fails: {self.went.words}'
        mark = f'{self.kind.upper()}: ' if self.kind else ''
        return f'{mark}{self.world}: {self.said.verdict}{"".join(f" [{code}]" for code in self.said.codes)}; {really}'


def attempt(world: World, probes: Probes) -> Trial:
    """Build a world, ask, and migrate."""
    try:
        with Stage(world.plan(), probes) as stage:
            said = ours.ask(stage)
            return Trial(world, said, reality.migrate(stage))
    except Exception as e:  # whatever it is, it is about this one world
        return Trial(world, error=f'{type(e).__name__}: {" ".join(str(e).split())[:400]}')
