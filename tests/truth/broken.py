# SPDX-License-Identifier: Apache-2.0
"""Checks that are broken on purpose: whether the worlds notice. Fails when they do not."""

from __future__ import annotations

import pathlib
import sys
import tempfile
from typing import Any
from unittest import mock

from nova_migcheck import cpu as cpus
from nova_migcheck.machine import comparison as machines
from nova_migcheck.storage import comparison as storages
from tests.lab.cloud import isolation
from tests.truth import ours
from tests.truth.host import Probes
from tests.truth.trial import attempt
from tests.truth.world import World


def _nothing(*_values: Any) -> tuple[()]:
    return ()


# World -> what is broken. No other check sees these faults.
BROKEN: dict[str, Any] = {
    'post-copy=other-user': mock.patch.object(machines, 'between', _nothing),
    'cpu=Westmere-without-aes-on-target': mock.patch.object(
        ours, '_compared', lambda *_values: cpus.Comparison(cpus.COMPATIBLE)
    ),
    'firewall=qemu-rejected': mock.patch.object(ours, '_path', lambda *_values: []),
    'disk=shared-missing': mock.patch.object(storages, '_is_fact', lambda fact: False),
}


def work() -> int:
    """Try each world as it is, and with the check broken."""
    probes = Probes(pathlib.Path(tempfile.mkdtemp(prefix='probes-')))
    wrong = 0
    for words, broken in BROKEN.items():
        sound = attempt(World.of(words), probes)
        with broken:
            unsound = attempt(World.of(words), probes)
            if unsound.said.verdict == 'unknown':
                # On a busy machine libvirt may not answer in time.
                unsound = attempt(World.of(words), probes)
        print(f'{sound}\n{unsound}', flush=True)
        wrong += bool(sound.kind or sound.error) or unsound.kind != 'missed'
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(isolation.isolated('tests.truth.broken', [[]], work))
