# SPDX-License-Identifier: Apache-2.0
"""Checks that break in each way that a check can: they reject nothing, and the operator is told."""

from __future__ import annotations

import time

import pytest

from nova_migcheck.finding import Outcome
from nova_migcheck.report import published
from tests.functional.cloud import Cloud
from tests.functional.hypervisor import Cpu
from tests.functional.test_service import children

# check -> what is said of it
BROKEN = {
    'raises': 'the check broke: ZeroDivisionError: division by zero, on purpose',
    'hangs': 'the check was killed: it had not finished after 2 s',
    'rubbish': 'the check broke: TypeError: it yielded dict, not a Finding, Fact or Keep',
    'floods': 'the check broke: it yielded more than',
    'dies': 'the check died of signal 9',
    'no_check': 'the check cannot be loaded: its entry point is not a '
                'nova_migcheck.checks.base.Check',
    'broken': 'the check cannot be loaded: ImportError: libmissing.so.1',
    'nonexistent': 'the check cannot be loaded: no package installed here declares it',
}


class TestBrokenChecks:
    CLOUD = {'cpus': {'compute1': Cpu(), 'compute2': Cpu()}, 'conf': {'migcheck': {
        'checks': ','.join(['cpu', *BROKEN]), 'round_deadline': '2', 'check_interval': '3600'}}}

    @pytest.fixture
    def report(self, shared_cloud):
        shared_cloud.check('compute2')
        return published.read(shared_cloud.stats('compute2'))

    def test_each_is_a_finding_that_says_how_it_broke(self, report):
        said = {}
        for finding in report.findings:
            if finding.outcome is Outcome.UNKNOWN:
                said.setdefault(finding.check, finding.detail)
        assert said.keys() == BROKEN.keys()
        # Long texts were cut to make room for what the flood found.
        assert {check: BROKEN[check].startswith(detail[:40]) or detail.startswith(BROKEN[check])
                for check, detail in said.items()} == dict.fromkeys(BROKEN, True)

    def test_the_report_stays_under_its_cap(self, shared_cloud, report):
        stats = shared_cloud.stats('compute2')
        size = sum(len(key) + len(stats[key]) for key in published.KEYS if key in stats)
        assert size <= published.MAX_BYTES

    def test_the_well_check_beside_them_is_heard(self, report):
        assert report.cpu is not None and report.cpu.model == 'Haswell'

    def test_none_rejects_a_target(self, shared_cloud):
        shared_cloud.check()
        server = shared_cloud.boot('compute1')
        migration = shared_cloud.live_migrate(server)
        assert (migration.status, migration.host) == ('completed', 'compute2'), migration.texts
        assert migration.refusals == {}


class TestHungRound:
    def test_while_a_round_hangs_nova_compute_does_its_work(self, no_cloud):
        """Its resource audit and its RPC calls end long before the round, which has five minutes."""
        conf = {'migcheck': {'checks': 'hangs,cpu', 'round_deadline': '300', 'check_interval': '10'}}
        cloud = Cloud({'compute1': Cpu()}, conf=conf)
        cloud.setUp()
        try:
            deadline = time.monotonic() + 60
            while not children() and time.monotonic() < deadline:
                time.sleep(0.05)  # a process's birth is no event that another one can wait for
            hung = children()
            assert hung
            for _ in range(3):
                cloud.publish()
            server = cloud.boot('compute1')
            cloud.delete(server)
            assert children() == hung and not cloud.log.lines('ERROR', 'nova_migcheck')
        finally:
            cloud.cleanUp()
