# SPDX-License-Identifier: Apache-2.0
"""Targets for many servers: held against all ways there are, in small fleets."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_migcheck.planning.search import place


class Rooms:
    """Hosts with room, and servers that need some of it and may go to some hosts; no two of a group
    to one.
    """

    def __init__(self, rooms, servers):
        self.rooms = list(rooms)
        self.servers = servers  # name -> (size, hosts, group or None)
        self.groups = [set() for _room in rooms]
        self.asked = 0

    def options(self, name):
        self.asked += 1
        size, hosts, group = self.servers[name]
        fit = [
            host
            for host in hosts
            if self.rooms[host] >= size and (group is None or group not in self.groups[host])
        ]
        return SimpleNamespace(ranked=sorted(fit, key=lambda host: (-self.rooms[host], host)))

    def take(self, name, options, host):
        size, _hosts, group = self.servers[name]
        assert host in options.ranked
        self.rooms[host] -= size
        self.groups[host] |= {group} - {None}

        def undo():
            self.rooms[host] += size
            self.groups[host] -= {group}

        return undo


def most(rooms, servers):
    """How many can go, by trying everything."""
    best = 0
    choices = [[None, *hosts] for _size, hosts, _group in servers.values()]
    for targets in itertools.product(*choices):
        world = Rooms(rooms, servers)
        try:
            for name, host in zip(servers, targets):
                if host is not None:
                    world.take(name, world.options(name), host)
        except AssertionError:
            continue
        best = max(best, len(targets) - targets.count(None))
    return best


@st.composite
def fleets(draw):
    rooms = draw(st.lists(st.integers(0, 8), min_size=1, max_size=3))
    hosts = st.lists(st.sampled_from(range(len(rooms))), unique=True)
    server = st.tuples(st.integers(1, 5), hosts, st.sampled_from([None, None, 'a', 'b']))
    sizes = draw(st.lists(server, max_size=5))
    return rooms, {f's{number}': one for number, one in enumerate(sizes)}


@given(fleets())
def test_no_way_is_overlooked_and_none_is_invented(fleet):
    rooms, servers = fleet
    world = Rooms(rooms, servers)
    found = place(list(servers), world)
    assert found.proven and len(found.targets) == most(rooms, servers)
    # The moves are made, and can be made again in the order that a plan prints.
    again = Rooms(rooms, servers)
    for name in sorted(found.targets, key=lambda name: -servers[name][0]):
        again.take(name, again.options(name), found.targets[name])
    assert again.rooms == world.rooms and min(again.rooms, default=0) >= 0
    for name in servers:
        assert (name in found.stuck) <= (name not in found.targets)
        assert (
            name in found.targets
            or (name in found.stuck) == (not Rooms(rooms, servers).options(name).ranked)
            or found.stuck == frozenset()
        )


def test_each_goes_where_it_is_preferred_when_all_can():
    world = Rooms([4, 9, 5], dict.fromkeys('ab', (2, [0, 1, 2], None)))
    found = place(['a', 'b'], world)
    assert found.targets == {'a': 1, 'b': 1} and world.asked == 2


def test_a_way_is_found_that_the_preference_closes():
    # The large one prefers the host that alone takes the small one.
    servers = {'large': (3, [0, 1], None), 'small': (2, [0], None)}
    world = Rooms([4, 3], servers)
    assert place(['large', 'small'], world).targets == {'large': 1, 'small': 0}


def test_time_that_is_over_proves_nothing():
    servers = {'large': (3, [0, 1], None), 'small': (2, [0], None)}
    ticks = itertools.count()
    found = place(['large', 'small'], Rooms([4, 3], servers), 1, lambda: next(ticks) * 10)
    assert not found.proven and found.targets == {'large': 0} and not found.stuck


def test_what_is_stuck_alone_is_no_reason_to_search():
    servers = {'free': (1, [0], None), 'stuck': (9, [0], None), 'other': (2, [0], None)}
    world = Rooms([4], servers)
    found = place(list(servers), world, 0, lambda: pytest.fail('searched'))
    assert found.proven and found.stuck == {'stuck'} and found.targets == {'free': 0, 'other': 0}
    # In a cloud of 1,000 hosts each question takes long: one for each, and one more for the stuck.
    assert world.asked == 4 and world.rooms == [1]


def test_so_many_that_no_search_would_end():
    servers = {f's{n}': (1, [0, 1], None) for n in range(301)}
    found = place(list(servers), Rooms([200, 100], servers))
    assert len(found.targets) == 300 and not found.proven
