# SPDX-License-Identifier: Apache-2.0
"""Machine types: what libvirt lists, what a guest has, and what is refused (row M1)."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from nova_migcheck.checks.base import Fact
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.finding import Outcome

CAPABILITIES = """
<capabilities>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine maxCpus='255'>pc-i440fx-7.2</machine>
    <machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>
    <machine maxCpus='255' deprecated='yes'>pc-i440fx-1.4</machine>
    <domain type='kvm'><machine maxCpus='288'>pc-q35-7.2</machine></domain>
  </arch></guest>
  <guest><os_type>hvm</os_type><arch name='aarch64'><machine>virt-7.2</machine></arch></guest>
</capabilities>"""


class Connection:
    def getCapabilities(self):
        return CAPABILITIES

    def getVersion(self):
        return 7_002_022


def offers():
    (fact,) = [one for one in MachineCheck()._answers(Connection()) if isinstance(one, Fact)]
    return {fact.name: fact.value}


def guest(machine, arch='x86_64'):
    return MachineCheck.needs(ElementTree.fromstring(
        f"<domain><os><type arch='{arch}' machine='{machine}'>hvm</type></os></domain>"))


@pytest.mark.parametrize('needs', [
    guest('pc-i440fx-7.2'), guest('pc-i440fx-1.4'), guest('pc-q35-7.2'), guest('pc'),
    guest('virt-7.2', 'aarch64'),
    # This host lists no type of that architecture: libvirt, or the check of CPUs, will tell.
    guest('pseries-7.2', 'ppc64')])
def test_a_type_that_the_target_has(needs):
    assert list(MachineCheck.compare(needs, offers())) == []


def test_a_type_that_the_target_lacks():
    (finding,) = MachineCheck.compare(guest('pc-i440fx-9.2'), offers())
    assert (finding.check, finding.outcome) == ('machine', Outcome.FAILURE)
    assert 'pc-i440fx-9.2' in finding.detail and 'QEMU 7.2.22' in finding.detail


def test_a_host_that_has_published_none():
    assert list(MachineCheck.compare(guest('pc-i440fx-9.2'), {})) == []


def test_a_guest_whose_xml_names_none():
    assert MachineCheck.needs(ElementTree.fromstring('<domain/>')) is None
