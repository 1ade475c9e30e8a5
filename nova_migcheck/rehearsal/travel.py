# SPDX-License-Identifier: Apache-2.0
"""Migrate the guest of a rehearsal as Nova would migrate a server."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any, Callable, Mapping, Optional

from nova_migcheck.aftermath import traffic
from nova_migcheck.checksettings import Settings
from nova_migcheck.deadline import Call
from nova_migcheck.finding import printable
from nova_migcheck.libvirtd import connection
from nova_migcheck.libvirtd import uri as migrationuri
from nova_migcheck.rehearsal import guest

# The options read here, for a check's OPTIONS.
OPTIONS = ('virt_type', 'connection_uri', 'live_migration_tunnelled', migrationuri.NATIVE_TLS,
           'live_migration_permit_post_copy', 'live_migration_permit_auto_converge',
           'live_migration_parallel_connections', 'live_migration_bandwidth')

# Seconds to wait until libvirt has ended a migration or a guest.
_ANSWER = 5.0


@dataclasses.dataclass(frozen=True)
class Arrival:
    """Hold what became of one migration.

    :param error: libvirt's words; '' if the guest arrived
    :param seconds: that the migration took
    :param downtime_ms: of the guest; None if the target's libvirt did not say
    :param bytes: sent according to libvirt; None as above
    :param rate: in bytes per second; None as above, or if the memory was not full
    :param sent: interface of this host -> bytes that it has sent meanwhile; on the way back, that
        it has received
    :param strayed: the bytes that another interface than the intended ones has sent at least, if
        they are a large part
    :param guest: UUID of the guest; '' if it was not sent at all
    """

    error: str
    seconds: float
    downtime_ms: Optional[int] = None
    bytes: Optional[int] = None
    rate: Optional[float] = None
    sent: Mapping[str, int] = dataclasses.field(default_factory=dict)
    strayed: int = 0
    guest: str = ''

    @property
    def well(self) -> bool:
        """Return whether it arrived, over the intended interface as far as that is known."""
        return not self.error and not self.strayed


@dataclasses.dataclass(frozen=True)
class Way:
    """Hold how a guest is sent.

    :param uri: of the target's libvirt, as Nova gives it to libvirt on the source
    :param data: URI for the guest's memory, if Nova gives one; else ''
    :param intended: the interfaces of this host that are intended for it; empty if unknown
    """

    uri: str
    data: str
    intended: frozenset[str] = frozenset()


def flags(settings: Settings) -> int:
    """Return the flags that Nova gives to libvirt (``_parse_migration_flags``, Nova 29 to 34).

    Those for disks are left out, and PERSIST_DEST: the guest must not outlive its end.
    """
    import libvirt
    wanted = {
        'live_migration_tunnelled': libvirt.VIR_MIGRATE_TUNNELLED,
        migrationuri.NATIVE_TLS: libvirt.VIR_MIGRATE_TLS,
        'live_migration_permit_post_copy': libvirt.VIR_MIGRATE_POSTCOPY,
        'live_migration_permit_auto_converge': libvirt.VIR_MIGRATE_AUTO_CONVERGE}
    found = (libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
             | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
    for option, flag in wanted.items():
        if settings.get('libvirt', option):
            found |= flag
    # Nova prefers post-copy to auto-converge.
    if found & libvirt.VIR_MIGRATE_POSTCOPY:
        found &= ~libvirt.VIR_MIGRATE_AUTO_CONVERGE
    if _connections(settings) > 1:
        found |= libvirt.VIR_MIGRATE_PARALLEL
    return int(found)


def _connections(settings: Settings) -> int:
    return int(settings.get('libvirt', 'live_migration_parallel_connections', 1))


def send(settings: Settings, way: Way, memory: int, fill: bool, seconds: float,
         back: Optional[Way] = None) -> tuple[Arrival, Optional[Arrival]]:
    """Start a guest here, send it, and end it on the target.

    :param memory: in MiB
    :param fill: whether it is full of random pages, to measure the rate
    :param seconds: after which a migration that hangs is aborted
    :param back: the way back to this host, if the guest is to come back
    :returns: what became of it on the way there, and on the way back if it went
    :raises libvirt.libvirtError: if libvirt here does not answer, or cannot start the guest
    """
    own = str(connection.uri(settings))
    with contextlib.closing(connection.opened(own)) as here:
        guest.sweep(here)
        life = min(guest.LONGEST, int(2 * seconds) + 5)
        identity, xml = guest.definition(str(settings.get('libvirt', 'virt_type', 'kvm')), memory,
                                         life, fill)
        domain = here.createXML(xml)
        try:
            full = fill and guest.filled(domain, memory, seconds)
            arrival = _migrate(settings, way, own, domain, identity, seconds)
            if arrival.error:
                return arrival, None
            return _at_target(settings, here, way, identity, arrival, full, seconds, back)
        finally:
            _destroy(here, identity)


def _migrate(settings: Settings, way: Way, own: str, domain: Any, identity: str, seconds: float,
             counters: Callable[[], Mapping[str, int]] = traffic.sent) -> Arrival:
    """Send a guest.

    :param own: URI of the libvirt that has it
    :param counters: what the interfaces of this host have sent, or received
    """
    import libvirt
    parameters: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: int(
            settings.get('libvirt', 'live_migration_bandwidth', 0))}
    if way.data:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = way.data
    if _connections(settings) > 1:
        parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = _connections(settings)
    before, begun = counters(), time.monotonic()
    call = Call(domain.migrateToURI3, way.uri, parameters, flags(settings))
    error = ''
    try:
        call.wait(seconds)
    except libvirt.libvirtError as e:
        error = printable(str(e))
    except TimeoutError:
        error = f'it did not arrive within {seconds:g} s'
        _end(own, way, identity)
    took = time.monotonic() - begun
    moved = traffic.between(before, counters(), traffic.Interfaces.read(), way.intended)
    return Arrival(error, took, guest=identity,
                   sent={name: rise for name, rise in moved.rises.items() if rise})


def _end(own: str, way: Way, identity: str) -> None:
    """End a migration that hangs, and the guest on both sides.

    It is asked for on other connections: the first may not answer while it migrates.
    """
    import libvirt

    def abort(domain: Any) -> None:
        domain.abortJob()

    def destroy(domain: Any) -> None:
        domain.destroy()

    for uri, what in ((own, abort), (way.uri, destroy), (own, destroy)):
        with contextlib.suppress(libvirt.libvirtError, TimeoutError):
            Call(_do, uri, identity, what).wait(_ANSWER)


def _do(uri: str, identity: str, what: Callable[[Any], None]) -> None:
    with contextlib.closing(connection.opened(uri)) as other:
        what(other.lookupByUUIDString(identity))


def _destroy(where: Any, identity: str) -> None:
    """Destroy the guest if it is still there."""
    import libvirt
    with contextlib.suppress(libvirt.libvirtError, TimeoutError):
        Call(lambda: where.lookupByUUIDString(identity).destroy()).wait(_ANSWER)


def _at_target(settings: Settings, here: Any, way: Way, identity: str, arrival: Arrival,
               full: bool, seconds: float, back: Optional[Way]
               ) -> tuple[Arrival, Optional[Arrival]]:
    """Ask the target's libvirt how it went, send the guest back or end it there.

    Where this user cannot log in, the guest ends by itself.
    """
    import libvirt
    try:
        with contextlib.closing(connection.opened(way.uri)) as there:
            arrival = _measured(arrival, way, there, full)
            returned = None
            if back is not None:
                returned = _migrate(settings, back, way.uri, there.lookupByUUIDString(identity),
                                    identity, seconds, traffic.received)
            _destroy(there, identity)
    except libvirt.libvirtError as e:
        if back is None:
            return arrival, None
        return arrival, Arrival(f'the target cannot be asked to send it back: {e}', 0.0)
    if back is not None and returned is not None and not returned.error:
        with contextlib.suppress(libvirt.libvirtError):
            returned = _measured(returned, back, here, full)
    return arrival, returned


def _measured(arrival: Arrival, way: Way, where: Any, full: bool) -> Arrival:
    """Return an arrival with the statistics of the libvirt where the guest is now.

    :raises libvirt.libvirtError: if it has none
    """
    import libvirt
    stats = where.lookupByUUIDString(arrival.guest).jobStats(
        libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    total = stats.get(libvirt.VIR_DOMAIN_JOB_DATA_PROCESSED)
    moved = traffic.carried(total or 0, traffic.Traffic(arrival.sent), way.intended)
    return dataclasses.replace(
        arrival, downtime_ms=stats.get(libvirt.VIR_DOMAIN_JOB_DOWNTIME), bytes=total,
        # Of an empty guest it also counts pages of zeros.
        rate=stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_BPS) if full else None,
        strayed=moved.strayed if moved.astray else 0)
