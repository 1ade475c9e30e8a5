# SPDX-License-Identifier: Apache-2.0
"""One cloud for all classes of tests that want the same one, brought back to a well state before each test."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional

import pytest

from nova_migcheck.finding import Finding, Outcome
from tests.functional.in_child.cpu_rules import Cpu

if TYPE_CHECKING:  # it imports all of Nova, which whoever only hands out the tests does not need
    from tests.functional.cloud import Cloud

# What most tests need: a source and four targets, which the scheduler prefers in the order of their names.
HOSTS = ('compute1', 'compute2', 'compute3', 'compute4', 'compute5')
STANDARD: Mapping[str, Any] = {
    'cpus': dict.fromkeys(HOSTS, Cpu()), 'memory_used': {name: 1024 * n for n, name in enumerate(HOSTS)}}


class _Running:
    """The one cloud there is: it patches too much of this process for a second one beside it."""

    def __init__(self) -> None:
        self._wanted: Optional[Mapping[str, Any]] = None
        self._cloud: Optional[Cloud] = None
        self._set_up = False

    def get(self, wanted: Mapping[str, Any]) -> Cloud:
        if self._cloud is None or self._wanted != wanted:
            from tests.functional.cloud import Cloud
            self.stop()
            cloud = Cloud(**wanted)
            cloud.setUp()
            if not self._set_up:
                # What Nova has loaded meanwhile stays as well (see tests/conftest.py).
                gc.freeze()
                self._set_up = True
            self._cloud, self._wanted = cloud, wanted
        return self._cloud

    def stop(self) -> None:
        cloud, self._cloud = self._cloud, None
        if cloud is not None:
            cloud.cleanUp()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if '/functional/' in f'/{item.nodeid}':
            item.add_marker(pytest.mark.nova)


@pytest.fixture(scope='session')
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Running]:
    tmp_path_factory.getbasetemp()  # before Nova's fixtures move the directory of temporary files to one that goes with the cloud
    one = _Running()
    yield one
    one.stop()


@pytest.fixture(scope='class')
def shared_cloud(request: pytest.FixtureRequest, running: _Running) -> Cloud:
    """The cloud that the class describes in ``CLOUD``, the arguments of :class:`Cloud`; as the last test left it."""
    cloud = running.get(getattr(request.cls, 'CLOUD', STANDARD))
    cloud.restore()
    return cloud


@pytest.fixture
def cloud(shared_cloud: Cloud) -> Cloud:
    """All hosts are well, have published it, and nobody has been asked anything."""
    shared_cloud.restore()
    return shared_cloud


@pytest.fixture
def no_cloud(running: _Running) -> None:
    """For a test that sets up its own."""
    running.stop()


@pytest.fixture
def unreachable() -> Finding:
    """A failure that has nothing to do with the CPU."""
    return Finding('endpoint', Outcome.FAILURE, 'http://192.0.2.5:8780', 'connection refused',
                   'catalog: placement, public, RegionOne', 'see whether placement-api runs behind the VIP')
