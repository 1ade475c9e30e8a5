# SPDX-License-Identifier: Apache-2.0
"""Ask nova-conductor about a server, from a command on a compute host, as nova-compute does."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Optional

from nova import context as nova_context
from nova import exception, objects, rpc
from nova.conductor import rpcapi
from nova.objects import base
from oslo_messaging import exceptions as messaging

from nova_migcheck.checks.base import Arrival
from nova_migcheck.deadline import Call
from nova_migcheck.judging.verdict import Guest
from nova_migcheck.novadb import arriving
from nova_migcheck.novadb.fleet import Unavailable
from nova_migcheck.report import published
from nova_migcheck.report.report import Report
from nova_migcheck.volumes import attached
from nova_migcheck.volumes.attached import Attached

# Seconds for all questions, which need 0.1 s.
_LONGEST = 20.0


class Coming(NamedTuple):
    """A server that would come to this host.

    :ivar server: without the facts of this host
    :ivar source: the report of the host that it is on, None if it has none that can be read
    :ivar volumes: where its volumes are reached
    """

    server: Arrival
    guest: Guest
    source: Optional[Report]
    volumes: list[Attached]


def connect(conf: Any) -> None:
    """Let Nova's objects be read from nova-conductor.

    :param conf: ``nova.conf.CONF``, as nova-compute has it
    """
    rpc.set_defaults(control_exchange='nova')
    rpc.init(conf)
    objects.register_all()
    base.NovaObject.indirection_api = rpcapi.ConductorAPI()


def coming(conf: Any, uuid: str) -> Coming:
    """Return a server as its destination would see it.

    :param conf: ``nova.conf.CONF`` with ``[migcheck]`` registered
    :raises Unavailable: when there is none, or it is on this host or on none, or nobody answers
    """
    try:
        return Call(_read, conf, uuid).wait(_LONGEST)
    except exception.InstanceNotFound:
        raise Unavailable(f'there is no server with the UUID {uuid}') from None
    except (TimeoutError, messaging.MessagingException) as e:
        raise Unavailable(f'nova-conductor cannot be asked about the server: {e}; see [DEFAULT] '
                          'transport_url') from e


def _read(conf: Any, uuid: str) -> Coming:
    context = nova_context.get_admin_context()
    instance = objects.Instance.get_by_uuid(context, uuid, expected_attrs=['flavor'])
    if not instance.host:
        raise Unavailable(f'server {uuid} is on no host, its state is {instance.vm_state}')
    if instance.host == conf.host:
        raise Unavailable(f'server {uuid} is on this host already: run this on the host that it is '
                          'to go to')
    node = objects.ComputeNode.get_first_node_by_host_for_old_compat(context, instance.host)
    try:
        source = published.read(node.stats if 'stats' in node else None)
    except published.Unreadable:
        source = None
    mappings = objects.BlockDeviceMappingList.get_by_instance_uuid(context, uuid)
    known = source is not None and source.knows(0, time.time(), conf.migcheck)
    guest = Guest(source.guest(uuid) if source is not None and known else None,
                  arriving.scopes(instance, mappings),
                  requirements=arriving.requirements(instance, source, conf.migcheck))
    return Coming(arriving.of_instance(conf, instance, source, None), guest, source,
                  attached.of_mappings(mappings))
