# SPDX-License-Identifier: Apache-2.0
"""A whole Nova in this process: API, conductor, scheduler, placement and compute hosts, as an operator sets it up.

Everything is Nova's own code, configured by a nova.conf file; only what lies below Nova is not real: libvirt
(:mod:`tests.functional.hypervisor`), the message bus, SQLite for the database, and neutron, glance and cinder.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import dataclasses
import io
import json
import logging
import os
import sys
import threading
import time
import types
import uuid
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence
from unittest import mock

import fixtures
import futurist
import nova.conf
import sqlalchemy
from nova import context as nova_context
from nova import objects
from nova import test as nova_test
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional import fixtures as functional_fixtures

from nova_migcheck import scheduler
from nova_migcheck.finding import Finding
from nova_migcheck.report import published
from tests.functional import in_child, nova_release, per_host
from tests.functional.hypervisor import MISSING_CONSTANTS, Cpu, Hypervisor

CONF = nova.conf.CONF

IMAGE = '155d900f-4e14-4e4c-a73d-069cbf4541e6'  # the first of GlanceFixture's
TINY, SMALL = '1', '2'  # of DefaultFlavorsFixture
MICROVERSION = nova_release.microversion()
# The last with which an administrator can force a live migration past the scheduler.
FORCING = '2.67'
# Seconds between two looks at what is waited for, at least.
LOOK = 0.03
MIGRATION_ENDED = ('completed', 'error', 'failed', 'cancelled', 'done', 'finished', 'confirmed')

Conf = Mapping[str, Mapping[str, Any]]

# What the operator writes into nova.conf to enable the plugin; README and etc/ say the same.
ENABLED: Conf = {
    'DEFAULT': {'compute_driver': 'migcheck.LibvirtDriver'},
    'filter_scheduler': {
        'available_filters': ['nova.scheduler.filters.all_filters', 'nova_migcheck.scheduler.all_filters'],
        'enabled_filters': 'ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,MigrationTargetFilter',
    },
}
# Which checks run unless a test says otherwise: the real one of the CPU, and two that say what a test wants. Rounds are
# run when a test asks for one.
CHECKS: Conf = {'migcheck': {'checks': 'cpu,scripted,scripted_path', 'check_interval': '3600'}}
STOCK: Conf = {
    'DEFAULT': {'compute_driver': 'libvirt.LibvirtDriver'},
    'filter_scheduler': {'enabled_filters': 'ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter'},
}


@dataclasses.dataclass
class Host:
    """One compute host.

    :ivar nova_conf: the file that its own options are said to stand in
    :ivar options: ``(group, option)`` -> value, where this host's nova.conf differs from the others'; DEFAULT is None
    :ivar calls: names of the public methods of its compute manager, as they were called
    """

    name: str
    hypervisor: Hypervisor
    nova_conf: str
    options: dict[tuple[Optional[str], str], Any] = dataclasses.field(default_factory=dict)
    calls: list[str] = dataclasses.field(default_factory=list)
    service: Any = None

    @property
    def manager(self) -> Any:
        return self.service.manager

    @property
    def driver(self) -> Any:
        return self.service.manager.driver

    def check(self) -> None:
        """A round of checks now."""
        if getattr(self.driver, '_migcheck', None) is not None:  # mode = off, or Nova's own driver
            reporter = self.driver._migcheck.reporter
            # Not fresh(): it is content with a round that was already under way.
            with per_host.running_for(self), reporter._running:
                reporter._round(thorough=True)

    def texts(self) -> dict[str, str]:
        """What it will publish next. Nothing where the plugin is not."""
        hook = getattr(self.driver, '_migcheck', None)
        return hook.reporter.texts() if hook is not None else {}

    def looked(self) -> None:
        """What ended on this host has been looked at."""
        if getattr(self.driver, '_migcheck', None) is not None:
            done = threading.Event()
            self.driver._migcheck.watch._later(done.set)
            if not done.wait(30):
                raise TimeoutError(f'{self.name} still looks at a live migration')

    def forget_migrations(self) -> bool:
        """As if it had just started. Whether there were any."""
        hook = getattr(self.driver, '_migcheck', None)
        self.looked()
        if hook is None or not (hook.watch.pasts() or hook.watch._arrivals):
            return False
        hook.watch._arrivals.clear()
        hook.watch._pasts.clear()
        hook.reporter.migrated(())
        return True

    def was_asked(self) -> bool:
        """Whether a live migration to here was checked or begun on this host."""
        return bool({'check_can_live_migrate_destination', 'pre_live_migration'} & set(self.calls))

    def set(self, group: Optional[str], option: str, value: Any) -> None:
        """Change an option on this host only. Text is read as nova.conf's would be."""
        self.options[(group, option)] = per_host.convert(group, option, value)


