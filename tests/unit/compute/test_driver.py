# SPDX-License-Identifier: Apache-2.0
"""Each method of the driver calls Nova's own with the same arguments, and ours beside it.

Nova's methods and the parts of the plugin are made up here: the real ones are in tests/functional.
"""

from __future__ import annotations

import types
import uuid

import pytest

pytest.importorskip('nova', reason='nova is not installed')

import nova.conf
from nova import exception
from nova.virt.libvirt import driver as nova_s

from nova_migcheck import conf as confs
from nova_migcheck import cpu as cpus
from nova_migcheck.compute.driver import LibvirtDriver

pytestmark = pytest.mark.nova

INSTANCE = types.SimpleNamespace(uuid=str(uuid.uuid4()))
# method -> arguments, as Nova passes them
CALLS = {
    'pre_live_migration': ('context', INSTANCE, 'bdi', 'network', 'disk', 'data'),
    'post_live_migration_at_destination': ('context', INSTANCE, 'network', True, 'bdi'),
    'rollback_live_migration_at_destination': (
        'context',
        INSTANCE,
        'network',
        'bdi',
        False,
        'data',
    ),
    'live_migration': ('context', INSTANCE, 'dest', 'post', 'recover', True, 'data'),
    'check_can_live_migrate_source': ('context', INSTANCE, 'dest data', 'bdi'),
    'check_can_live_migrate_destination': ('context', INSTANCE, 'source', 'dest', True, False),
    '_compare_cpu': ('guest', 'host', INSTANCE),
    '_live_migration_operation': ('context', INSTANCE, 'dest', True, 'data', 'guest', []),
    'cleanup_host': ('compute1',),
}


class Part:
    """A part of the plugin: it records its calls, and returns what it is given for each."""

    def __init__(self, log, **results):
        self._log, self._results = log, results

    def __getattr__(self, name):
        def method(*args):
            self._log.append((name, args))
            result = self._results.get(name)
            if isinstance(result, Exception):
                raise result
            return result

        return method


@pytest.fixture
def nova_calls(monkeypatch):
    """What Nova's own methods were called with, and what they are to raise."""
    calls = types.SimpleNamespace(log=[], error=None)

    def method_of(name):
        def method(_self, *args):
            calls.log.append((name, args))
            if calls.error is not None:
                raise calls.error
            return f"Nova's {name}"

        return method

    for name in CALLS:
        monkeypatch.setattr(nova_s.LibvirtDriver, name, method_of(name))
    return calls


@pytest.fixture
def driver(nova_calls):
    confs.register(nova.conf.CONF)
    made = object.__new__(LibvirtDriver)
    made._migcheck_compared, made._migcheck_departures, made.log = {}, {}, []
    return made


def plug(driver, decide=lambda: None, **results):
    """Put the plugin in place."""
    departure = Part(driver.log, noting=('our post', 'our recover'))
    driver._migcheck = types.SimpleNamespace(
        watch=Part(driver.log, departing=departure, **results),
        source=Part(driver.log, begin=decide),
        destination=Part(driver.log, **results),
        stop=lambda: driver.log.append(('stop', ())),
    )
    return departure


@pytest.mark.parametrize('name', CALLS)
def test_without_the_plugin_it_is_nova_s(driver, nova_calls, name):
    assert getattr(driver, name)(*CALLS[name]) == (
        None if name == 'cleanup_host' else f"Nova's {name}"
    )
    assert nova_calls.log == [(name, CALLS[name])]


@pytest.mark.parametrize('name', CALLS)
@pytest.mark.parametrize('plugged', [False, True])
def test_what_nova_raises_is_raised(driver, nova_calls, name, plugged):
    if plugged:
        plug(driver)
    nova_calls.error = exception.MigrationError(reason='of Nova')
    with pytest.raises(exception.MigrationError, match='of Nova'):
        getattr(driver, name)(*CALLS[name])


def test_a_migration_from_here(driver, nova_calls):
    departure = plug(driver)
    driver.live_migration(*CALLS['live_migration'])
    context, instance, dest, _post, _recover, *others = CALLS['live_migration']
    assert nova_calls.log == [
        ('live_migration', (context, instance, dest, 'our post', 'our recover', *others))
    ]
    assert driver.log[0] == ('departing', (INSTANCE, 'dest'))
    assert driver.log[-1] == ('left', (departure, None))
    assert driver._migcheck_departures == {}


def test_a_migration_from_here_that_fails(driver, nova_calls):
    departure = plug(driver)
    nova_calls.error = error = exception.MigrationError(reason='of Nova')
    with pytest.raises(exception.MigrationError):
        driver.live_migration(*CALLS['live_migration'])
    assert driver.log[-1] == ('left', (departure, error))


def test_what_libvirt_raised_is_kept_for_the_end_of_the_migration(driver, nova_calls):
    departure = types.SimpleNamespace(error=None)
    driver._migcheck_departures[INSTANCE.uuid] = departure
    nova_calls.error = error = RuntimeError('of libvirt')
    with pytest.raises(RuntimeError):
        driver._live_migration_operation(*CALLS['_live_migration_operation'])
    assert departure.error is error


