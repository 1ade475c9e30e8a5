# SPDX-License-Identifier: Apache-2.0
"""Machine types of a whole cloud."""

from __future__ import annotations

import pytest

from nova_migcheck.machine import fleet

OLD = ['pc', 'pc-i440fx-7.2', 'pc-i440fx-6.2', 'pc-q35-7.2', 'pc-q35-6.2']
NEW = [*OLD, 'pc-i440fx-10.0', 'pc-q35-10.0']


@pytest.mark.parametrize(
    'offered, used, name',
    [
        ({'a': OLD, 'b': NEW}, {}, 'pc-i440fx-7.2'),
        ({'a': NEW, 'b': NEW}, {}, 'pc-i440fx-10.0'),  # not 7.2, as text would have it
        ({'a': OLD, 'b': NEW}, {'pc-q35-6.2': ['a', 'b'], 'pc-i440fx-6.2': ['a']}, 'pc-q35-7.2'),
        ({'a': OLD, 'b': NEW}, {'pc-q35-6.2': ['a'], 'pc-i440fx-6.2': ['b']}, 'pc-i440fx-7.2'),
        ({'a': ['pc']}, {}, ''),
        ({'a': OLD, 'b': ['virt-9.0']}, {}, ''),
        ({}, {}, ''),
    ],
)
def test_newest(offered, used, name) -> None:
    assert fleet.newest(offered, used) == name


def test_lacking() -> None:
    used = {'pc-q35-10.0': ['c', 'b'], 'pc-i440fx-6.2': ['a']}
    assert fleet.lacking({'a': OLD, 'b': NEW, 'c': NEW, 'd': OLD}, used) == [
        fleet.InUse('pc-q35-10.0', ('b', 'c'), ('a', 'd'))
    ]
    assert fleet.lacking({}, used) == []
