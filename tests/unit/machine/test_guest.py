# SPDX-License-Identifier: Apache-2.0
"""What a guest needs, from its live XML."""

from __future__ import annotations

import pathlib
import xml.etree.ElementTree as ElementTree

import pytest

from nova_migcheck.machine import guest

DOMAIN = """
<domain type='kvm'>
  <os><type arch='x86_64' machine='pc-q35-8.2'>hvm</type>
    <loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.secboot.fd</loader></os>
  <cpu mode='custom' match='exact' check='full'><model>Skylake-Server</model>
    <topology sockets='1' dies='1' cores='2' threads='2'/></cpu>
  <cputune><shares>2048</shares></cputune>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='network' device='disk'><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <interface type='bridge'><mac address='FA:16:3e:00:00:01'/><model type='virtio'/><mtu size='1450'/></interface>
    <interface type='bridge'><mac address='fa:16:3e:00:00:02'/><model type='e1000'/></interface>
    <graphics type='vnc'/><video><model type='virtio'/></video>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>"""


def parsed(*changes: tuple[str, str]) -> ElementTree.Element:
    text = DOMAIN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return ElementTree.fromstring(text)


def test_all_of_it() -> None:
    assert guest.needs(parsed(), "6.8.0-31-generic") == {
        "arch": "x86_64",
        "type": "pc-q35-8.2",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "cores": 4,
        "uso": "6.8.0-31-generic",
        "devices": "bus=sata bus=virtio graphics=vnc loader=/usr/share/OVMF/OVMF_CODE.secboot.fd "
        "secure=yes tpm-backend=emulator tpm-version=2.0 tpm=tpm-crb video=virtio",
    }


def test_guests_that_are_alike_need_the_same() -> None:
    """Whatever differs for each guest would cost each of them a place in the report."""
    other = parsed(
        ("FA:16:3e:00:00:01", "fa:16:3e:99:99:99"),
        ("1450", "1500"),
        ("<shares>2048", "<shares>4096"),
        ("dev='vda'", "dev='vdb'"),
    )
    assert guest.needs(other, "6.8.0") == guest.needs(parsed(), "6.8.0")


@pytest.mark.parametrize(
    "name, is_of",
    [
        ("pc-q35-7.2", "pc-q35"),
        ("pc-q35-rhel9.4.0", "pc-q35"),
        ("pc-i440fx-jammy-hpb", "pc-i440fx"),
        ("virt-9.0", "virt"),
        ("pseries-7.2", "pseries"),
        ("s390-ccw-virtio-8.2", "s390-ccw-virtio"),
        ("microvm", "microvm"),
        ("isapc", "isapc"),
    ],
)
def test_families(name: str, is_of: str) -> None:
    assert guest.family(name) == is_of


@pytest.mark.parametrize(
    "old, new, cores",
    [
        ("cores='2' threads='2'", "cores='1' threads='1'", 0),
        ("cores='2' threads='2'", "cores='2' threads='1'", 2),
        ("dies='1' cores='2' threads='2'", "dies='2' cores='1' threads='1'", 2),
        ("check='full'", "check='partial'", 0),
        ("</model>\n    <topology", "</model><feature policy='require' name='ht'/><topology", 0),
        ("</model>\n    <topology", "</model><feature policy='disable' name='ht'/><topology", 4),
        ("cores='2' threads='2'", "cores='many' threads='-1'", 0),
        ("cores='2'", "cores='99999999'", 2),
    ],
)
def test_ht(old: str, new: str, cores: int) -> None:
    assert (guest.needs(parsed((old, new))) or {}).get("cores", 0) == cores


@pytest.mark.parametrize(
    "kernel, changes, has",
    [
        ("6.8.0", (), True),
        ("6.2", (), True),
        ("6.1.0-18-amd64", (), False),
        ("", (), False),
        ("5.14.0-427.el9", (), False),
        ("6.8.0", (("pc-q35-8.2", "pc-q35-8.1"),), False),
        ("6.8.0", (("pc-q35-8.2", "pc-q35-10.0"),), True),
        ("6.8.0", (("pc-q35-8.2", "pc-q35-rhel9.4.0"),), False),
        ("6.8.0", (("<model type='virtio'/><mtu", "<model type='e1000'/><mtu"),), False),
    ],
)
def test_uso(kernel: str, changes: tuple, has: bool) -> None:
    assert ("uso" in (guest.needs(parsed(*changes), kernel) or {})) is has


