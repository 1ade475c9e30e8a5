# SPDX-License-Identifier: Apache-2.0
"""The model that all hosts can be told to give to their guests."""

from __future__ import annotations

import pathlib

import pytest

from nova_migcheck.cli import baseline
from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu.models import CpuMap

OLDER, NEWER = 9_000_000, 11_003_000
MODEL = "<model name='{}'><vendor name='AMD'/>{}</model>"


@pytest.fixture
def cpu_map(tmp_path: pathlib.Path) -> CpuMap:
    """As libvirt 11.3 has it: each model once more with a version, listed behind it."""
    features = ''.join(f"<feature name='{name}'/>" for name in ('avx2', 'erms', 'aes'))
    models = ''.join(MODEL.format(name, ''.join(f"<feature name='{has}'/>" for has in names))
                     for name, names in (('EPYC-Milan', ('avx2',)), ('EPYC-Milan-v1', ('avx2',)),
                                         ('EPYC-Milan-v2', ('avx2', 'erms'))))
    (tmp_path / 'index.xml').write_text(
        f"<cpus><arch name='x86'><vendor name='AMD' string='AuthenticAMD'/>{features}{models}"
        '</arch></cpus>')
    return CpuMap(tmp_path)


@pytest.mark.parametrize('versions, features, model', [
    # A model that one of them does not know would keep its nova-compute from starting.
    ((OLDER, NEWER), 'avx2 erms', 'EPYC-Milan'),
    ((NEWER, NEWER), 'avx2 erms', 'EPYC-Milan-v2'),
    # Of two that are the same, the one that more of them know.
    ((NEWER, NEWER), 'avx2 aes', 'EPYC-Milan'),
    # From files, whose libvirt is not known.
    ((None, None), 'avx2 erms', 'EPYC-Milan-v2'),
])
def test_model(cpu_map: CpuMap, versions: tuple[int], features: str, model: str) -> None:
    hosts = {f'compute{number}': Cpu('x86_64', 'kvm', 'AMD', features=frozenset(features.split()),
                                     libvirt=version)
             for number, version in enumerate(versions)}
    found = baseline.common(hosts, cpu_map)
    assert found.model == model
    assert set(found.extra) == set(features.split()) - cpu_map.expand(model, 'x86_64')
