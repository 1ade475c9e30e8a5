# SPDX-License-Identifier: Apache-2.0
"""Read what the hosts of this cell have published, on a compute host: it asks nova-conductor."""

from __future__ import annotations

from typing import Any

from nova import context as nova_context
from nova import objects, rpc
from nova.conductor import rpcapi
from nova.objects import base

from nova_migcheck.deadline import Call
from nova_migcheck.judging.matrix import Host
from nova_migcheck.novadb import fleet

# Seconds to wait for the answers of nova-conductor.
_ANSWER = 20.0


def read(conf: Any) -> list[Host]:
    """Return the hosts of the cell, sorted by name.

    :param conf: ``nova.conf.CONF``
    :raises nova_migcheck.novadb.fleet.Unavailable: when nova-conductor does not answer
    """
    try:
        found = Call(_asked, conf).wait(_ANSWER)
    except TimeoutError as e:
        raise fleet.Unavailable(f'nova-conductor has not answered within {_ANSWER:g} s: see '
                                '[DEFAULT] transport_url') from e
    except Exception as e:  # of the bus, of nova-conductor, or of the database behind it
        raise fleet.Unavailable(f'nova-conductor cannot be asked for the hosts of this cell: '
                                f'{type(e).__name__}: {e}') from e
    return fleet.in_order(Host(name, '', stats, service) for name, service, stats in found)


def _asked(conf: Any) -> list[Any]:
    rpc.set_defaults(control_exchange='nova')  # as nova.config.parse_args() does
    rpc.init(conf)
    objects.register_all()
    # As nova-compute does it, which cannot reach a database either.
    base.NovaObject.indirection_api = rpcapi.ConductorAPI()
    try:
        return fleet.of_cell(nova_context.get_admin_context())
    finally:
        base.NovaObject.indirection_api = None
        rpc.cleanup()
