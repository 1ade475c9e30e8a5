# SPDX-License-Identifier: Apache-2.0
"""Read every host's published report, and a server, through Nova's objects. Writes nothing.

Nova has one global database and one for each cell. A cell that does not respond is reported, and
the others are read.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from typing import Any, Callable, Collection, Iterable, Mapping, Optional, Sequence, TypeVar

import nova.conf
from nova import config as nova_config
from nova import context as nova_context
from nova import exception, objects, servicegroup
from oslo_messaging import opts as messaging
from oslo_utils import uuidutils

from nova_migcheck import conf as confs
from nova_migcheck.deadline import Call
from nova_migcheck.judging import targets
from nova_migcheck.judging.matrix import Host
from nova_migcheck.novadb import moves
from nova_migcheck.volumes import attached
from nova_migcheck.volumes.attached import Attached

CONF = nova.conf.CONF
T = TypeVar('T')

# Seconds to wait for the global database, and for those of all cells together. Nova's own limit is
# 60, but here an operator waits for the output.
TIMEOUT = 20.0
# Seconds for a request to neutron. More would be taken for a cell that does not respond.
_NEUTRON = 10

_NOWHERE: Mapping[str, str] = {}

_REGEX = re.compile(r'[.^$*+?()\[\]{}|\\]')


class Unavailable(Exception):
    """Raised when something cannot be read. The text is a sentence for the operator."""


@dataclasses.dataclass(frozen=True)
class Fleet:
    """All compute hosts.

    :param hosts: sorted by name, then cell
    :param unreachable: name of each cell that could not be read -> the reason
    """

    hosts: tuple[Host, ...]
    unreachable: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def host(self, name: str) -> Host:
        """Return the host of this name.

        :raises Unavailable: when there is none
        """
        named = next((host for host in self.hosts if host.name == name), None)
        if named is None:
            raise Unavailable(self.remarked(f'there is no compute host {name!r}'))
        return named

    def remarked(self, text: str) -> str:
        """Return a text, and after it which cells could not be read."""
        return f'{text} (but {"; ".join(self.notes())})' if self.unreachable else text

    def notes(self) -> list[str]:
        """Return a sentence for each cell that could not be read."""
        return [f'cell {name} cannot be read: {reason}'
                for name, reason in sorted(self.unreachable.items())]


@dataclasses.dataclass(frozen=True)
class Server:
    """What a decision about the live migration of a server needs to know about it.

    :param host: the host that it is on
    :param state: its ``vm_state``
    :param arrived: when it came there by a migration, in seconds since the epoch; 0 if it never did
    :param needs: the scopes of the findings that concern it
    :param volumes: those that are attached to it
    """

    uuid: str
    name: str
    host: str
    cell: str
    state: str
    arrived: float = 0.0
    needs: frozenset[str] = frozenset()
    volumes: tuple[Attached, ...] = ()


def configure(files: Sequence[str] = (), directories: Sequence[str] = ()) -> Any:
    """Read nova.conf and set up Nova's databases, but no message bus.

    :param files: configuration files to read instead of the default ones
    :returns: ``nova.conf.CONF``
    :raises Unavailable: when it cannot be read
    """
    argv = ['nova-migcheck', *(f'--config-file={path}' for path in files),
            *(f'--config-dir={path}' for path in directories)]
    nova_config.parse_args(argv, init_rpc=False, configure_db=False)
    confs.register(CONF)
    if not CONF.api_database.connection:
        source = ', '.join(CONF.config_file) or 'no configuration file was found'
        raise Unavailable(f'[api_database] connection is not set ({source}): run this where '
                          'nova-api or nova-conductor runs, or give its nova.conf with '
                          '--config-file')
    for group in ('database', 'api_database'):
        # Nova's services wait until a database is back. An operator wants the error,
        CONF.set_override('max_retries', 0, group=group)
    # nor minutes for a neutron that is away.
    for option, value in (('timeout', _NEUTRON), ('http_retries', 0)):
        CONF.set_override(option, value, group='neutron')
    for name, opts in messaging.list_opts():
        if name is None:
            # Reading the cell mappings needs [DEFAULT] transport_url, though nothing is sent.
            CONF.register_opts(opts)
    nova_config.main_db_api.configure(CONF)
    nova_config.api_db_api.configure(CONF)
    objects.register_all()
    return CONF


def read(timeout: float = TIMEOUT) -> Fleet:
    """Return all hosts of all cells.

    :param timeout: seconds for the global database, and for those of all cells together
    :raises Unavailable: when the global database cannot be read
    """
    results, unreachable = _query_cells(timeout, (), of_cell)
    hosts = [Host(name, cell, stats, service)
             for cell, rows in results.items() for name, service, stats in rows]
    return Fleet(tuple(in_order(hosts)), unreachable)


def in_order(hosts: Iterable[Host]) -> list[Host]:
    """Return hosts sorted by name, then cell."""
    return sorted(hosts, key=lambda host: (_natural(host.name), host.cell))


def server(wanted: str, timeout: float = TIMEOUT,
           unreachable: Mapping[str, str] = _NOWHERE) -> Server:
    """Return the server of this UUID or name.

    :param timeout: seconds for each query
    :param unreachable: cells to skip, as in :attr:`Fleet.unreachable`
    :raises Unavailable: when there is none, or several of that name, or its cell cannot be read
    """
    if uuidutils.is_uuid_like(wanted):
        return _by_uuid(wanted.lower() if '-' in wanted else wanted, timeout, unreachable)
    results, more = _query_cells(timeout, unreachable, _uuids, wanted)
    uuids = [uuid for in_cell in results.values() for uuid in in_cell]
    if not uuids:
        raise Unavailable(Fleet((), {**unreachable, **more}).remarked(
            f'there is no server {wanted!r}'))
    if len(uuids) > 1:
        raise Unavailable(f'{len(uuids)} servers have the name {wanted!r}, give the UUID of one: '
                          f'{", ".join(sorted(uuids))}')
    return _by_uuid(uuids[0], timeout, unreachable)


def _by_uuid(uuid: str, timeout: float, unreachable: Mapping[str, str]) -> Server:
    context = nova_context.get_admin_context()
    try:
        mapping = _global(timeout, objects.InstanceMapping.get_by_instance_uuid, context, uuid)
    except exception.InstanceMappingNotFound:
        raise Unavailable(f'there is no server with the UUID {uuid}') from None
    cell = mapping.cell_mapping
    if cell is None:
        raise Unavailable(f'server {uuid} is still being built and has no host yet')
    name = _name(cell)
    results, more = _gather([] if name in unreachable else [cell], timeout, _instance, uuid)
    reasons = {**unreachable, **more}
    if name in reasons:
        raise Unavailable(f'server {uuid} is in a cell that cannot be read: {name}: '
                          f'{reasons[name]}')
    read_server: Optional[Server] = results[name]
    if read_server is None:
        raise Unavailable(f'server {uuid} is deleted')
    if not read_server.host:
        raise Unavailable(f'server {uuid} is on no host, its state is {read_server.state}')
    try:
        spec = _global(timeout, objects.RequestSpec.get_by_instance_uuid, context, uuid)
    except exception.RequestSpecNotFound:
        return dataclasses.replace(read_server, cell=name)
    return dataclasses.replace(read_server, cell=name, needs=targets.needs(spec))


# Queries of one cell.

def of_cell(context: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return name, state of the service and ``stats`` of each host of a cell."""
    services = {service.host: service for service in objects.ServiceList.get_by_binary(
        context, 'nova-compute', include_disabled=True)}
    group = servicegroup.API()
    rows: dict[str, tuple[str, Any]] = {}
    for node in objects.ComputeNodeList.get_all(context):
        # A host of ironic has many nodes, and none of them is a live migration target.
        if node.hypervisor_type != 'ironic':
            stats = node.stats if 'stats' in node else None
            rows.setdefault(node.host, (_state(group, services.get(node.host)), stats))
    return [(host, service, stats or {}) for host, (service, stats) in rows.items()]


