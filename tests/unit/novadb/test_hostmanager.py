# SPDX-License-Identifier: Apache-2.0
"""How Nova's filters and weighers are called; what they decide: tests/functional."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest

pytestmark = pytest.mark.nova


class State:
    """A host, as far as it matters here; like Nova's, each is equal only to itself."""

    def __init__(self, host):
        self.host = host


HOSTS = [State(name) for name in 'abc']


def spec(**hints):
    from nova.objects import request_spec

    return request_spec.RequestSpec(scheduler_hints=hints)


def passing(made, request):
    from nova_migcheck.novadb import hostmanager

    return [state.host for state in hostmanager.passing(made, HOSTS, request)]


def a_filter(**attributes):
    """An operator's, which keeps "b"."""
    from nova.scheduler import filters

    return type(
        'Filter',
        (filters.BaseHostFilter,),
        {'host_passes': lambda _self, state, _spec: state.host == 'b', **attributes},
    )()


def test_a_filter_keeps_what_nova_lets_it_keep():
    rebuild = spec(_nova_check_type=['rebuild'])
    for made, request, kept in (
        (a_filter(), spec(), 'b'),
        # Nova does not ask it about a rebuild, unless it wants to be.
        (a_filter(), rebuild, 'abc'),
        (a_filter(RUN_ON_REBUILD=True), rebuild, 'b'),
        (a_filter(_filter_one=lambda _self, state, _spec: state.host == 'c'), spec(), 'c'),
        (a_filter(filter_all=lambda _self, states, _spec: states[:2]), spec(), 'ab'),
        (a_filter(filter_all=lambda _self, _states, _spec: None), spec(), ''),
    ):
        assert passing(made, request) == list(kept)
        theirs = made.filter_all(list(HOSTS), request)
        assert passing(made, request) == [state.host for state in theirs or ()]


def test_the_weight_of_a_weigher_is_read_once_for_each_host():
    from nova.scheduler import host_manager

    from nova_migcheck.novadb import hostmanager

    read = mock.Mock(side_effect=lambda state: ord(state.host))
    weigher = SimpleNamespace(weight_multiplier=read)

    def init(manager):
        manager.weighers, manager.enabled_filters = [weigher], []

    with mock.patch.object(host_manager.HostManager, '__init__', init):
        hostmanager.HostManager()
    for _count in range(2):
        assert [weigher.weight_multiplier(state) for state in HOSTS] == [97, 98, 99]
    assert read.call_count == 3
    # What has been moved to a host makes another of it.
    assert weigher.weight_multiplier(State('b')) == 98 and read.call_count == 4
