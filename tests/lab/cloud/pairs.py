# SPDX-License-Identifier: Apache-2.0
"""Healthy migrations without the plugin and with it, in pairs: whether one is rejected, and what the plugin costs."""

from __future__ import annotations

import math
import os
import socket
import statistics
import time
from typing import Iterator, Optional, Sequence

from tests.lab.cloud.cloud import Cloud, say
from tests.lab.cloud.user import Server

# How the process of one cloud knows its end of the line to the other: the number of a file descriptor.
_LINE = 'MIGCHECK_LAB_LINE'
# Seconds: the default of Nova's and of the plugin's rounds on a compute host.
_INTERVAL = 60
# After so many of them a line says how far it is.
_TOLD = 20


class Line:
    """What joins two clouds, so that one migrates while the other waits: side by side they would measure each other."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @staticmethod
    def ends() -> list[dict[str, int]]:
        """A line's two ends: the variable of each process' environment, and the file descriptor that it inherits."""
        return [{_LINE: end.detach()} for end in socket.socketpair()]

    @classmethod
    def inherited(cls) -> Optional[Line]:
        """This process' end; None when there is only one cloud."""
        number = os.environ.get(_LINE)
        return cls(socket.socket(fileno=int(number))) if number else None

    def done(self) -> None:
        """It is the other's turn."""
        self._end.sendall(b'.')

    def wait(self) -> None:
        """Wait for our turn.

        :raises RuntimeError: when the other cloud is gone
        """
        if not self._end.recv(1):
            raise RuntimeError('the other cloud is gone')


def migrations(cloud: Cloud, count: int, line: Optional[Line]) -> Iterator[float]:
    """Migrate one server round and round; how many seconds each took, from the request to its completion, as they come.

    With a line to the other cloud each is one half of a pair; who is first alternates.

    :raises RuntimeError: when one does not complete, where it was sent to and without a word against it
    """
    if not count:
        return
    # As an operator has them, not as the rows need them.
    plugin = {'migcheck': {'check_interval': _INTERVAL}} if cloud.plugin else {}
    for node in cloud.nodes.values():
        node.more = {'DEFAULT': {'update_resources_interval': _INTERVAL}, **plugin}
        node.configure()
    since = time.time()
    cloud.restart_computes()
    cloud.wait_well(since)
    server = Server(cloud, 'compute1')
    for number in range(count):
        first = line is None or (number % 2 == 0) is cloud.plugin
        if line is not None and not first:
            line.wait()
        target = f'compute{(number + 1) % len(cloud.nodes) + 1}'
        done = server.migrate(target)
        if not done.completed or done.host != target or done.running != {target: 'running'} or done.texts:
            raise RuntimeError(f'healthy migration {number + 1} did not complete: {done}')
        yield done.seconds
        if (number + 1) % _TOLD == 0:
            say(f'{number + 1} healthy migrations {"with" if cloud.plugin else "without"} the plugin')
        if line is not None:
            line.done()
            if first:
                line.wait()
    server.delete()


def median_and_confidence(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the bounds between which the true one lies with a confidence of at least 95 %.

    The bounds are values too, by their rank: how many of ``n`` lie under the true median is binomial, whatever the distribution. With
    fewer than six values there are no such bounds, and they are infinite.
    """
    ordered = sorted(values)
    n, below, rank = len(ordered), 0.0, 0
    while rank < n and below + math.comb(n, rank) / 2 ** n <= 0.025:
        below += math.comb(n, rank) / 2 ** n
        rank += 1
    bounds = (ordered[rank - 1], ordered[n - rank]) if rank else (-math.inf, math.inf)
    return (statistics.median(ordered), *bounds)


def times(pairs: Sequence[tuple[float, float]]) -> list[str]:
    """Seconds from the request to its completion, without the plugin and with it."""
    stock, plugin = ([pair[side] for pair in pairs] for side in (0, 1))
    ratio, low, high = median_and_confidence([ours / theirs for theirs, ours in pairs])
    more = '{:+.2f} s (95 % confidence: {:+.2f} to {:+.2f} s)'.format(*median_and_confidence([ours - theirs for theirs, ours in pairs]))
    return [f'{len(pairs)} pairs of live migrations, one without the plugin and one with it, which took turns. None was rejected, all '
            'completed.',
            f'From request to completion: median {statistics.median(stock):.2f} s without, {statistics.median(plugin):.2f} s with it. '
            f'Median of the pairs\' ratios {ratio:.3f} (95 % confidence: {low:.3f} to {high:.3f}), of their differences {more}: '
            + ('measurably longer with it.' if low > 1 else 'not measurably longer with it.')]