@dataclasses.dataclass(frozen=True)
class Migration:
    """How a live migration ended.

    :ivar status: of the migration record
    :ivar host: where the server is now
    :ivar state: of the server, e.g. ``ACTIVE``
    :ivar action: the instance action, with its ``message`` and ``events``, as an administrator sees it
    """

    status: str
    host: str
    state: str
    action: Mapping[str, Any]

    @property
    def refusals(self) -> dict[str, str]:
        """host -> the reason in the event that the plugin left for it."""
        return {event['host']: event['details'] for event in self.action['events']
                if event['event'].startswith('migcheck_refused_')}

    @property
    def message(self) -> str:
        """Why the conductor gave up, as ``openstack server event show`` prints it."""
        return next(event['details'] or '' for event in self.action['events']
                    if event['event'] == 'conductor_live_migrate_instance')

    @property
    def texts(self) -> str:
        """Every detail that Nova kept about it."""
        return '\n'.join([str(self.action['message'])] + [
            f'{event["event"]}: {event["details"]}' for event in self.action['events']])


def _time_of(text: str) -> int:
    """When a published report was made, in seconds since the epoch."""
    return int(text.split()[1])


def _without_time(text: Optional[str]) -> list[str]:
    """What a published report says."""
    version, _time, rest = (text or '  ').split(' ', 2)
    return [version, rest]


class Log(fixtures.Fixture):
    """Keeps what is logged; stands in for Nova's StandardLogging, which takes away the handlers of pytest."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        self._lines: list[str] = []
        self.logger = self  # Nova's test base reads stdlog.logger.output

    @property
    def output(self) -> str:
        return '\n'.join(self._lines)

    def lines(self, *words: str) -> list[str]:
        """The lines with all of these words in them."""
        return [line for line in list(self._lines) if all(word in line for word in words)]

    def clear(self) -> None:
        self._lines.clear()

    def delete_stored_logs(self) -> None:
        self.clear()

    def _setUp(self) -> None:
        handler = logging.Handler(self.level)
        handler.setFormatter(logging.Formatter('%(levelname)s [%(name)s] %(message)s'))
        handler.emit = lambda record: self._lines.append(handler.format(record))
        root = logging.getLogger()
        before = root.level
        for other in list(root.handlers):
            # The one to the screen that oslo.log sets up when nova.test is imported; pytest's are of other types.
            if type(other) is logging.StreamHandler:
                root.removeHandler(other)
        root.setLevel(self.level)
        root.addHandler(handler)
        self.addCleanup(root.setLevel, before)
        self.addCleanup(root.removeHandler, handler)
        self.useFixture(fixtures.MonkeyPatch('oslo_log.log.setup', lambda *args, **kwargs: None))


class DatabaseWatch(fixtures.Fixture):
    """Tells when something was written to a database, and which queries the scheduler made."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()
        self._writes = 0
        self._queries: contextvars.ContextVar[Optional[list[str]]] = contextvars.ContextVar('queries', default=None)

    def _setUp(self) -> None:
        for name, listener in (('before_cursor_execute', self._execute), ('commit', self._commit)):
            sqlalchemy.event.listen(sqlalchemy.engine.Engine, name, listener)
            self.addCleanup(sqlalchemy.event.remove, sqlalchemy.engine.Engine, name, listener)

    def _execute(self, connection: Any, cursor: Any, statement: str, *args: Any) -> None:
        queries = self._queries.get()
        # An older oslo.db asks each connection whether it lives.
        if queries is not None and statement not in ('BEGIN', 'SELECT 1'):
            queries.append(statement)
        # Of all that is written, what is waited for stands in these tables.
        if any(statement.startswith((f'UPDATE {table}', f'INSERT INTO {table}')) for table in ('instance', 'migrations')):
            connection.info['wrote'] = True

    def _commit(self, connection: Any) -> None:
        if connection.info.pop('wrote', False):
            with self._written:
                self._writes += 1
                self._written.notify_all()

    @contextlib.contextmanager
    def queries(self) -> Iterator[list[str]]:
        """The statements made by what runs inside, also on the executors that it hands work to."""
        found: list[str] = []
        token = self._queries.set(found)
        try:
            yield found
        finally:
            self._queries.reset(token)

    def wait_for(self, reached: Callable[[], Any], what: str, seconds: float = 90) -> Any:
        """The first true answer of ``reached``, asked again after each write to a database."""
        end = time.monotonic() + seconds
        while True:
            seen = self._writes
            answer = reached()
            if answer:
                return answer
            with self._written:
                # Not everything that is waited for is written last; so look again now and then.
                self._written.wait_for(lambda: self._writes != seen, min(1.0, max(0.0, end - time.monotonic())))  # noqa: B023
            # One write seldom comes alone, and to look costs several queries.
            time.sleep(LOOK)
            if time.monotonic() > end:
                raise TimeoutError(f'{what} was not reached in {seconds} s')


