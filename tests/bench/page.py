# SPDX-License-Identifier: Apache-2.0
"""The page of ``nova-migcheck matrix --html`` with 1,000 hosts in a real Chromium: how long a person waits for it."""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
from typing import Any, Callable, Iterator

from nova_migcheck.cli import matrixpage
from nova_migcheck.judging import matrix as matrices
from nova_migcheck.policies import Policies
from tests.bench.measure import Row
from tests.cli import fleet_files
from tests.cli.browser import chromium
from tests.cli.hosts import MIGCHECK, NOW, Host

_COUNT = 1000
# Seconds after which a person may use it, and after which it must have done what was asked of it.
_LIMIT = 2
_INPUT = ("const c = document.getElementById(arguments[0]); c[c.type === 'checkbox' ? 'checked' : 'value'] = arguments[1]; "
          "c.dispatchEvent(new Event('input', {bubbles: true}));")
# Until the frame behind the next one: by then what was asked for is on the screen.
_DRAWN = 'const done = arguments[arguments.length - 1]; requestAnimationFrame(() => requestAnimationFrame(() => done()));'


def rows(times: int = 5) -> Iterator[Row]:
    """All in one of Nova's cells, so that each of a million pairs is one that Nova may ask about."""
    hosts = [Host(f'compute{n}', 'cell1', fleet_files.report_of(n, NOW)) for n in range(1, _COUNT + 1)]
    begun = time.process_time()
    page = matrixpage.render(matrices.build(hosts, Policies.from_conf(MIGCHECK), MIGCHECK, NOW, servers=True), [], '')
    what = f'the page of {_COUNT} hosts'
    yield Row(f'{what}: making it', time.process_time() - begun, 's', _LIMIT)
    yield Row(f'{what}: its size', len(page.encode()) / 2 ** 20, 'MiB')
    with tempfile.TemporaryDirectory() as directory, chromium() as driver:
        path = pathlib.Path(directory) / 'matrix.html'
        path.write_text(page, encoding='utf-8')
        yield Row(f'{what}: interactive', _median(times, _load, driver, path), 's', _LIMIT, 'wall clock, from the start of its loading')
        for words, control, value, other in (
                ('a million cells unfolded', 'group', False, True), ('sorted by reason', 'sort', 'reason', 'host'),
                ('filtered by reason', 'reason', 'avx512f', ''), ('filtered by outcome', 'outcome', 'rejected', '')):
            seconds = _median(times, _use, driver, control, value, other)
            yield Row(f'{what}: {words}', seconds, 's', _LIMIT, 'wall clock, until it is drawn')
            if control == 'group':
                driver.execute_script(_INPUT, control, value)


def _median(times: int, run: Callable[..., float], *args: Any) -> float:
    return statistics.median(run(*args) for _ in range(times))


def _load(driver: Any, path: pathlib.Path) -> float:
    driver.get(f'file://{path}')
    # Milliseconds, as the page's own script notes when it has done all; the frame in which it is drawn comes behind it.
    begun = time.monotonic()
    driver.execute_async_script(_DRAWN)
    return int(driver.execute_script('return document.documentElement.dataset.ready')) / 1000 + time.monotonic() - begun


def _use(driver: Any, control: str, value: Any, other: Any) -> float:
    begun = time.monotonic()
    driver.execute_async_script(_INPUT + _DRAWN, control, value)
    seconds = time.monotonic() - begun
    driver.execute_script(_INPUT, control, other)
    return seconds
