# SPDX-License-Identifier: Apache-2.0
"""Connect to the portals of volumes, to all at the same time and under one deadline."""

from __future__ import annotations

import asyncio
import time
from typing import Collection

from nova_migcheck.network import probe, resolver
from nova_migcheck.volumes.attached import Portal

# Share of the time for the resolver.
_SHARE = 0.5


def tried(portals: Collection[Portal], seconds: float) -> dict[Portal, str]:
    """Return what became of an attempt to connect to each: '' if it was accepted."""
    deadline = time.monotonic() + seconds
    answers = resolver.resolve((portal.host for portal in portals), seconds * _SHARE)
    return asyncio.run(_tried({portal: answers[portal.host] for portal in portals}, deadline))


async def _tried(portals: dict[Portal, resolver.Answer], deadline: float) -> dict[Portal, str]:
    results = await asyncio.gather(*(
        _one(portal, answer, deadline) for portal, answer in portals.items()))
    return dict(zip(portals, results))


async def _one(portal: Portal, answer: resolver.Answer, deadline: float) -> str:
    """Try all addresses of a portal, of which one is enough."""
    if not answer.addresses:
        return f'the name does not resolve: {answer.error}'
    probes = await asyncio.gather(*(
        probe.path(address, portal.port, deadline) for address in answer.addresses))
    if any(one.reach is probe.Reach.OPEN for one in probes):
        return ''
    return probes[0].detail if len(probes) == 1 else '; '.join(
        f'{one.address}: {one.detail}' for one in probes)
