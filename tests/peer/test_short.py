# SPDX-License-Identifier: Apache-2.0
"""Those of Nova's own tests that concern us most, with our driver and filter in place of Nova's.

Without the plugin only those run that fail with it; ``./run peer`` runs all on both sides.
"""

import importlib.metadata
import pathlib
import sys

import pytest

from tests import nova_releases
from tests.peer import comparing
from tests.peer.comparing import Pair
from tests.peer.explained import EXPLAINED
from tests.peer.running import Nova, assumed, run
from tests.peer.suites import SHORT

# What must have been at work at least so often, or the tests say nothing.
WORK = {'unit': {'as destination': 10, 'as source': 10, 'hook started': 10},
        'functional': {'as destination': 10, 'as source': 10, 'hook started': 20,
                       'filter judged': 10}}


@pytest.mark.timeout(900)
@pytest.mark.parametrize('suite', SHORT, ids=lambda suite: suite.name)
def test_nothing_fails_only_with_the_plugin(suite):
    release = nova_releases.installed(importlib.metadata.version('nova'))
    nova = Nova(release, pathlib.Path(sys.prefix))
    plugin = run(nova, suite, True)
    assert plugin.tests
    pair = Pair(nova, suite, assumed(plugin), plugin)
    pair.repeat(EXPLAINED)
    assert not list(comparing.unexplained([pair], EXPLAINED))
    assert not list(comparing.no_longer_true([pair], EXPLAINED))
    for part, least in WORK[suite.name].items():
        assert sum(test.work.get(part, 0) for test in plugin.tests.values()) >= least, part
