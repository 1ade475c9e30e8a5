# SPDX-License-Identifier: Apache-2.0
"""Every host's published report, and a server to be moved, read through Nova's own objects. Nothing is ever written.

Nova has one database for all that is global and one for each cell. A cell that does not answer is said, and the others are shown.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from typing import Any, Callable, Collection, Mapping, Optional, Sequence

import nova.conf
from nova import config as nova_config
from nova import context as nova_context
from nova import exception, objects, servicegroup
from oslo_messaging import opts as messaging
from oslo_utils import uuidutils

from nova_migcheck import conf as confs
from nova_migcheck.deadline import Call
from nova_migcheck.judging import targets
from nova_migcheck.novadb import moves
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

CONF = nova.conf.CONF

# Seconds that the databases of all cells together may take, and the global one. Nova's own limit is 60; a person waits here.
TIMEOUT = 20.0

UP, DOWN, DISABLED, NO_SERVICE = 'up', 'down', 'disabled', 'none'

_NOWHERE: Mapping[str, str] = {}

_REGEX = re.compile(r'[.^$*+?()\[\]{}|\\]')


class Unavailable(Exception):
    """What was asked cannot be read. The text is a sentence for the operator."""


class _Silent(Exception):
    """A database that has not answered in time."""


@dataclasses.dataclass(frozen=True)
class Host:
    """One compute host.

    :param cell: name of its cell
    :param stats: ``ComputeNode.stats``
    :param service: of its nova-compute: ``up``, ``down``, ``disabled``, or ``none`` when there is no such service
    """

    name: str
    cell: str
    stats: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    service: str = UP

    @functools.cached_property
    def report(self) -> Optional[Report]:
        """What it published, None when that is nothing or cannot be read."""
        try:
            return published.read(self.stats)
        except published.Unreadable:
            return None

    @property
    def unreadable(self) -> bool:
        """Whether it published something that this version cannot read."""
        return self.report is None and self.stats.get(published.MAIN) is not None


@dataclasses.dataclass(frozen=True)
class Fleet:
    """All compute hosts.

    :param hosts: sorted by name, then cell
    :param away: name of each cell that could not be read -> why
    """

    hosts: tuple[Host, ...]
    away: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def host(self, name: str) -> Host:
        """:raises Unavailable: when there is no such host"""
        found = next((host for host in self.hosts if host.name == name), None)
        if found is None:
            raise Unavailable(f'no compute host is called {name!r}' + self.besides())
        return found

    def besides(self) -> str:
        """The end of a sentence that says what could not be read, '' when all could."""
        return f' (but {"; ".join(self.notes())})' if self.away else ''

    def notes(self) -> list[str]:
        return [f'cell {name} cannot be read: {why}' for name, why in sorted(self.away.items())]


@dataclasses.dataclass(frozen=True)
class Server:
    """A server, as far as a live migration of it is judged.

    :param host: where it is
    :param state: its ``vm_state``
    :param arrived: when it came there by a migration, in seconds since the epoch; 0 when it never did
    :param needs: which findings with a scope concern it
    """

    uuid: str
    name: str
    host: str
    cell: str
    state: str
    arrived: float = 0.0
    needs: frozenset[str] = frozenset()


def configure(files: Sequence[str] = (), directories: Sequence[str] = ()) -> Any:
    """Read nova.conf and set up Nova's databases; no message bus.

    :param files: instead of the usual ones
    :returns: ``nova.conf.CONF``
    :raises Unavailable: when it cannot be read
    """
    argv = ['nova-migcheck'] + [f'--config-file={path}' for path in files] + [f'--config-dir={path}' for path in directories]
    nova_config.parse_args(argv, init_rpc=False, configure_db=False)
    confs.register(CONF)
    if not CONF.api_database.connection:
        said = ', '.join(CONF.config_file) or 'no configuration file was found'
        raise Unavailable(f'[api_database] connection is not set ({said}): run this where nova-api or nova-conductor runs, '
                          'or give its nova.conf with --config-file')
    for group in ('database', 'api_database'):
        # Nova's services wait for a database to come back; a person wants to be told.
        CONF.set_override('max_retries', 0, group=group)
    for name, opts in messaging.list_opts():
        if name is None:
            # Cell mappings are read with the help of [DEFAULT] transport_url, though nothing is ever sent.
            CONF.register_opts(opts)
    nova_config.main_db_api.configure(CONF)
    nova_config.api_db_api.configure(CONF)
    objects.register_all()
    return CONF


def read(timeout: float = TIMEOUT) -> Fleet:
    """All hosts of all cells.

    :param timeout: seconds for the global database, and for those of all cells together
    :raises Unavailable: when the global database cannot be read
    """
    answers, away = _ask_cells(timeout, (), _hosts)
    hosts = [Host(name, cell, stats, service) for cell, found in answers.items() for name, service, stats in found]
    return Fleet(tuple(sorted(hosts, key=lambda host: (_natural(host.name), host.cell))), away)


def server(wanted: str, timeout: float = TIMEOUT, away: Mapping[str, str] = _NOWHERE) -> Server:
    """A server by its UUID or its name.

    :param timeout: seconds for each question to a database
    :param away: cells that are known to be away and are not asked again, as :attr:`Fleet.away`
    :raises Unavailable: when there is none, or more than one of that name, or its cell cannot be read
    """
    if uuidutils.is_uuid_like(wanted):
        return _by_uuid(wanted.lower() if '-' in wanted else wanted, timeout, away)
    answers, missed = _ask_cells(timeout, away, _uuids, wanted)
    found = [uuid for uuids in answers.values() for uuid in uuids]
    if not found:
        raise Unavailable(f'no server is called {wanted!r}' + Fleet((), {**away, **missed}).besides())
    if len(found) > 1:
        raise Unavailable(f'{len(found)} servers are called {wanted!r}, say which by its UUID: {", ".join(sorted(found))}')
    return _by_uuid(found[0], timeout, away)


def _by_uuid(uuid: str, timeout: float, away: Mapping[str, str]) -> Server:
    context = nova_context.get_admin_context()
    try:
        cell = _global(timeout, objects.InstanceMapping.get_by_instance_uuid, context, uuid).cell_mapping
    except exception.InstanceMappingNotFound:
        raise Unavailable(f'no server has the UUID {uuid}') from None
    if cell is None:
        raise Unavailable(f'server {uuid} is still being built, no host has been chosen')
    name = _name(cell)
    answers, missed = _gather([] if name in away else [cell], timeout, _instance, uuid)
    missed = {**away, **missed}
    if name in missed:
        raise Unavailable(f'server {uuid} is in a cell that cannot be read: {name}: {missed[name]}')
    found: Optional[Server] = answers[name]
    if found is None:
        raise Unavailable(f'server {uuid} is deleted')
    if not found.host:
        raise Unavailable(f'server {uuid} is on no host, its state is {found.state}')
    try:
        spec = _global(timeout, objects.RequestSpec.get_by_instance_uuid, context, uuid)
    except exception.RequestSpecNotFound:
        return dataclasses.replace(found, cell=name)
    return dataclasses.replace(found, cell=name, needs=targets.needs(spec))


# What is asked of each cell.

def _hosts(context: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    services = {service.host: service for service in objects.ServiceList.get_by_binary(context, 'nova-compute', include_disabled=True)}
    group = servicegroup.API()
    found: dict[str, tuple[str, Any]] = {}
    for node in objects.ComputeNodeList.get_all(context):
        # A host of ironic has many nodes, and none of them is ever live-migrated to.
        if node.hypervisor_type != 'ironic':
            found.setdefault(node.host, (_state(group, services.get(node.host)), node.stats if 'stats' in node else None))
    return [(host, service, stats or {}) for host, (service, stats) in found.items()]


def _state(group: Any, service: Any) -> str:
    if service is None:
        return NO_SERVICE
    if not group.service_is_up(service):
        return DOWN
    return DISABLED if service.disabled else UP


def _uuids(context: Any, name: str) -> list[str]:
    # Nova takes a regular expression here, whose dialect is the database's; some ignore case.
    pattern = '^' + _REGEX.sub(r'\\\g<0>', name) + '$'
    found = objects.InstanceList.get_by_filters(context, {'display_name': pattern, 'deleted': False}, expected_attrs=[])
    return [instance.uuid for instance in found if instance.display_name == name]


def _instance(context: Any, uuid: str) -> Optional[Server]:
    try:
        instance = objects.Instance.get_by_uuid(context, uuid, expected_attrs=[])
    except exception.InstanceNotFound:
        return None
    arrived = moves.arrived(context, uuid, instance.host) if instance.host else 0.0
    return Server(uuid, instance.display_name or '', instance.host or '', '', instance.vm_state or '', arrived)


# How they are asked.

def _ask_cells(timeout: float, away: Collection[str], function: Callable[..., Any], *args: Any) -> tuple[dict[str, Any], dict[str, str]]:
    cells = _global(timeout, objects.CellMappingList.get_all, nova_context.get_admin_context())
    # No host is in cell0. One that is disabled still has its hosts, and gets no new servers.
    return _gather([cell for cell in cells if not cell.is_cell0() and _name(cell) not in away], timeout, function, *args)


def _gather(cells: Sequence[Any], timeout: float, function: Callable[..., Any], *args: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """(name of a cell -> its answer, name of a cell -> why it has none)"""
    def ask(cell: Any) -> Any:
        cell.transport_url = 'none:///'  # in memory only: nothing is sent
        with nova_context.target_cell(nova_context.get_admin_context(), cell) as context:
            return function(context, *args)

    answers, away = {}, {}
    for name, result in _together(timeout, {_name(cell): functools.partial(ask, cell) for cell in cells}).items():
        if isinstance(result, Exception):
            away[name] = f'its database has not answered within {timeout:g} s' if isinstance(result, _Silent) else why(result)
        else:
            answers[name] = result
    return answers, away


def _global(timeout: float, function: Callable[..., Any], *args: Any) -> Any:
    result = _together(timeout, {'': functools.partial(function, *args)})['']
    if isinstance(result, exception.NovaException):
        raise result
    if isinstance(result, Exception):
        raise Unavailable(f'the database of [api_database] cannot be read: {why(result)}') from result
    return result


def _together(timeout: float, calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each of the calls returned or raised; a _Silent for one that has not come back.

    A database that accepts a connection and then says nothing holds its client for ever. Nova's own scatter_gather_cells() leaves such
    a thread in a pool for which the interpreter waits at its end, and under the eventlet of Nova 31 and before its limit does not hold
    at all in a process that is not monkey-patched. These are daemon threads: nothing waits for them.
    """
    until = time.monotonic() + timeout
    begun = {key: Call(call) for key, call in calls.items()}
    results: dict[str, Any] = {}
    for key, call in begun.items():
        try:
            results[key] = call.wait(max(0.0, until - time.monotonic()))
        except Exception as e:
            results[key] = e if call.ended else _Silent(f'it has not answered within {timeout:g} s')
    return results


def why(error: BaseException) -> str:
    """An error of a database in one line, without the query and without SQLAlchemy's address of a web page."""
    inner = getattr(error, 'inner_exception', None) or error
    inner = getattr(inner, 'orig', None) or inner
    # A driver for MySQL raises (number, text).
    said = inner.args[1] if len(inner.args) == 2 and isinstance(inner.args[1], str) else inner
    text = (str(said).strip() or type(inner).__name__).splitlines()[0]
    return text if len(text) <= 300 else text[:299] + '…'


def _name(cell: Any) -> str:
    return str(cell.name or cell.uuid)


def _natural(name: str) -> list[Any]:
    """compute2 before compute10."""
    return [(0, int(part), '') if part.isdecimal() else (1, 0, part) for part in re.split(r'(\d+)', name) if part]
