# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests in namespaces."""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.lab import namespaces
from tests.lab.two_hosts import TwoHosts


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    """Two healthy hosts."""
    lacking = namespaces.missing()
    if lacking:
        pytest.skip(lacking)
    with TwoHosts() as two:
        yield two
