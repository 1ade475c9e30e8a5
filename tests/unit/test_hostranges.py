# SPDX-License-Identifier: Apache-2.0
import pytest

from nova_migcheck.hostranges import fold


@pytest.mark.parametrize('names, folded', [
    ([], ''),
    (['compute1'], 'compute1'),
    (['compute1', 'compute2', 'compute3', 'compute7'], 'compute[1-3,7]'),
    (['compute01', 'compute02', 'compute10'], 'compute[01-02] compute10'),
    (['compute1', 'compute01'], 'compute1 compute01'),
    (['a1.example', 'a2.example', 'b'], 'a[1-2].example b'),
    (['rack1-2', 'rack1-3', 'rack2-2'], 'rack1-[2-3] rack2-2'),
    (['x²', ''], 'x² '),
])
def test_all(names, folded):
    assert fold(names) == folded


@pytest.mark.parametrize('names, folded', [
    ([f'c{n}' for n in range(0, 20, 2)], 'c[0,2,4,…] (10 hosts)'),
    (['a', 'b', 'c', 'd'], 'a b c (4 hosts)'),
    (['a', 'b', 'c'], 'a b c'),
    ([f'c{n}' for n in range(1000)], 'c[0-999]'),
])
def test_cut(names, folded):
    assert fold(names, 3) == folded


def test_the_number_of_all_is_left_out_where_it_is_told_beside():
    names = [f'c{n}' for n in range(1, 20, 2)]
    assert fold(names, 2) == 'c[1,3,…] (10 hosts)' and fold(names, 2, count=False) == 'c[1,3,…]'
