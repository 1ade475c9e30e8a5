# SPDX-License-Identifier: Apache-2.0
"""One cloud for each class of tests, brought back to a well state before each test."""

from __future__ import annotations

from typing import Iterator

import pytest

from nova_migcheck.finding import Finding, Outcome
from tests.functional.cloud import Cloud


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if __name__.rpartition('.')[0] in item.nodeid.replace('/', '.'):
            item.add_marker(pytest.mark.nova)


@pytest.fixture(scope='class')
def shared_cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """The cloud that the class describes in ``CLOUD``, the arguments of :class:`Cloud`."""
    with Cloud(**request.cls.CLOUD) as cloud:
        yield cloud


@pytest.fixture
def cloud(shared_cloud: Cloud) -> Cloud:
    """All hosts are well, have published it, and nobody has been asked anything."""
    shared_cloud.restore()
    return shared_cloud


@pytest.fixture
def unreachable() -> Finding:
    """A failure that has nothing to do with the CPU."""
    return Finding('endpoint', Outcome.FAILURE, 'http://192.0.2.5:8780', 'connection refused',
                   'catalog: placement, public, RegionOne', 'see whether placement-api runs behind the VIP')