class Bus(fixtures.Fixture):
    """Lets whoever listens to oslo.messaging's fake bus wake with a message; it looks every 50 ms, in each of 20 calls."""

    def _setUp(self) -> None:
        from oslo_messaging._drivers import impl_fake
        told, count, seen = threading.Condition(), [0], threading.local()
        deliver, stop = impl_fake.FakeExchange.deliver_message, impl_fake.FakeListener.stop

        def tell() -> None:
            with told:
                count[0] += 1
                told.notify_all()

        def deliver_and_tell(exchange: Any, *args: Any, **kwargs: Any) -> None:
            deliver(exchange, *args, **kwargs)
            tell()

        def stop_and_tell(listener: Any) -> None:
            stop(listener)
            tell()

        def pause(seconds: float) -> None:
            with told:
                # Not for what came since it last looked.
                told.wait_for(lambda: count[0] != getattr(seen, 'count', -1), 1.0 if seconds >= 0.05 else max(0.0, seconds))
                seen.count = count[0]

        self.useFixture(fixtures.MonkeyPatch(
            'oslo_messaging._drivers.impl_fake.FakeExchange.deliver_message', deliver_and_tell))
        self.useFixture(fixtures.MonkeyPatch('oslo_messaging._drivers.impl_fake.FakeListener.stop', stop_and_tell))
        self.useFixture(fixtures.MonkeyPatch(
            'oslo_messaging._drivers.impl_fake.time', types.SimpleNamespace(time=time.time, sleep=pause)))


class _Pool(sqlalchemy.pool.QueuePool):
    """Keeps connections to SQLite's files open, which oslo.db does not; a quarter of all CPU time went into opening them."""

    def __init__(self, creator: Any, **kwargs: Any) -> None:
        # SQLite's file does not go away: asking it before each use whether it is there took a quarter of what was left.
        super().__init__(creator, **{**kwargs, 'pool_size': 10, 'max_overflow': -1, 'pre_ping': False})


class _Nova(nova_test.TestCase):
    """Nova's own base of functional tests, for its databases, bus, cells and services; not used as a test."""

    REQUIRES_LOCKING = True

    def runTest(self) -> None:
        raise NotImplementedError

    def _clear_attrs(self) -> None:
        pass  # Nova's would delete what the cleanups after it need

    def tear_down(self) -> None:
        """Every cleanup runs; what the first one raised is raised."""
        futurist._thread.ThreadWorker.MAX_IDLE_FOR = 0.01
        errors = []
        while self._cleanups:
            function, args, kwargs = self._cleanups.pop()
            try:
                function(*args, **kwargs)
            except Exception as e:
                errors.append(e)
        if errors:
            raise errors[0]


