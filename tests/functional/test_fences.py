# SPDX-License-Identifier: Apache-2.0
"""Each entry of our driver breaks at its first statement, and Nova does what it does without us."""

from __future__ import annotations

import ast
import inspect
import sys
import threading
import time

import pytest
from nova import exception
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import driver as nova_driver

from nova_migcheck.compute import driver, lifecycle, refusal
from nova_migcheck.compute.fence import fenced
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import published
from tests.functional.cloud import Cloud
from tests.functional.hypervisor import Cpu


class Timeout(BaseException):
    """As eventlet has one: no Exception, and not ours to let through."""


ERRORS = [RuntimeError, Timeout]


def entries() -> set[str]:
    """What the driver calls of ours: ``destination.decide`` and the like, read off its source."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(driver))):
        if isinstance(node, ast.Call) and '._migcheck.' in (text := ast.unparse(node.func)):
            found.add(text.partition('._migcheck.')[2])
    return found


def test_the_entries_are_found():
    assert {'destination.decide', 'source.begin', 'watch.departing', 'stop'} <= entries()
    assert len(entries()) > 10


@pytest.mark.parametrize('error, kept', [
    (RuntimeError, True), (Timeout, True), (MemoryError, True),
    (SystemExit, False), (KeyboardInterrupt, False)])
def test_what_a_fence_keeps(error, kept):
    def enter():
        with fenced('testing'):
            raise error('')
    if kept:
        enter()
    else:
        with pytest.raises(error):
            enter()


def test_a_refusal_leaves_a_fence():
    with pytest.raises(exception.MigrationPreCheckError), fenced('testing'):
        raise exception.MigrationPreCheckError('refused')


def test_greenlet_exit_leaves_a_fence(monkeypatch):
    greenlet = sys.modules.get('greenlet') or pytest.importorskip('greenlet')
    monkeypatch.setitem(sys.modules, 'greenlet', greenlet)
    with pytest.raises(greenlet.GreenletExit), fenced('testing'):
        raise greenlet.GreenletExit()


class Breaks:
    """Makes entries of the drivers raise, and counts which were called."""

    def __init__(self, monkeypatch, cloud, error, names):
        self.called = set()
        for host in cloud.hosts.values():
            for name in names:
                *path, method = name.split('.')
                owner = host.driver._migcheck
                for part in path:
                    owner = getattr(owner, part)
                monkeypatch.setattr(owner, method, self._raising(name, error))

    def _raising(self, name, error):
        def broken(*_args, **_kwargs):
            self.called.add(name)
            raise error('a bug of ours')
        return broken


@pytest.fixture
def two_hosts(no_cloud):
    cloud = Cloud({'compute1': Cpu(), 'compute2': Cpu()})
    cloud.setUp()
    yield cloud
    cloud.cleanUp()


class TestEntries:
    @pytest.mark.parametrize('error', ERRORS)
    def test_each_breaks_and_nova_goes_on(self, two_hosts, monkeypatch, error):
        cloud = two_hosts
        cloud.check()
        server = cloud.boot('compute1')
        names = entries() - {'destination.refuse_as_nova'}  # below
        broken = Breaks(monkeypatch, cloud, error, names)
        # Nova's own report of the host is what it is without us.
        cloud.publish()
        assert 'uptime' not in nova_driver.__dict__ and published.read(cloud.stats('compute1')) is None
        migration = cloud.live_migrate(server)
        assert (migration.status, migration.host, migration.state) == ('completed', 'compute2', 'ACTIVE')
        with monkeypatch.context() as fails:
            def unprepared(*_args, **_kwargs):
                raise exception.NovaException('no space left')
            fails.setattr(nova_driver.LibvirtDriver, 'pre_live_migration', unprepared)
            migration = cloud.live_migrate(server)
            assert (migration.host, migration.state) == ('compute2', 'ACTIVE')
        with monkeypatch.context() as fails:
            def refused(domain, uri, params, flags):
                domain.fail_job()
                raise fakelibvirt.make_libvirtError(
                    fakelibvirt.libvirtError, 'no route to host', error_code=38,
                    error_domain=fakelibvirt.VIR_FROM_QEMU)
            fails.setattr(fakelibvirt.Domain, 'migrateToURI3', refused)
            assert cloud.live_migrate(server).host == 'compute2'
        for change in ('attach_volume', 'detach_volume'):
            with monkeypatch.context() as done:
                done.setattr(nova_driver.LibvirtDriver, change, lambda *args, **kwargs: 'done')
                assert getattr(cloud.hosts['compute1'].driver, change)(None, {}, cloud.instance(server), '/dev/vdb') == 'done'
        begun = time.monotonic()
        cloud.hosts['compute1'].driver.cleanup_host('compute1')
        assert time.monotonic() - begun < 30
        # left() is not reached where the begin of a migration broke, and with a shared directory
        # Nova does not tell the target of a failure.
        assert broken.called == names - {'watch.left', 'watch.turned_back'}
        lines = cloud.log.lines('ERROR', 'nova_migcheck.hook', 'this is a bug')
        assert len(lines) >= len(broken.called)

    @pytest.mark.parametrize('error', ERRORS)
    def test_the_end_of_a_migration_from_here(self, two_hosts, monkeypatch, error):
        cloud = two_hosts
        broken = Breaks(monkeypatch, cloud, error, ['watch.left'])
        assert cloud.live_migrate(cloud.boot('compute1')).status == 'completed'
        assert broken.called == {'watch.left'}

    @pytest.mark.parametrize('error', ERRORS)
    def test_a_rollback_on_the_target(self, two_hosts, monkeypatch, error):
        calls = []
        monkeypatch.setattr(nova_driver.LibvirtDriver, 'rollback_live_migration_at_destination',
                            lambda self, *args: calls.append(args))
        broken = Breaks(monkeypatch, two_hosts, error, ['watch.turned_back'])
        two_hosts.hosts['compute2'].driver.rollback_live_migration_at_destination(
            'context', 'instance', 'network', 'devices', destroy_disks=False, migrate_data='data')
        assert calls == [('context', 'instance', 'network', 'devices', False, 'data')]
        assert broken.called == {'watch.turned_back'}

    @pytest.mark.parametrize('error', ERRORS)
    def test_nova_s_own_refusal_remains(self, two_hosts, monkeypatch, error):
        cloud = two_hosts
        cloud.check()
        broken = Breaks(monkeypatch, cloud, error, ['destination.refuse_as_nova'])
        cloud.hosts['compute2'].set('workarounds', 'skip_cpu_compare_on_dest', 'false')

        def incompatible(*_args, **_kwargs):
            raise exception.InvalidCPUInfo('Unacceptable CPU info')
        monkeypatch.setattr(nova_driver.LibvirtDriver, '_compare_cpu', incompatible)
        migration = cloud.live_migrate(cloud.boot('compute1'), 'compute2')
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE')
        assert 'Unacceptable CPU info' in migration.texts
        assert broken.called == {'destination.refuse_as_nova'}


class TestStart:
    @pytest.mark.parametrize('error', ERRORS)
    @pytest.mark.parametrize('method', ['__init__', 'start'])
    def test_nova_compute_starts_without_us(self, no_cloud, monkeypatch, method, error):
        def broken(*_args):
            raise error('a bug of ours')
        monkeypatch.setattr(lifecycle.Lifecycle, method, broken)
        self._starts_without_us(f'{error.__name__}: a bug of ours')

    def test_a_package_that_is_missing(self, no_cloud, monkeypatch):
        monkeypatch.setitem(sys.modules, 'nova_migcheck.compute.lifecycle', None)
        self._starts_without_us('ImportError', 'ModuleNotFoundError')

    def test_a_third_party_check_that_is_wrong(self, no_cloud):
        """Its class attributes are read by nova-compute itself."""
        cloud = Cloud({'compute1': Cpu()}, conf={'migcheck': {'checks': 'cpu,evil'}})
        cloud.setUp()
        try:
            cloud.check()
            report = published.read(cloud.stats('compute1'))
            assert report.cpu is not None
            (finding,) = report.findings
            assert (finding.check, finding.outcome) == ('evil', Outcome.UNKNOWN)
            assert 'the check cannot be loaded: AUTH_GROUPS is None' in finding.detail
        finally:
            cloud.cleanUp()

    def _starts_without_us(self, *words):
        cloud = Cloud({'compute1': Cpu()}, conf={'migcheck': {'checks': 'cpu'}})
        cloud.setUp()
        try:
            (line,) = cloud.log.lines('ERROR', 'nova_migcheck.hook', 'failed while starting')
            assert any(word in line for word in words)
            assert published.read(cloud.stats('compute1')) is None
            assert not [one for one in threading.enumerate() if one.name == 'migcheck']
            cloud.boot('compute1')
        finally:
            cloud.cleanUp()


class TestSilentConductor:
    def test_a_refusal_does_not_wait_for_its_event(self, two_hosts, monkeypatch):
        cloud = two_hosts
        monkeypatch.setattr(refusal, 'CONDUCTOR', 0.3)
        released = threading.Event()
        monkeypatch.setattr(refusal, '_record', lambda *_args: released.wait(60))
        cloud.say('compute2', Finding('endpoint', Outcome.FAILURE, 'http://192.0.2.5:8780',
                                      'connection refused'))
        server = cloud.boot('compute1')
        cloud.hosts['compute2'].set('migcheck', 'recheck_after', '0')
        try:
            begun = time.monotonic()
            migration = cloud.live_migrate(server, 'compute2')
            assert time.monotonic() - begun < 30
        finally:
            released.set()
        assert (migration.host, migration.state) == ('compute1', 'ACTIVE')
        assert 'connection refused' in migration.texts
        (line,) = cloud.log.lines('WARNING', 'nova_migcheck.hook', 'event of this refusal')
        assert 'nova-conductor did not take it: no answer within 0.3 s' in line
        assert not cloud.log.lines('ERROR', 'this is a bug')
