# SPDX-License-Identifier: Apache-2.0
"""What the source remembers of its target's findings, for the case that the migration fails."""

import pytest

pytest.importorskip('nova', reason='nova is not installed')

from nova_migcheck.compute import source
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


class Instance:
    """What of Nova's instance is read."""

    def __init__(self, vifs=(), specs=None, error=None):
        self._vifs, self._error = vifs, error
        self.uuid = 'ffffffff-0000-4000-8000-000000000001'
        self.flavor = {'extra_specs': specs} if specs is not None else None
        if specs is not None:
            self.flavor = Flavor(specs)

    def get_network_info(self):
        if self._error:
            raise self._error
        return self._vifs


class Flavor:
    def __init__(self, specs):
        self.extra_specs = specs

    def __contains__(self, name):
        return name == 'extra_specs'


def test_what_nova_will_write_into_the_xml():
    vifs = [
        {'address': 'FA:16:3E:00:00:01', 'network': {'meta': {'mtu': 1450}}},
        {'address': 'fa:16:3e:00:00:02', 'network': {'meta': {}}},
        {'address': 'fa:16:3e:00:00:03', 'network': None},
        {'network': {'meta': {'mtu': 1500}}},
    ]
    server = source._server(Instance(vifs, {'quota:cpu_shares': '20000'}))
    assert server.mtus == {'fa:16:3e:00:00:01': 1450}
    assert server.extra_specs == {'quota:cpu_shares': '20000'}
    assert source._server(Instance()).extra_specs == {}


def test_networks_that_cannot_be_read_hold_up_nothing(caplog):
    server = source._server(Instance(error=ConnectionError('no conductor'), specs={}))
    assert server.mtus == {} and 'no conductor' in caplog.text
