# SPDX-License-Identifier: Apache-2.0
"""Worlds that are drawn and made smaller; and some of them, tried."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from tests.lab import libvirtd, namespaces
from tests.truth import table
from tests.truth.explained import why
from tests.truth.ours import Said
from tests.truth.reality import Went
from tests.truth.states import GROUPS
from tests.truth.trial import Trial
from tests.truth.world import Unknown, World

ROOT = pathlib.Path(__file__).parents[2]
LACKING = namespaces.missing() or libvirtd.missing()


def test_a_seed_draws_the_same_worlds_and_they_print_as_what_plays_them_again() -> None:
    worlds = [World.draw(3, number) for number in range(300)]
    assert (
        worlds
        == [World.draw(3, number) for number in range(300)]
        != [World.draw(4, number) for number in range(300)]
    )
    assert [World.of(str(world)) for world in worlds] == worlds
    healthy = [world for world in worlds if not any(state.fault for state in world.states)]
    assert 0.4 < len(healthy) / len(worlds) < 0.6
    drawn = {state for world in worlds for state in world.states}
    assert set(GROUPS) == {state.group for state in drawn}


def test_every_state_changes_a_plan() -> None:
    for states in GROUPS.values():
        for state in states:
            assert World.single(state).plan() is not None


def test_a_word_that_is_no_state() -> None:
    with pytest.raises(Unknown, match='mtu=9000'):
        World.of('mtu=9')


def test_the_smallest_world_that_still_disagrees() -> None:
    world = World.of('ip=6 inbound=name mtu=9000 login=sasl')
    assert str(world.shrunk(lambda one: 'mtu=9000' in str(one))) == 'mtu=9000'
    assert (
        str(world.shrunk(lambda one: {'ip=6', 'login=sasl'} <= set(str(one).split())))
        == 'ip=6 login=sasl'
    )
    assert world.shrunk(lambda one: False) == world


def test_what_is_counted() -> None:
    world = World.of('left=running')
    trials = [
        Trial(World(), Said('accepted'), Went(True)),
        Trial(world, Said('accepted'), Went(False, 'it runs there')),
        Trial(
            World.of('mtu=9000'), Said('rejected', ('address',), ('address-link-down',)), Went(True)
        ),
        Trial(World(), Said('unknown', ('cpu',)), Went(False)),
        Trial(World(), error='no room'),
    ]
    assert [trial.kind for trial in trials] == ['', 'missed', 'wrong', '', '']
    assert table.unexplained(trials) == [
        trial for trial in (trials[1], trials[2], trials[4]) if not why(trial)
    ]
    assert ('address', '0', '1', '0', '0') in table.rows(trials) and (
        'cpu',
        '0',
        '0',
        '1',
        '0',
    ) in table.rows(trials)
    page = table.page(trials, 5)
    assert (
        'seed 5' in page
        and '* wrong: ``mtu=9000``' in page
        and '4 worlds tried' in page
        and '1 could not be tried' in page
    )


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', module, *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.root
@pytest.mark.libvirt
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(LACKING), reason=LACKING or 'all there')
def test_twenty_worlds() -> None:
    done = run('tests.truth', '--worlds', '20', '--seed', '20261128')
    assert done.returncode == 0, done.stdout + done.stderr
    assert '20 worlds tried' in done.stdout


@pytest.mark.root
@pytest.mark.libvirt
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(LACKING), reason=LACKING or 'all there')
def test_a_check_that_is_broken_is_noticed() -> None:
    done = run('tests.truth.broken')
    assert done.returncode == 0, done.stdout + done.stderr