@pytest.mark.parametrize(
    'name, noted',
    [
        ('pre_live_migration', ('arriving', ('context', INSTANCE))),
        ('post_live_migration_at_destination', ('arrived', (INSTANCE,))),
        ('rollback_live_migration_at_destination', ('turned_back', (INSTANCE,))),
    ],
)
def test_what_happens_on_the_target_is_noted(driver, nova_calls, name, noted):
    plug(driver)
    assert getattr(driver, name)(*CALLS[name]) == f"Nova's {name}"
    assert driver.log == [noted] and nova_calls.log == [(name, CALLS[name])]


def test_a_target_that_cannot_prepare_is_noted(driver, nova_calls):
    plug(driver)
    nova_calls.error = error = exception.MigrationError(reason='of Nova')
    with pytest.raises(exception.MigrationError):
        driver.pre_live_migration(*CALLS['pre_live_migration'])
    assert driver.log == [('not_prepared', (INSTANCE, error))]


def test_the_source_refuses_when_both_do(driver, nova_calls):
    def refuse():
        raise exception.MigrationPreCheckError(reason='of ours')

    plug(driver, refuse)
    with pytest.raises(exception.MigrationPreCheckError, match='of ours'):
        driver.check_can_live_migrate_source(*CALLS['check_can_live_migrate_source'])
    nova_calls.error = exception.MigrationPreCheckError(reason='of Nova')
    with pytest.raises(exception.MigrationPreCheckError, match='of ours'):
        driver.check_can_live_migrate_source(*CALLS['check_can_live_migrate_source'])


def test_a_destination_that_refuses_does_not_ask_nova(driver, nova_calls):
    plug(driver)
    driver._migcheck.destination = Part(
        driver.log, decide=exception.MigrationPreCheckError(reason='of ours')
    )
    with pytest.raises(exception.MigrationPreCheckError, match='of ours'):
        driver.check_can_live_migrate_destination(*CALLS['check_can_live_migrate_destination'])
    assert nova_calls.log == []


def test_the_destination_tells_the_source(driver, nova_calls):
    plug(driver)
    driver._migcheck.destination = Part(driver.log, decide='compared')
    data = driver.check_can_live_migrate_destination(*CALLS['check_can_live_migrate_destination'])
    assert driver.log == [
        ('decide', ('context', INSTANCE, 'source')),
        ('tell_source', (data, 'compared')),
    ]
    assert driver._migcheck_compared == {}


def test_a_server_that_is_no_object_is_nova_s(driver, nova_calls):
    """As in some of Nova's own tests: what we cannot note is one ERROR line, and Nova goes on."""
    plug(driver)
    driver._migcheck.watch = Part(driver.log, departing=AttributeError("no attribute 'uuid'"))
    arguments = ('context', {}, *CALLS['live_migration'][2:])
    assert driver.live_migration(*arguments) == "Nova's live_migration"
    assert nova_calls.log == [('live_migration', arguments)]
    assert driver._compare_cpu('guest', 'host', {}) == "Nova's _compare_cpu"
    nova_calls.error = error = RuntimeError('of libvirt')
    with pytest.raises(RuntimeError) as raised:
        driver._live_migration_operation('context', {}, 'dest')
    assert raised.value is error


def compared(outcome):
    return types.SimpleNamespace(comparison=cpus.Comparison(outcome))


@pytest.mark.parametrize(
    'setting, found, asks_nova',
    [
        ('keep', cpus.COMPATIBLE, True),
        ('keep', cpus.UNKNOWN, True),
        ('replace', cpus.COMPATIBLE, False),
        ('replace', cpus.UNKNOWN, True),
        ('replace', cpus.INCOMPATIBLE, True),
    ],
)
def test_nova_s_comparison_is_replaced_only_where_ours_found_compatible(
    driver, nova_calls, setting, found, asks_nova
):
    nova.conf.CONF.set_override('nova_cpu_check', setting, 'migcheck')
    try:
        driver._migcheck_compared[INSTANCE.uuid] = compared(found)
        driver._compare_cpu(*CALLS['_compare_cpu'])
    finally:
        nova.conf.CONF.clear_override('nova_cpu_check', 'migcheck')
    assert bool(nova_calls.log) is asks_nova


def test_at_the_start_of_nova_compute_there_is_no_instance(driver, nova_calls):
    driver._compare_cpu('guest', 'host', None)
    assert nova_calls.log == [('_compare_cpu', ('guest', 'host', None))]


def test_nova_s_refusal_of_what_ours_found_compatible_is_explained(driver, nova_calls):
    plug(driver)
    driver._migcheck_compared[INSTANCE.uuid] = ours = compared(cpus.COMPATIBLE)
    nova_calls.error = error = exception.InvalidCPUInfo(reason='of Nova')
    with pytest.raises(exception.InvalidCPUInfo):
        driver._compare_cpu(*CALLS['_compare_cpu'])
    assert driver.log == [('refuse_as_nova', (ours, INSTANCE, error))]
