# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests in namespaces."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
from typing import Iterator

import pytest

from tests.lab import libvirtd, namespaces
from tests.lab.asked_pair import Cloud
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.two_hosts import TwoHosts


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    """Two healthy hosts."""
    lacking = namespaces.missing()
    if lacking:
        pytest.skip(lacking)
    with TwoHosts() as two:
        yield two


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[libvirtd.Libvirtd]:
    """A libvirtd whose cache others may copy: it has asked QEMU what it can."""
    if libvirtd.missing():
        pytest.skip(libvirtd.missing())
    with libvirtd.Libvirtd('node1', cache=tmp_path_factory.mktemp('libvirt') / 'cache') as node:
        node.connect().getCapabilities()
        yield node
        node.cache = None


@pytest.fixture
def pair(hosts: TwoHosts) -> Iterator[tuple[LibvirtHost, LibvirtHost]]:
    """A libvirtd on each of the two hosts."""
    if libvirtd.missing():
        pytest.skip(libvirtd.missing())
    with LibvirtHost(hosts.source) as source:
        source.connect().getCapabilities()  # it asks QEMU what it can, once for both
        with LibvirtHost(hosts.target, cache=source.root / 'cache') as target:
            yield source, target


@pytest.fixture(scope='module')
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What libvirt finds out about QEMU, once."""
    path = tmp_path_factory.mktemp('libvirt') / 'cache'
    with libvirtd.Libvirtd('node1', cache=path) as node:
        node.connect().getCapabilities()
    return path


@pytest.fixture
def cloud(hosts: TwoHosts, cache: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Cloud]:
    own = tmp_path / 'cache'
    subprocess.run(['cp', '-a', str(cache), str(own)], check=True)
    with contextlib.ExitStack() as cleanup:
        yield Cloud(hosts, cleanup, own)
