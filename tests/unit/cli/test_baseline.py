# SPDX-License-Identifier: Apache-2.0
"""The model that all hosts can be told to give to their guests."""

from __future__ import annotations

import pathlib
from typing import Any

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


def host(features: str = 'avx2', **values: Any) -> Cpu:
    return Cpu(**{'arch': 'x86_64', 'virt': 'kvm', 'vendor': 'AMD', 'features': frozenset(features.split()), **values})


@pytest.mark.parametrize('other, words', [
    (host(arch='aarch64'), ['architecture', 'x86_64: a', 'aarch64: b']),
    (host(virt='qemu'), ['type of their guests', 'kvm: a', 'qemu: b']),
    (host(vendor='Intel'), ['vendor of the CPU', 'AMD: a', 'Intel: b'])])
def test_hosts_that_have_no_cpu_in_common(cpu_map: CpuMap, other: Cpu, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        baseline.common({'a': host(), 'b': other}, cpu_map)
    assert all(word in str(error.value) for word in words)
    with pytest.raises(ValueError, match=r'a\[1-2\]'):
        baseline.common({'a1': host(), 'a2': host(), 'b': other}, cpu_map)


def test_where_no_model_fits(cpu_map: CpuMap) -> None:
    with pytest.raises(ValueError, match='none of'):
        baseline.common({'a': host('aes')}, cpu_map)
    with pytest.raises(ValueError, match='none of'):  # the models are AMD's
        baseline.common({'a': host(vendor='Intel')}, cpu_map)
    with pytest.raises(ValueError, match='only be computed for x86 hosts, these are aarch64'):
        baseline.common({'a': host(arch='aarch64'), 'b': host(arch='aarch64')}, cpu_map)


def test_what_each_host_loses(cpu_map: CpuMap) -> None:
    hosts = {'a1': host('avx2 aes fma invtsc cmt', libvirt=OLDER), 'a2': host('avx2 aes bmi2 fma'),
             'b1': host('avx2 aes'), 'b2': host('avx2 aes')}
    found = baseline.common(hosts, cpu_map)
    assert found == baseline.Common('EPYC-Milan', ('aes',), {'a1': ('fma',), 'a2': ('bmi2', 'fma'), 'b1': (), 'b2': ()})
    assert found.lines() == [
        '[libvirt]', 'cpu_mode = custom', 'cpu_models = EPYC-Milan', 'cpu_model_extra_flags = aes',
        '# a1 loses fma', '# a2 loses bmi2, fma', '# b[1-2] lose nothing']
    found = baseline.common(hosts, cpu_map, model_only=True)
    assert found.extra == () and found.lost['b1'] == ('aes',) and found.lost['a1'] == ('aes', 'fma')
    assert not any('extra_flags' in line for line in found.lines())


def test_no_guest_gets_what_belongs_to_the_host(cpu_map: CpuMap) -> None:
    never = 'cmt mbm_local mbm_total osxsave ospke invtsc'
    found = baseline.common({'a': host(f'avx2 {never}')}, cpu_map)
    assert found.extra == () and found.lost == {'a': ()}


def test_a_model_that_a_libvirt_may_know(cpu_map: CpuMap) -> None:
    assert baseline._may_know(host(libvirt=None), 'EPYC-Milan-v2')
    assert baseline._may_know(host(libvirt=OLDER), 'nobody-lists-this')
    assert not baseline._may_know(host(libvirt=OLDER), 'EPYC-Milan-v2')
    assert baseline._may_know(host(libvirt=NEWER), 'EPYC-Milan-v2')


def test_the_lost_for_people() -> None:
    lost = baseline.Lost({'a': ['avx', 'fma'], 'b': []})
    assert lost.human_readable() == 'a: avx, fma; b: nothing'
