# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from nova_migcheck.network import probe


@pytest.mark.parametrize('ports', [(49152, 49215), (50000, 50009), (50000, 50001), (50000, 50000)])
def test_ports_that_are_tried_lie_in_the_range_and_the_first_is_left_alone(ports: tuple) -> None:
    high, low = probe.qemu_ports(ports)
    assert high and set(high + low) <= set(range(ports[0], ports[1] + 1))
    assert not set(high) & set(low)
    if ports[1] - ports[0] >= 8:
        assert min(high + low) > ports[0]
    assert max(high) == ports[1]