def _state(group: Any, service: Any) -> str:
    if service is None:
        return 'none'
    if not group.service_is_up(service):
        return 'down'
    return 'disabled' if service.disabled else 'up'


def _uuids(context: Any, name: str) -> list[str]:
    # Nova takes a regular expression of the database's dialect; some databases ignore case.
    pattern = '^' + _REGEX.sub(r'\\\g<0>', name) + '$'
    instances = objects.InstanceList.get_by_filters(
        context, {'display_name': pattern, 'deleted': False}, expected_attrs=[])
    return [instance.uuid for instance in instances if instance.display_name == name]


def _instance(context: Any, uuid: str) -> Optional[Server]:
    try:
        instance = objects.Instance.get_by_uuid(context, uuid, expected_attrs=[])
    except exception.InstanceNotFound:
        return None
    arrived = moves.arrived(context, uuid, instance.host) if instance.host else 0.0
    mappings = objects.BlockDeviceMappingList.get_by_instance_uuid(context, uuid)
    return Server(uuid, instance.display_name or '', instance.host or '', '',
                  instance.vm_state or '', arrived, volumes=tuple(attached.of_mappings(mappings)))


# How the databases are queried.

def _query_cells(timeout: float, skip: Collection[str], function: Callable[..., Any],
                 *args: Any) -> tuple[dict[str, Any], dict[str, str]]:
    cells = _global(timeout, objects.CellMappingList.get_all, nova_context.get_admin_context())
    # There are no hosts in cell0. A disabled cell still has hosts, but gets no new servers.
    cells = [cell for cell in cells if not cell.is_cell0() and _name(cell) not in skip]
    return _gather(cells, timeout, function, *args)


