# SPDX-License-Identifier: Apache-2.0
"""What really happens: the guest is migrated with the flags and the addresses that Nova would use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import threading
import time
import uuid
from typing import Any, Optional

from tests.lab.mixed.pair import features
from tests.lab.namespaces import Namespace
from tests.truth.plan import INSTANCES, SOURCE, TARGET
from tests.truth.stage import DISK_SIZE, NAME, Stage, in_namespace

# Seconds within which the guest must have arrived.
LIMIT = 10.0
# Bytes on an interface that is not intended: more is the guest, of which an empty one is 500 KiB;
# less is what libvirtd says to libvirtd.
STRAY = 250_000
_INTERFACES = ('mgmt0', 'mig0')


@dataclasses.dataclass(frozen=True)
class Went:
    """How it went.

    :ivar well: it arrived, in time, over the intended interface, with its disk
    :ivar words: libvirt's, or what else went wrong
    """

    well: bool
    words: str = ''
    seconds: float = 0.0


def migrate(stage: Stage) -> Went:
    """Migrate the guest, and see."""
    if stage.plan.target.nova.get('instances_path'):
        # Nova writes a file there before it begins.
        return Went(False, 'Nova: instances_path does not exist on the target')
    flags, block = (
        [
            'VIR_MIGRATE_LIVE',
            'VIR_MIGRATE_PEER2PEER',
            'VIR_MIGRATE_UNDEFINE_SOURCE',
            'VIR_MIGRATE_PERSIST_DEST',
        ],
        False,
    )
    if stage.plan.disk:
        try:
            block = not _sees_its_files(stage)
        except OSError as e:
            return Went(
                False, f'Nova: the target cannot write to its instances directory: {e.strerror}'
            )
        if block:
            flags.append('VIR_MIGRATE_NON_SHARED_INC')
            stage.target.run(
                'sh',
                '-c',
                f'mkdir -p {stage.directory} && truncate -s {DISK_SIZE} {stage.directory}/disk && '
                f'chmod -R a+rwX {stage.directory}',
            )
    domain = stage.libvirts[SOURCE].domain(stage.uuid)
    before, had = (
        {host.name: _bytes(host) for host in (stage.source, stage.target)},
        features(domain),
    )
    begun = time.monotonic()
    words = _call(stage, [*flags, *stage.plan.flags])
    seconds = time.monotonic() - begun
    words = words or _astray(stage, before)
    words = words or _arrived(stage, had)
    if not words and block and stage.plan.source.share == 'shared':
        words = 'its disk was copied to a local directory, and Nova deletes the shared one'
    return Went(not words, words, seconds)


def _arrived(stage: Stage, had: set[Any]) -> str:
    """Return what is wrong with the guest on the target, '' if nothing.

    :param had: the features that its CPU had
    """
    domain = stage.libvirts[TARGET].domain(stage.uuid)
    if domain is None:
        return 'it does not run on the target'
    lost = len(had - features(domain))
    return f'it arrives without {lost} of its CPU features' if lost else ''


def _sees_its_files(stage: Stage) -> bool:
    """Do what Nova does to find out whether the two instances directories are one."""
    name = f'tmp-{uuid.uuid4().hex}'
    written = in_namespace(stage.target, f'{INSTANCES}/{name}')
    written.touch()
    try:
        return in_namespace(stage.source, f'{INSTANCES}/{name}').exists()
    finally:
        written.unlink()


def _call(stage: Stage, names: list[str]) -> str:
    """Call libvirt as Nova does; return what it says, '' when the guest has arrived in time."""
    import libvirt

    plan, said = stage.plan, []
    escaped = f'[{plan.used}]' if ':' in plan.used else plan.used
    uri = f'qemu+{plan.source.nova["live_migration_scheme"]}://{escaped}/system'
    domain = stage.libvirts[SOURCE].conn.lookupByName(NAME)
    parameters: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
    }
    if plan.inbound:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = f'tcp://{escaped}'
    if 'VIR_MIGRATE_NON_SHARED_INC' in names:
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = ['vda']
    flags = functools.reduce(operator.or_, (getattr(libvirt, name) for name in names))

    def call() -> None:
        try:
            domain.migrateToURI3(uri, parameters, flags)
            said.append('')
        except libvirt.libvirtError as error:
            said.append(' '.join(str(error).split()))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(LIMIT)
    if not said:
        # Nothing of this world is needed any more. The call comes back when the daemon is gone.
        for host in stage.libvirts.values():
            with contextlib.suppress(OSError):
                host.signal()
        thread.join(20)
        return f'it had not arrived after {LIMIT:g} s'
    return said[0]


def _bytes(host: Namespace) -> dict[str, int]:
    return {name: sum(host.counters(name)) for name in _INTERFACES}


def _astray(stage: Stage, before: dict[str, dict[str, int]]) -> str:
    """Return over which interface it went that is not intended, '' if it went where it should."""
    intended: Optional[str] = stage.plan.intended
    if intended is None:
        return ''
    for host in (stage.source, stage.target):
        after = _bytes(host)
        for name in _INTERFACES:
            if name != intended and after[name] - before[host.name][name] > STRAY:
                return f'it went over {name} of {host.name}, and {intended} is intended'
    return ''
