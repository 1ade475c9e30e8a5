# SPDX-License-Identifier: Apache-2.0
"""A test of Nova's that hangs or ends its process is a result, and the others run all the same."""

import importlib.metadata
import pathlib
import sys

import pytest

from tests import nova_releases
from tests.peer import running
from tests.peer.suites import Suite


@pytest.fixture
def nova():
    release = nova_releases.installed(importlib.metadata.version('nova'))
    return running.Nova(release, pathlib.Path(sys.prefix))


@pytest.mark.timeout(600)
def test_each_way_to_end(nova, monkeypatch):
    monkeypatch.setattr(running, 'LONGEST', 3.0)
    ran = running.run(nova, Suite('cases', False, ('tests.peer.cases',)), True)
    ends = {name.rpartition('.')[2].rstrip(')'): test for name, test in ran.tests.items()}
    assert {name: test.outcome for name, test in ends.items()} == {
        'test_1_passes': 'passed', 'test_2_fails': 'failed', 'test_3_hangs': 'hung',
        'test_4_is_skipped': 'skipped', 'test_5_ends_the_process': 'died',
        'test_6_passes': 'passed', 'NotSetUp': 'failed'}
    assert 'it is meant to' in ends['test_2_fails'].why
    assert 'in test_3_hangs' in ends['test_3_hangs'].why, 'it does not say where'
    assert 'status 3' in ends['test_5_ends_the_process'].why


def test_what_has_no_tests_is_an_error(nova):
    with pytest.raises(RuntimeError, match=r"No module named 'nova\.tests\.nothing"):
        running.run(nova, Suite('nothing', False, ('nova.tests.nothing.at_all',)), False)
