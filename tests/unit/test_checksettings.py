# SPDX-License-Identifier: Apache-2.0
import pytest

from nova_migcheck.checksettings import Settings

SET = Settings(
    options={'libvirt': {'virt_type': 'kvm', 'images_type': None, 'ports': 0}},
    files={'libvirt.virt_type': '/etc/nova/nova.conf'},
)


@pytest.mark.parametrize(
    'group, option, value',
    [
        ('libvirt', 'virt_type', 'kvm'),
        ('libvirt', 'images_type', 7),
        ('libvirt', 'other', 7),
        ('other', 'virt_type', 7),
        ('libvirt', 'ports', 0),
    ],
)
def test_an_option_or_the_default(group, option, value):
    assert SET.get(group, option, 7) == value


def test_without_a_default_it_is_none():
    assert SET.get('libvirt', 'other') is None


def test_where_an_option_comes_from():
    assert SET.origin('libvirt', 'virt_type') == '/etc/nova/nova.conf [libvirt] virt_type'
    assert SET.origin('libvirt', 'ports') == 'default of [libvirt] ports'


def test_a_check_that_is_told_nothing_does_all_its_work():
    nothing = Settings()
    assert nothing.thorough and nothing.timeout == 5.0 and nothing.host == ''
    assert nothing.memory is None and nothing.target == {} and nothing.guests == {}