def _gather(cells: Sequence[Any], timeout: float, function: Callable[..., Any],
            *args: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the results by name of cell, and for each other cell why there is none."""
    def query(cell: Any) -> Any:
        cell.transport_url = 'none:///'  # only in memory; nothing is sent
        with nova_context.target_cell(nova_context.get_admin_context(), cell) as context:
            return function(context, *args)

    results, unreachable = {}, {}
    calls = {_name(cell): functools.partial(query, cell) for cell in cells}
    for name, result in _together(timeout, calls).items():
        if isinstance(result, Exception):
            unreachable[name] = _reason(result)
        else:
            results[name] = result
    return results, unreachable


def in_cell(cell: Any, timeout: float, function: Callable[..., T], *args: Any) -> T:
    """Return what ``function(context, *args)`` returns, with a context in a cell.

    :param cell: its CellMapping
    :param timeout: seconds
    :raises Unavailable: when its database cannot be read
    :raises nova.exception.NovaException: what the function raises
    """
    def query() -> T:
        cell.transport_url = 'none:///'  # only in memory; nothing is sent
        with nova_context.target_cell(nova_context.get_admin_context(), cell) as context:
            pass  # it stays in the cell, and what the function calls may target a cell, too
        return function(context, *args)

    result = _together(timeout, {'': query})['']
    if isinstance(result, (exception.NovaException, Unavailable)):
        raise result
    if isinstance(result, Exception):
        raise Unavailable(f'cell {_name(cell)} cannot be read: {_reason(result)}') from result
    answer: T = result
    return answer


def _global(timeout: float, function: Callable[..., Any], *args: Any) -> Any:
    result = _together(timeout, {'': functools.partial(function, *args)})['']
    if isinstance(result, exception.NovaException):
        raise result
    if isinstance(result, Exception):
        raise Unavailable('the database of [api_database] cannot be read: '
                          f'{_reason(result)}') from result
    return result


def _together(timeout: float, calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the result of each call, or its exception; a TimeoutError if it has not returned.

    A database that accepts a connection and then sends nothing blocks its client for ever. Nova's
    own scatter_gather_cells() leaves such a thread in a pool, and the interpreter waits for it when
    it exits. Its timeout has no effect at all under the eventlet of Nova 31 and before if the
    process is not monkey-patched. These are daemon threads, so nothing waits for them.
    """
    until = time.monotonic() + timeout
    running = {key: Call(call) for key, call in calls.items()}
    results: dict[str, Any] = {}
    for key, call in running.items():
        try:
            results[key] = call.wait(max(0.0, until - time.monotonic()))
        except Exception as e:
            results[key] = e if call.ended else TimeoutError(f'no response within {timeout:g} s')
    return results


def _reason(error: BaseException) -> str:
    """Return a database's error in one line, without the query and SQLAlchemy's web address."""
    inner = getattr(error, 'inner_exception', None) or error
    inner = getattr(inner, 'orig', None) or inner
    # A driver for MySQL raises (number, text).
    message = inner.args[1] if len(inner.args) == 2 and isinstance(inner.args[1], str) else inner
    text = (str(message).strip() or type(inner).__name__).splitlines()[0]
    return text if len(text) <= 300 else text[:299] + '…'


def _name(cell: Any) -> str:
    return str(cell.name or cell.uuid)


def _natural(name: str) -> list[Any]:
    """Return a sort key that puts compute2 before compute10."""
    return [(0, int(part), '') if part.isdecimal() else (1, 0, part)
            for part in re.split(r'(\d+)', name) if part]