@pytest.mark.parametrize(
    "device, fixed",
    [
        ("<interface type='vhostuser'><target dev='vhu1'/></interface>", ["interface vhu1"]),
        ("<disk type='vhostuser'><target dev='vda'/></disk>", ["disk vda"]),
        ("<interface type='vhostuser'/>", ["interface of type vhostuser"]),
        ("<hostdev mode='subsystem' type='pci'/>", None),
    ],
)
def test_what_cannot_be_migrated(device: str, fixed: list) -> None:
    domain = parsed(("</devices>", f"{device}</devices>"))
    assert (guest.needs(domain) or {}).get("fixed") == fixed
    for shared in ("<memoryBacking><access mode='shared'/></memoryBacking><os>",):
        domain = parsed(("</devices>", f"{device}</devices>"), ("<os>", shared))
        assert "fixed" not in (guest.needs(domain) or {})
    domain = parsed(
        ("</devices>", f"{device}</devices>"),
        ("threads='2'/>", "threads='2'/><numa><cell id='0' memAccess='shared'/></numa>"),
    )
    assert "fixed" not in (guest.needs(domain) or {})


PKU = (("Skylake-Server<", "Haswell-noTSX-IBRS<"),)


@pytest.mark.parametrize(
    "kernel, has_pku, changes, sent",
    [
        ("5.4.0-150-generic", True, PKU, True),
        ("4.18.0-513.el8", True, (("Skylake-Server<", "EPYC-Rome<"),), True),
        ("5.4.0", True, (), True),
        ("5.4.0", True, (("</model>\n    <topology",
                          "</model><feature policy='disable' name='pku'/><topology"),
                         ("Skylake-Server<", "EPYC-Turin<")), True),
        # M9's healthy neighbours on the source's side.
        ("5.4.0", False, PKU, False),
        ("5.15.0-94-generic", True, PKU, False),
        ("", True, PKU, False),
        ("5.4.0", True, (("</model>\n    <topology",
                          "</model><feature policy='require' name='pku'/><topology"),), False),
        ("5.4.0", True, (("Skylake-Server<", "Skylake-Server-v4<"),), False),
        ("5.4.0", True, (("Skylake-Server<", "Icelake-Server-noTSX<"),), False),
        ("5.4.0", True, (("check='full'", "check='partial'"),), False),
        ("5.4.0", True, (("<domain type='kvm'", "<domain type='qemu'"),), False),
        ("5.4.0", True, (("<cpu mode='custom' match='exact' check='full'>",
                          "<cpu mode='host-passthrough' check='none'>"),), False),
    ],
)
def test_m9_state_of_pku(kernel: str, has_pku: bool, changes: tuple, sent: bool) -> None:
    """Row M9: what the source sends for a guest that has no pku."""
    needs = guest.needs(parsed(*changes), kernel, has_pku)
    assert needs is not None and needs.get("pku") == (kernel if sent else None)


def test_models_without_pku_are_those_of_libvirt() -> None:
    """A model in this libvirt's own files that has pku is none of them."""
    models = pathlib.Path("/usr/share/libvirt/cpu_map")
    if not models.exists():
        pytest.skip("libvirt's data files are not installed")
    known = {path.stem[4:]: "'pku'" in path.read_text() for path in models.glob("x86_*.xml")}
    assert known["Icelake-Server"] and not known["Haswell"]
    taken = [name for name in known if guest._WITHOUT_PKU.fullmatch(name)]
    assert len(taken) > 30 and not [name for name in taken if known[name]]


