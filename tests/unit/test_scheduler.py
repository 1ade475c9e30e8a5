# SPDX-License-Identifier: Apache-2.0
"""An error of ours in nova-scheduler: it leaves the hosts that on_error says."""

import types

import pytest

from nova_migcheck import scheduler

pytestmark = pytest.mark.nova


class BadSpec:
    """A request that breaks as soon as it is read."""

    instance_uuid = 'UUID'

    @property
    def ignore_hosts(self):
        raise AttributeError('no such field')


@pytest.fixture
def made():
    made = object.__new__(scheduler.MigrationTargetFilter)
    made._options = types.SimpleNamespace(mode='enforce', on_error='accept', last_resort_hosts=3)
    return made


@pytest.mark.parametrize(
    'on_error, mode, left',
    [('accept', 'enforce', ['host']), ('reject', 'enforce', []), ('reject', 'report', ['host'])],
)
def test_a_request_that_cannot_be_read(made, caplog, on_error, mode, left):
    made._options.on_error, made._options.mode = on_error, mode
    assert list(made.filter_all(['host'], BadSpec())) == left
    assert [record.levelname for record in caplog.records] == ['ERROR']
    assert 'instance UUID' in caplog.text and 'this is a bug' in caplog.text


@pytest.mark.parametrize('error', [SystemExit(), KeyboardInterrupt()])
def test_the_end_of_the_service_is_no_error_of_ours(made, monkeypatch, error):
    def end(*_args):
        raise error

    monkeypatch.setattr(made, '_judge_all', end)
    spec = types.SimpleNamespace(ignore_hosts=['source'], instance_uuid='UUID')
    with pytest.raises(type(error)):
        made.filter_all(['host'], spec)


@pytest.mark.parametrize(
    'ignored, left',
    [
        (['source'], ['a', 'b', 'c']),
        (['source', 'x'], ['a', 'b']),
        (['source', 'x', 'y', 'z'], []),
        (['source', 'v', 'w', 'x', 'y', 'z'], []),
    ],
)
def test_a_last_resort_counts_the_hosts_that_refused(made, ignored, left):
    hosts = [types.SimpleNamespace(host=name) for name in 'abcd']
    judge = types.SimpleNamespace(may_be_repaired=lambda host: True)
    spec = types.SimpleNamespace(ignore_hosts=ignored, instance_uuid='UUID')
    assert [host.host for host in made._last_resort(judge, hosts, spec)] == left


def test_a_last_resort_is_only_for_what_may_be_repaired(made):
    hosts = [types.SimpleNamespace(host=name) for name in 'abcd']
    judge = types.SimpleNamespace(may_be_repaired=lambda host: host.host in 'bd')
    spec = types.SimpleNamespace(ignore_hosts=['source'], instance_uuid='UUID')
    assert [host.host for host in made._last_resort(judge, hosts, spec)] == ['b', 'd']
