# SPDX-License-Identifier: Apache-2.0
"""The check asks libvirt once for what changes with its version, and names what does not fit."""

from __future__ import annotations

import sys
import types
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from nova_migcheck.checks.base import Fact, Keep, Server, Settings
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.checks.registry import Registry
from nova_migcheck.finding import Outcome

UUID = "0a6de5b2-0000-4000-8000-000000000001"
CAPABILITIES = f"""
<capabilities><host><uuid>{UUID.upper()}</uuid><cpu><arch>x86_64</arch></cpu></host>
  <guest><arch name='x86_64'><machine>pc-i440fx-7.2</machine><machine canonical='pc-i440fx-7.2'>pc</machine></arch></guest>
</capabilities>"""
DOCUMENT = """<domainCapabilities><machine>{machine}</machine><devices><video supported='yes'><enum name='modelType'>
<value>vga</value></enum></video></devices></domainCapabilities>"""
GUEST = """<domain><os><type arch='x86_64' machine='{machine}'>hvm</type></os><devices><video><model type='{video}'/></video>
<interface><mac address='fa:16:3e:00:00:01'/><mtu size='1450'/></interface></devices><cputune><shares>20000</shares></cputune></domain>"""


class libvirtError(Exception):
    pass


class Connection:
    """A host that has one emulator."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def getCapabilities(self) -> str:
        return CAPABILITIES

    def getVersion(self) -> int:
        return 7_002_022

    def getLibVersion(self) -> int:
        return 9_000_000

    def getDomainCapabilities(self, *words: Any) -> str:
        self.asked.append(words)
        emulator, _arch, machine, _virt, _flags = words
        if emulator not in (None, "/usr/bin/qemu-system-x86_64"):
            raise libvirtError("Cannot check QEMU binary")
        return DOCUMENT.format(machine={"q35": "pc-q35-7.2"}.get(machine, "pc-i440fx-7.2"))


@pytest.fixture(autouse=True)
def libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", types.SimpleNamespace(libvirtError=libvirtError))


def answers(conn: Connection, memory: Any = None, **options: Any) -> dict[type, Any]:
    settings = Settings(options={"libvirt": {"virt_type": "kvm", **options}}, memory=memory)
    return {
        type(one): getattr(one, "value", one) for one in MachineCheck()._answers(settings, conn)
    }


def offers() -> dict[str, Any]:
    return {"machine": answers(Connection())[Fact]}


def parsed(machine: str = "pc-i440fx-7.2", video: str = "vga") -> ElementTree.Element:
    return ElementTree.fromstring(GUEST.format(machine=machine, video=video))


def test_the_fact() -> None:
    fact = offers()["machine"]
    assert fact["uuid"] == UUID and (fact["qemu"], fact["libvirt"]) == ("7.2.22", "9.0.0")
    assert fact["devices"] == {
        "pc-i440fx": {"video": "vga"},
        "pc-q35": {"video": "vga"},
    }
    assert (
        fact["emulators"] == "/usr/bin/qemu-system-x86_64"
        and "/usr/libexec/qemu-kvm" in fact["no_emulators"]
    )
    assert (
        "post_copy" not in fact
        and answers(Connection(), live_migration_permit_post_copy=True)[Fact]["post_copy"] is True
    )


def test_libvirt_is_asked_again_when_a_version_changes() -> None:
    conn = Connection()
    kept = answers(conn)[Keep]
    count = len(conn.asked)
    assert answers(conn, kept)[Keep] == kept and len(conn.asked) == count
    answers(conn, {**kept, "versions": {**kept["versions"], "qemu": "7.2.21"}})
    assert len(conn.asked) == 2 * count
    answers(conn, "nonsense")
    assert len(conn.asked) == 3 * count


@pytest.mark.parametrize("domain", [parsed(), parsed("pc"), parsed(video="vga")])
def test_what_fits(domain: ElementTree.Element) -> None:
    assert list(MachineCheck.compare(MachineCheck.needs(domain), offers())) == []


@pytest.mark.parametrize(
    "domain, code, name",
    [
        (parsed("pc-i440fx-9.2"), "machine-type-missing", "pc-i440fx-9.2"),
        (parsed(video="cirrus"), "machine-device-missing", "cirrus"),
    ],
)
def test_what_does_not(domain: ElementTree.Element, code: str, name: str) -> None:
    (finding,) = MachineCheck.compare(MachineCheck.needs(domain), offers())
    assert (finding.check, finding.outcome, finding.code) == ("machine", Outcome.FAILURE, code)
    assert name in finding.detail and "QEMU 7.2.22" in finding.detail


def test_a_guest_that_leaves() -> None:
    """Nova sends the MTU of the network, and the shares only if the flavor names them."""
    target = {"machine": {"cgroup": 2}}
    assert list(MachineCheck.leaves(parsed(), Server(), target)) == []
    server = Server({"quota:cpu_shares": "20000"}, {"fa:16:3e:00:00:01": 1500})
    assert [f.code for f in MachineCheck.leaves(parsed(), server, target)] == [
        "machine-mtu",
        "machine-shares",
    ]


def test_two_hosts_with_one_uuid() -> None:
    registry = Registry([MachineCheck])
    one, other = {"machine": {"uuid": UUID}}, {"machine": {"uuid": UUID.replace("1", "2")}}
    (finding,) = registry.same(one, one)
    assert (
        finding.code == "machine-same-uuid"
        and UUID in finding.detail
        and "host_uuid" in finding.remedy
    )
    assert registry.distinct(one) == [UUID]
    assert registry.same(one, other) == registry.same(one, {}) == registry.same({}, one) == []


@pytest.mark.parametrize("value", ["", "short", 7, None, ["x" * 40]])
def test_a_uuid_that_is_none_is_not_looked_for(value: Any) -> None:
    own = {"machine": {"uuid": value}}
    assert (
        Registry([MachineCheck]).distinct(own) == []
        and Registry([MachineCheck]).same(own, own) == []
    )
