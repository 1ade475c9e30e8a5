# SPDX-License-Identifier: Apache-2.0
"""A host that becomes a bad target, or a good one again, tells the scheduler at once."""

from __future__ import annotations

import time
from typing import Any

from nova_migcheck.report import published


def findings(cloud: Any, host: str) -> list[str]:
    """What the scheduler reads of a host."""
    return [finding.subject for finding in published.read(cloud.stats(host)).findings]


def wait_for(cloud: Any, host: str, wanted: list[str]) -> None:
    end = time.monotonic() + 30
    while findings(cloud, host) != wanted:
        assert time.monotonic() < end, findings(cloud, host)
        time.sleep(0.05)


class TestTelling:
    def test_without_an_audit(self, cloud, unreachable):
        """Nova's own copy of the stats has it too: each server that comes or goes writes that."""
        cloud.boot('compute2')
        before = cloud.stats('compute2')
        cloud.say('compute2', unreachable)
        cloud.hosts['compute2'].check()
        wait_for(cloud, 'compute2', [unreachable.subject])
        cloud.boot('compute2')
        assert findings(cloud, 'compute2') == [unreachable.subject]
        assert cloud.stats('compute2')['num_instances'] != before['num_instances']
        cloud.say('compute2')
        cloud.hosts['compute2'].check()
        wait_for(cloud, 'compute2', [])

    def test_a_host_that_is_as_it_was_tells_nothing(self, cloud, unreachable):
        cloud.say('compute2', unreachable)
        cloud.hosts['compute2'].check()
        wait_for(cloud, 'compute2', [unreachable.subject])
        reporter = cloud.hosts['compute2'].driver._migcheck.reporter
        told = reporter._storing
        told.wait(30)
        before = cloud.stats('compute2')
        cloud.hosts['compute2'].check()
        assert reporter._storing is told and cloud.stats('compute2') == before

    def test_a_conductor_that_is_away(self, cloud, unreachable, monkeypatch):
        """The audit tells it, as it always did, and the check itself does not wait."""
        def away(*_args: Any) -> None:
            raise ConnectionError('no conductor')
        monkeypatch.setattr('nova.objects.ComputeNode.save', away)
        cloud.say('compute2', unreachable)
        cloud.hosts['compute2'].check()
        end = time.monotonic() + 30
        while not cloud.log.lines('WARNING', 'next resource audit', 'no conductor'):
            assert time.monotonic() < end
            time.sleep(0.05)
        monkeypatch.undo()
        cloud.publish('compute2')
        assert findings(cloud, 'compute2') == [unreachable.subject]