@pytest.mark.parametrize(
    "device, bound",
    [
        ("<filesystem type='mount'><driver type='virtiofs'/></filesystem>",
         ["filesystem virtiofs"]),
        ("<filesystem type='mount'><driver type='path'/></filesystem>", ["filesystem 9p"]),
        ("<filesystem type='mount'/>", ["filesystem 9p"]),
        ("<hostdev mode='subsystem' type='scsi_host'/>", ["hostdev scsi_host"]),
        # libvirt can migrate these, or Nova takes them off the guest before.
        ("<hostdev mode='subsystem' type='usb'/>", None),
        ("<hostdev mode='subsystem' type='pci'><teaming type='transient'/></hostdev>", None),
        ("<hostdev mode='subsystem' type='mdev'/>", None),
        ("<interface type='hostdev'/>", None),
    ],
)
def test_m5_filesystems_and_host_devices(device: str, bound: list) -> None:
    """Row M5, with the host devices that libvirt can migrate."""
    domain = parsed(("</devices>", f"{device}</devices>"))
    assert (guest.needs(domain) or {}).get("bound") == bound


@pytest.mark.parametrize("machine", ["pc\x07", "pc\x9b31m", "x" * 300, "pc'onload"])
@pytest.mark.parametrize("attribute", ["machine", "arch"])
def test_a_name_that_no_libvirt_has(attribute: str, machine: str) -> None:
    """Its one line can be shown on a terminal."""
    domain = parsed()
    domain.find("os/type").set(attribute, machine)
    with pytest.raises(ValueError, match="no libvirt has") as caught:
        guest.needs(domain)
    said = str(caught.value)
    assert said.isprintable() and said.isascii() and len(said) < 120


@pytest.mark.parametrize("attribute", ["machine", "arch"])
def test_no_name(attribute: str) -> None:
    domain = parsed()
    domain.find("os/type").set(attribute, "")
    assert guest.needs(domain) is None


def test_hostile_texts_are_left_out() -> None:
    domain = parsed()
    domain.find("devices/video/model").set("type", "vga\x1b]0;x\x07")
    domain.find("devices/emulator").text = "/bin/x\n\x1b[2J"
    domain.find("os/loader").text = "/x\x00"
    needs = guest.needs(domain)
    assert "emulator" not in needs and not {"video", "loader"} & set(needs["devices"].replace("=", " ").split())


def test_a_guest_without_anything() -> None:
    assert guest.needs(ElementTree.fromstring("<domain/>")) is None
    assert guest.needs(
        ElementTree.fromstring("<domain><os><type arch='x86_64' machine='pc'/></os></domain>")
    ) == {"arch": "x86_64", "type": "pc"}


def test_mtus() -> None:
    assert guest.mtus(parsed()) == {"fa:16:3e:00:00:01": 1450}
    assert guest.mtus(parsed(("size='1450'", "size='big'"))) == {}


def test_shares() -> None:
    assert guest.shares(parsed()) == 2048
    assert (
        guest.shares(parsed(("2048", "all"))) is None
        and guest.shares(ElementTree.fromstring("<domain/>")) is None
    )


def test_jobs() -> None:
    assert guest.jobs(parsed()) == {}
    assert guest.jobs(
        parsed(("bus='virtio'/>", "bus='virtio'/><mirror job='active-commit'/>"))
    ) == {"vda": "active-commit"}
    assert guest.jobs(parsed(("bus='virtio'/>", "bus='virtio'/><mirror/>"))) == {"vda": "copy"}


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("6.1.0-18-amd64", (6, 1, 0)),
        ("10.0.13", (10, 0, 13)),
        ("6.2", (6, 2)),
        ("", ()),
        ("kernel", ()),
        ("5.14.0-427.el9", (5, 14, 0)),
    ],
)
def test_versions(text: str, numbers: tuple) -> None:
    assert guest.version(text) == numbers


@pytest.mark.parametrize(
    "names, text",
    [
        (["q35", "pc", "pc-q35-7.2", "pc-q35-2.0", "pc-i440fx-7.2"], "pc pc-i440fx:7.2 pc-q35:2.0,7.2 q35"),
        (["pc-q35-rhel9.4.0", "virt-10.0"], "pc-q35-rhel9.4.0 virt:10.0"),
        ([], ""),
    ],
)
def test_names_of_machine_types_as_a_short_text(names: list, text: str) -> None:
    assert guest.fold(names) == text and guest.unfold(text) == sorted(names)