class Cloud(fixtures.Fixture):
    """An in-process Nova.

    :param cpus: host name -> the CPU of its hypervisor
    :param plugin: whether nova.conf enables the plugin
    :param conf: group -> option -> text (or several, for an option that is written more than once), for all services
    :param host_conf: host -> the same, where that host's nova.conf differs
    :param memory_used: host -> MiB of its 16 GiB that something else uses: the scheduler takes the host with most left first
    :param debug: whether DEBUG lines are kept too
    """

    def __init__(self, cpus: Mapping[str, Cpu], plugin: bool = True, conf: Optional[Conf] = None,
                 host_conf: Optional[Mapping[str, Conf]] = None, memory_used: Optional[Mapping[str, int]] = None,
                 debug: bool = False) -> None:
        super().__init__()
        self._cpus = dict(cpus)
        self._plugin = plugin
        self._conf = conf or {}
        self._host_conf = host_conf or {}
        self._memory_used = memory_used or {}
        self.log = Log(logging.DEBUG if debug else logging.INFO)
        self.database = DatabaseWatch()
        self.hosts: dict[str, Host] = {}
        self._options: dict[str, dict[tuple[Optional[str], str], Any]] = {}
        #: The queries of each request that the scheduler answered.
        self.scheduler_queries: list[list[str]] = []
        self._heading_for: dict[str, Host] = {}
        self._booted = 0
        self._overridden: list[tuple[str, str]] = []
        self._homes: dict[str, str] = {}
        # host -> all its stats, as they were when all was well.
        self._published: dict[str, dict[str, Optional[str]]] = {}

    # -- bringing it up

    def _setUp(self) -> None:
        self.path = self.useFixture(fixtures.TempDir()).path
        self.nova_conf = os.path.join(self.path, 'nova.conf')
        self._write_nova_conf()
        self.script = self.useFixture(fixtures.TempDir()).path
        # A first round at a random moment would publish what a test says before the scheduler is asked.
        self.useFixture(fixtures.MonkeyPatch('nova_migcheck.compute.reporter.FIRST', 0.0))
        self.useFixture(fixtures.EnvironmentVariable('MIGCHECK_TEST_SCRIPT', self.script))
        self.useFixture(fixtures.EnvironmentVariable('PYTHONPATH', os.pathsep.join(filter(None, [
            os.path.dirname(in_child.__file__), os.environ.get('PYTHONPATH', '')]))))
        self.useFixture(self.database)
        self.useFixture(fixtures.MonkeyPatch('nova.tests.fixtures.StandardLogging', lambda: self.log))
        self._read_nova_conf()
        self.useFixture(fixtures.MonkeyPatch('sqlalchemy.pool.NullPool', _Pool))
        self.useFixture(Bus())
        self.useFixture(nova_release.Databases())
        self.addCleanup(self._forget_required_options)
        self.nova = _Nova('runTest')
        self.addCleanup(self.nova.tear_down)
        self.nova.setUp()
        # Nova's test base lets idle workers look for work 100 times a second, which makes for a quick end; a dozen of them
        # cost a sixth of a processor all the time.
        futurist._thread.ThreadWorker.MAX_IDLE_FOR = 0.3
        self.useFixture(per_host.PerHost())
        self.useFixture(nova_release.Differences())
        self._neighbours()
        self._below_nova()
        for name in ('conductor', 'scheduler'):
            setattr(self, name, self.nova.start_service(name))
            self.nova.addCleanup(getattr(self, name).stop)
        self._count_queries_of_the_scheduler()
        osapi = self.nova.useFixture(nova_fixtures.OSAPIFixture(api_version='v2.1'))
        self.api = osapi.admin_api
        #: Makes the WSGI application, for who wants to serve it; the releases before 2023.2 have a server of their own.
        self.wsgi_app: Optional[Callable[[], Any]] = getattr(osapi, 'app', None)
        self.api.microversion = MICROVERSION
        for name, cpu in self._cpus.items():
            self.start_compute(name, cpu)

    def _write_nova_conf(self) -> None:
        """What an operator writes, and little else."""
        groups: dict[str, dict[str, Any]] = {
            'DEFAULT': {'instances_path': os.path.join(self.path, 'instances'), 'transport_url': 'fake:/',
                        'state_path': self.path},
            'wsgi': {'api_paste_config': nova_release.api_paste()},
            # Tests that share a cloud share its one project.
            'quota': {'instances': '-1', 'cores': '-1', 'ram': '-1'},
            # Whether Nova's API keeps to its own schema is for Nova's tests, which make it an error.
            'api': {'response_validation': 'ignore'},
            # As kolla-ansible does since 17.0.0, because of LP#2039803.
            'workarounds': {'skip_cpu_compare_on_dest': 'true'},
        }
        os.mkdir(groups['DEFAULT']['instances_path'])
        for settings in (*((ENABLED, CHECKS) if self._plugin else (STOCK,)), self._conf):
            for group, options in settings.items():
                groups.setdefault(group, {}).update(options)
        with open(self.nova_conf, 'w', encoding='utf-8') as file:
            for group, options in groups.items():
                file.write(f'[{group}]\n')
                for option, value in options.items():
                    for text in [value] if isinstance(value, str) else value:
                        file.write(f'{option} = {text}\n')

    def _read_nova_conf(self) -> None:
        from nova import config
        parse = config.parse_args

        def parse_with_file(argv: Sequence[str], default_config_files: Any = None, **kwargs: Any) -> None:
            parse(argv, default_config_files=[self.nova_conf], **kwargs)

        self.useFixture(fixtures.MonkeyPatch('nova.config.parse_args', parse_with_file))

    def _forget_required_options(self) -> None:
        """Once it has logged in somewhere, keystoneauth1 requires its options of every nova.conf read in this process."""
        for name, group in CONF._groups.items():
            CONF.unregister_opts([info['opt'] for info in group._opts.values() if info['opt'].required], group=name)

    def _neighbours(self) -> None:
        use = self.nova.useFixture
        self.placement = use(functional_fixtures.PlacementFixture()).api
        for fixture in (nova_fixtures.NeutronFixture, nova_fixtures.CinderFixture, nova_fixtures.GlanceFixture):
            use(fixture(self.nova))
        use(nova_fixtures.RealPolicyFixture())
        #: What was sent to whoever listens to Nova's notifications.
        self.notifier = use(nova_fixtures.NotificationFixture(self.nova))

    def _below_nova(self) -> None:
        use = self.nova.useFixture
        use(nova_fixtures.LibvirtImageBackendFixture())
        use(nova_fixtures.CGroupsFixture())
        use(nova_fixtures.LibvirtFixture())
        # For what imports libvirt itself, as Nova's fixture does it for Nova's own modules.
        before = sys.modules.get('libvirt')
        sys.modules['libvirt'] = fakelibvirt
        self.nova.addCleanup(sys.modules.pop if before is None else sys.modules.__setitem__, 'libvirt', before)
        use(nova_fixtures.OSBrickFixture())
        driver = 'nova.virt.libvirt.driver.LibvirtDriver'
        for name, value in {
            f'{driver}._create_image': (False, False),
            f'{driver}._get_local_gb_info': {'total': 128, 'used': 44, 'free': 84},
            f'{driver}.migrate_disk_and_power_off': '{}',
            f'{driver}.snapshot': None,
            # A process each time, which was a twentieth of all CPU time.
            f'{driver}.get_host_uptime': ' 12:00:00 up 3 days,  4:05,  1 user,  load average: 0.00, 0.01, 0.05\n',
            'nova.virt.libvirt.driver.libvirt_utils.is_valid_hostname': True,
            'nova.privsep.utils.supports_direct_io': True,
            'nova.virt.libvirt.host.Host.get_online_cpus': set(range(16)),
        }.items():
            use(fixtures.MockPatch(name, return_value=value))
        use(fixtures.MockPatch(
            'nova.virt.libvirt.driver.libvirt_utils.file_open', side_effect=lambda *args, **kwargs: io.BytesIO(b'')))
        for name, value in MISSING_CONSTANTS.items():
            if not hasattr(fakelibvirt, name):
                use(fixtures.MonkeyPatch(f'nova.tests.fixtures.libvirt.{name}', value))
        use(fixtures.MonkeyPatch('nova.tests.fixtures.libvirt.Domain.migrateToURI3', self._migrate))
        # How often Nova looks at a guest that migrates; every 0.5 s is for real ones.
        use(fixtures.MonkeyPatch('nova.virt.libvirt.driver.time', types.SimpleNamespace(
            **{**vars(time), 'sleep': lambda seconds: time.sleep(min(seconds, 0.05))})))
        use(fixtures.MonkeyPatch(
            'nova.virt.libvirt.host.Host.get_connection', lambda _host: per_host.current().hypervisor))
        # The tests of namespaces beside these mount something all the time.
        use(fixtures.MonkeyPatch('nova_migcheck.storage.mounts.table', lambda: b''))
        if nova_release.has_node_identity():
            use(fixtures.MonkeyPatch(
                'nova.virt.node.get_local_node_uuid', lambda: str(uuid.uuid5(uuid.NAMESPACE_DNS, per_host.current().name))))

    def _migrate(self, domain: Any, uri: str, params: Mapping[str, Any], flags: int) -> None:
        """What libvirt and QEMU do: move the guest, or refuse a CPU that the target cannot give."""
        target = self._heading_for[domain.UUIDString()].hypervisor
        target.starts(domain)
        target.createXML(params['destination_xml'], 0)
        domain.complete_job()
        if domain._transient:  # it came by a live migration itself; a defined one is undefined by Nova
            domain._connection._undefine(domain)

    def _count_queries_of_the_scheduler(self) -> None:
        manager = self.scheduler.manager
        select = manager.select_destinations

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.database.queries() as queries:
                self.scheduler_queries.append(queries)
                return select(*args, **kwargs)

        manager.select_destinations = counted

    def start_compute(self, name: str, cpu: Cpu) -> Host:
        """One more compute host; its driver is loaded by Nova from ``[DEFAULT] compute_driver``."""
        from nova.virt import driver as virt_driver
        host = Host(name, Hypervisor(name, cpu, self.path), os.path.join(self.path, name, 'nova.conf'))
        self.hosts[name] = host
        host.set(None, 'host', name)
        host.set('libvirt', 'connection_uri', host.hypervisor.uri)
        host.set(None, 'reserved_host_memory_mb', str(512 + self._memory_used.get(name, 0)))
        host.hypervisor.tell()
        for group, options in self._host_conf.get(name, {}).items():
            for option, value in options.items():
                host.set(None if group == 'DEFAULT' else group, option, value)
        load = virt_driver.load_compute_driver

        def load_for_host(virtapi: Any, compute_driver: Optional[str] = None) -> Any:
            loaded = load(virtapi, compute_driver)
            loaded._host.get_connection = lambda: host.hypervisor
            per_host.bind(host, loaded, lambda _name: None)
            per_host.bind(host, virtapi._compute, host.calls.append)
            self._note_where_guests_go(host, virtapi._compute)
            return loaded

        with per_host.running_for(host), mock.patch('nova.virt.driver.load_compute_driver', load_for_host):
            host.service = self.nova.start_service('compute', host=name)
        self.nova.addCleanup(host.service.stop)
        self._options[name] = dict(host.options)
        return host

    def _note_where_guests_go(self, host: Host, manager: Any) -> None:
        prepare = manager.pre_live_migration

        def noted(context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
            self._heading_for[instance.uuid] = host
            return prepare(context, instance, *args, **kwargs)

        manager.pre_live_migration = noted

    def set(self, group: str, option: str, value: Any) -> None:
        """Change an option of all services, for our filter and for those who read it anew each time; until the next ``restore``."""
        CONF.set_override(option, per_host.convert(group, option, value), group)
        self._overridden.append((group, option))
        self._start_filter_anew()

    def _start_filter_anew(self) -> None:
        """As a new start of nova-scheduler does: it reads its options once."""
        for position, one in enumerate(self.scheduler.manager.host_manager.enabled_filters):
            if isinstance(one, scheduler.MigrationTargetFilter):
                self.scheduler.manager.host_manager.enabled_filters[position] = scheduler.MigrationTargetFilter()

    def restore(self) -> None:
        """As it was when it came up: every host well and its report published, nothing called or logged yet.

        Servers that never moved stay, for :meth:`server`.
        """
        for server in self._servers() - set(self._homes):
            self.delete(server)
        if self._overridden:
            for group, option in self._overridden:
                CONF.clear_override(option, group)
            self._overridden.clear()
            self._start_filter_anew()
        moved = [host.name for host in self.hosts.values() if host.forget_migrations()]
        if moved:
            self.publish(*moved)
        if self._plugin and not self._published:
            self._await_first_rounds()
        ill = []
        for name, host in self.hosts.items():
            host.options = dict(self._options[name])
            host.hypervisor.forget_all_but(server for server, home in self._homes.items() if home == name)
            if host.hypervisor.cpu != self._cpus[name]:
                host.hypervisor.cpu = self._cpus[name]
            for path in (self._script(name), self._script(f'{name}.path')):
                if os.path.exists(path):
                    os.unlink(path)
            if self._plugin and not self._is_well(host):
                ill.append(name)
        if ill:
            self.check(*ill)
            self._published.update((name, self.stats(name)) for name in ill)
        self.forget_calls()

    def _servers(self) -> set[str]:
        """UUIDs of all of the cell that are not deleted."""
        with self.cell() as context:
            return {instance.uuid for instance in objects.InstanceList.get_by_filters(context, {'deleted': False}, expected_attrs=[])}

    def _is_well(self, host: Host) -> bool:
        """Whether a host's last round, which is not old, found what it found when all was well; it is then what is published, too."""
        well = self._published[host.name]
        texts = host.texts()
        if well.keys() & set(published.KEYS) != texts.keys():
            return False
        for key, text in texts.items():
            if _without_time(text) != _without_time(well[key]) or _time_of(text) < time.time() - CONF.migcheck.stale_after / 3:
                return False
        stats = self.stats(host.name)
        if {key: stats.get(key) for key in published.KEYS} != {key: texts.get(key) for key in published.KEYS}:
            # A test wrote over it, or a round was run that has not been published.
            self.set_stats(host.name, {**well, **{key: text for key, text in stats.items() if key not in published.KEYS}, **texts})
        return True

    def _await_first_rounds(self) -> None:
        """Each host began one when it started."""
        for host in self.hosts.values():
            if getattr(host.driver, '_migcheck', None) is not None:  # mode = off, or Nova's own driver
                with per_host.running_for(host):
                    host.driver._migcheck.reporter.fresh(10 ** 9)
        self.publish()
        self._published = {name: self.stats(name) for name in self.hosts}

    # -- looking at it

    @contextlib.contextmanager
    def cell(self) -> Iterator[nova_context.RequestContext]:
        """An administrator's context in the cell where the computes are."""
        context = nova_context.get_admin_context()
        with nova_context.target_cell(context, self.nova.cell_mappings['cell1']) as targeted:
            yield targeted

    def instance(self, server: str) -> Any:
        with self.cell() as context:
            return objects.Instance.get_by_uuid(context, server, expected_attrs=[])

    def migrations(self, server: str) -> list[Any]:
        """The server's migration records, newest first."""
        with self.cell() as context:
            found = objects.MigrationList.get_by_filters(context, {'instance_uuid': server})
        return sorted(found, key=lambda migration: migration.id, reverse=True)

    def stats(self, host: str) -> dict[str, Optional[str]]:
        """What the host last published for the scheduler."""
        with self.cell() as context:
            return dict(objects.ComputeNode.get_by_host_and_nodename(context, host, host).stats or {})

    def set_stats(self, host: str, stats: Mapping[str, Optional[str]]) -> None:
        """Write what the scheduler will read of a host, past its compute; ``publish`` overwrites it."""
        with self.cell() as context:
            node = objects.ComputeNode.get_by_host_and_nodename(context, host, host)
            node.stats = dict(stats)
            node.save()

    def allocated_on(self, consumer: str) -> set[str]:
        """Hosts on which placement holds something for a server or a migration record."""
        providers = self.placement.get(f'/allocations/{consumer}').body['allocations']
        names = {provider['uuid']: provider['name']
                 for provider in self.placement.get('/resource_providers').body['resource_providers']}
        return {names[provider] for provider in providers}

    def host_of(self, server: str) -> str:
        return self.instance(server).host

    def actions(self, server: str) -> Iterator[dict[str, Any]]:
        """The server's actions with their events, newest first, as an administrator sees them."""
        for action in self.api.get_instance_actions(server):
            yield self.api.get_instance_action_details(server, action['request_id'])

    # -- what the checks of the tests' own plugin say

    def say(self, host: str, *findings: Finding, facts: Optional[Mapping[str, Any]] = None) -> None:
        """From its next round on, the ``scripted`` check on ``host`` finds this, and nothing else."""
        self._write_script(host, {'findings': [finding.to_dict() for finding in findings], 'facts': facts or {}})

    def say_of_paths(self, source: str, findings: Mapping[str, Finding]) -> None:
        """What the ``scripted_path`` check on ``source`` finds about the way to each target."""
        self._write_script(f'{source}.path', {target: [finding.to_dict()] for target, finding in findings.items()})

    def _write_script(self, name: str, said: Any) -> None:
        with open(self._script(name), 'w', encoding='utf-8') as file:
            json.dump(said, file)

    def _script(self, name: str) -> str:
        return os.path.join(self.script, f'{name}.json')

    def check(self, *hosts: str) -> None:
        """A round of checks on each host and the publication of its report; on all of them when none is named."""
        with concurrent.futures.ThreadPoolExecutor() as rounds:
            list(rounds.map(Host.check, [self.hosts[name] for name in hosts or self.hosts]))
        self.publish(*hosts)

    # -- using it

    def publish(self, *hosts: str) -> None:
        """Each host's resource audit, which carries its report to the scheduler; all hosts' when none is named."""
        for name in hosts or self.hosts:
            with self.cell() as context:
                self.hosts[name].manager.update_available_resource(context)

    def forget_calls(self) -> None:
        for host in self.hosts.values():
            host.calls.clear()
        self.scheduler_queries.clear()
        self.log.clear()

    def boot(self, host: Optional[str] = None, flavor: str = TINY) -> str:
        """A server that runs, on ``host`` when it is given; its id."""
        self._booted += 1
        body: dict[str, Any] = {
            'name': f'server{self._booted}', 'imageRef': IMAGE, 'flavorRef': flavor, 'networks': 'none'}
        if host:
            body['host'] = host
        server = self.api.post_server({'server': body})['id']
        return self._until(server, 'active')

    def server(self, host: str) -> str:
        """A server that has run on ``host`` since its boot; not necessarily a new one."""
        for server, home in self._homes.items():
            if home == host:
                return server
        server = self.boot(host)
        self._homes[server] = host
        return server

    def delete(self, server: str) -> None:
        from nova import exception
        self._homes.pop(server, None)
        self.api.delete_server(server)

        def gone() -> bool:
            try:
                self.instance(server)
            except exception.InstanceNotFound:
                return True
            return False

        self.database.wait_for(gone, 'deletion')

    def live_migrate(self, server: str, host: Optional[str] = None, force: bool = False) -> Migration:
        """Ask for a live migration, and wait until it has ended one way or the other.

        :param force: past the scheduler, as microversions before 2.68 can
        """
        before = self._newest_migration(server)
        body: dict[str, Any] = {'host': host, 'block_migration': 'auto'}
        with self._microversion(FORCING if force else MICROVERSION):
            if force:
                body['force'] = True
            self.api.post_server_action(server, {'os-migrateLive': body})
        return self.database.wait_for(lambda: self._ended(server, before), 'the end of the live migration')

    def _ended(self, server: str, before: int) -> Optional[Migration]:
        newest = next(iter(self.migrations(server)), None)
        if newest is None or newest.id <= before or newest.status not in MIGRATION_ENDED:
            return None
        instance = self.instance(server)
        # Nova gives up events of a check that was refused twice; the conductor's own is the last to be finished.
        if instance.task_state or not self._events_finished(server, 'conductor_', 'compute_live_migration'):
            return None
        if newest.status == 'completed':
            self._homes.pop(server, None)
        return Migration(newest.status, instance.host, self.api.get_server(server)['status'], next(self.actions(server)))

    def _events_finished(self, server: str, *prefixes: str) -> bool:
        """Whether nothing of the server's newest action goes on."""
        with self.cell() as context:
            newest = objects.InstanceActionList.get_by_instance_uuid(context, server)[0]
            events = objects.InstanceActionEventList.get_by_action(context, newest.id)
        return all(event.finish_time for event in events if event.event.startswith(prefixes or ''))

    def _newest_migration(self, server: str) -> int:
        return max((migration.id for migration in self.migrations(server)), default=0)

    def resize(self, server: str, flavor: str = SMALL) -> str:
        return self._move(server, {'resize': {'flavorRef': flavor}}, 'resized')

    def cold_migrate(self, server: str) -> str:
        return self._move(server, {'migrate': None}, 'resized')

    def confirm_resize(self, server: str) -> str:
        return self._move(server, {'confirmResize': None}, 'active')

    def rebuild(self, server: str) -> str:
        return self._move(server, {'rebuild': {'imageRef': IMAGE}}, 'active')

    def shelve(self, server: str) -> str:
        """Shelved and offloaded: the server is on no host afterwards."""
        return self._move(server, {'shelve': None}, 'shelved_offloaded')

    def unshelve(self, server: str) -> str:
        return self._move(server, {'unshelve': None}, 'active')

    def evacuate(self, server: str) -> str:
        """Rebuilt on another host, while its own host is taken for dead; which then comes back."""
        home = self.host_of(server)
        service = self.api.get_services(host=home, binary='nova-compute')[0]
        self.api.put_service_force_down(service['id'], True)
        try:
            return self._move(server, {'evacuate': {}}, nova_release.state_after_evacuation())
        finally:
            with self.cell() as context:
                node = objects.ComputeNode.get_by_host_and_nodename(context, home, home)
                # As nova-compute does at its start; before that, its service cannot be up again.
                self.hosts[home].manager._destroy_evacuated_instances(context, {node.uuid: node})
            self.api.put_service_force_down(service['id'], False)

    def _move(self, server: str, body: Mapping[str, Any], vm_state: str) -> str:
        """Do something with a server, and wait for the state it leads to; the host where it is then."""
        self._homes.pop(server, None)
        self.api.post_server_action(server, body)
        self._until(server, vm_state)
        return self.host_of(server)

    def _until(self, server: str, vm_state: str) -> str:
        from nova import exception

        def reached() -> bool:
            try:
                instance = self.instance(server)
            except exception.InstanceNotFound:  # still a build request
                return False
            if instance.vm_state == 'error' and vm_state != 'error':
                raise AssertionError(f'{server} is in ERROR: {self.api.get_server(server).get("fault")}')
            if instance.vm_state != vm_state or instance.task_state:
                return False
            return self._events_finished(server)

        self.database.wait_for(reached, f'{vm_state} of {server}')
        return server

    @contextlib.contextmanager
    def _microversion(self, version: str) -> Iterator[None]:
        self.api.microversion = version
        try:
            yield
        finally:
            self.api.microversion = MICROVERSION

