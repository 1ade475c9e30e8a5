# SPDX-License-Identifier: Apache-2.0
"""A fault that many hosts see."""

import pytest

from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.common import shared
from nova_migcheck.policies import Policies
from nova_migcheck.report.report import Report

DEAD = Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8780', 'refuses connections')
OWN = Finding('address', Outcome.FAILURE, '10.66.0.12', 'is on mgmt0')
SHARE = Finding('storage', Outcome.FAILURE, '/var/lib/nova/instances', 'did not answer')


POLICIES = Policies(('address', 'cpu', 'endpoint', 'storage'))
CPU = Finding('cpu', Outcome.FAILURE, 'target', 'target lacks avx512f that the guest uses')
DOWN = Finding('address', Outcome.FAILURE, 'mig0', 'is down')


def source(*findings):
    return Report(0, findings)


@pytest.mark.parametrize(
    'rejections, report, text',
    [
        (
            [[DEAD]],
            source(DEAD),
            'endpoint: the same on the source: this is the service, not the host',
        ),
        (
            [[DEAD], [DEAD], [OWN]],
            None,
            'endpoint: the same on 2 of 3 targets: this is the service, not the host',
        ),
        (
            [[OWN, DEAD], [DEAD]],
            source(SHARE, DEAD),
            'endpoint: the same on the source and on 2 of 2 targets: this is the service, not the host',
        ),
    ],
)
def test_the_service(rejections, report, text):
    assert shared(rejections, report, POLICIES) == text


@pytest.mark.parametrize(
    'rejections, report',
    [
        ([[DEAD]], None),
        ([[DEAD]], source()),
        ([[DEAD]], source(SHARE)),
        ([[DEAD], [OWN]], source()),
        ([[DEAD], [DEAD], [OWN], [SHARE]], source()),
        ([[Finding('report', Outcome.UNKNOWN)], [Finding('report', Outcome.UNKNOWN)]], None),
        ([], source(DEAD)),
    # One CPU or one interface name on many hosts is no service.
    ([[CPU], [CPU], [CPU]], None), ([[DOWN], [DOWN]], source(DOWN)),
        # The same URL, but another check.
        ([[DEAD]], source(Finding('clock', Outcome.WARNING, DEAD.subject))),
    ],
)
def test_the_host(rejections, report):
    assert shared(rejections, report, POLICIES) == ''
