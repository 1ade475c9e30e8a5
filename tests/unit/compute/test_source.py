# SPDX-License-Identifier: Apache-2.0
"""What the source remembers of its target's findings, for the case that the migration fails."""

import pytest

pytest.importorskip('nova', reason='nova is not installed')

from nova_migcheck.compute.source import _concerning
from nova_migcheck.finding import Finding, Outcome

pytestmark = pytest.mark.nova

PLAIN = Finding('address', Outcome.FAILURE, 'mig0', 'is down')
VOLUMES = Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8776', 'refused', scope='volumes')


@pytest.mark.parametrize(
    'block_device_info, found',
    [
        (None, [PLAIN, VOLUMES]),
        ({'block_device_mapping': ['a volume']}, [PLAIN, VOLUMES]),
        ({'block_device_mapping': []}, [PLAIN]),
        ({}, [PLAIN]),
    ],
)
def test_findings_about_volumes_are_of_servers_with_volumes(block_device_info, found):
    assert _concerning(block_device_info, (PLAIN, VOLUMES)) == found
