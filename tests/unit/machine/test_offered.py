# SPDX-License-Identifier: Apache-2.0
"""What a host offers, from libvirt's documents and the kernel's files."""

from __future__ import annotations

import os
import pathlib
import xml.etree.ElementTree as ElementTree

import pytest

from nova_migcheck.machine import offered

CAPABILITIES = ElementTree.fromstring("""
<capabilities><host><uuid>0A6DE5B2-0000-4000-8000-000000000001</uuid><cpu><arch>x86_64</arch></cpu>
  <secmodel><model>none</model></secmodel>
  <secmodel><model>dac</model><baselabel type='kvm'>+64055:+108</baselabel></secmodel></host>
  <guest><arch name='x86_64'><machine>pc-i440fx-7.2</machine><machine canonical='pc-i440fx-7.2'>pc</machine>
    <domain type='kvm'><machine>pc-q35-7.2</machine></domain></arch></guest></capabilities>""")
DOMAIN_CAPABILITIES = """
<domainCapabilities><machine>pc-q35-7.2</machine>
  <os><loader supported='yes'><value>/usr/share/OVMF/OVMF_CODE.fd</value><enum name='secure'><value>no</value></enum></loader></os>
  <devices><disk supported='yes'><enum name='bus'><value>virtio</value><value>sata</value></enum></disk>
  <video supported='yes'/><tpm supported='no'/></devices></domainCapabilities>"""


def test_the_fact() -> None:
    found = offered.fact(
        CAPABILITIES,
        {"pc-q35": {}},
        {"qemu": "7.2.22"},
        {"/usr/bin/kvm": True, "/usr/bin/no": False},
        True,
    )
    assert found["machine_types"] == {"x86_64": "pc pc-i440fx:7.2 pc-q35:7.2"} and found["qemu"] == "7.2.22"
    assert (found["emulators"], found["no_emulators"]) == ("/usr/bin/kvm", "/usr/bin/no")
    assert (
        found["uuid"] == "0a6de5b2-0000-4000-8000-000000000001"
        and found["post_copy"] is True
        and found["cgroup"] in (1, 2)
    )
    assert "post_copy" not in offered.fact(CAPABILITIES, {}, {}, {}, False)


def test_devices() -> None:
    """A list that is not there is not empty; what is not supported has empty ones."""
    assert offered.devices([ElementTree.fromstring(DOMAIN_CAPABILITIES)]) == {
        "pc-q35": {
            "bus": "virtio sata",
            "tpm": "",
            "tpm-backend": "",
            "tpm-version": "",
            "loader": "/usr/share/OVMF/OVMF_CODE.fd",
            "secure": "no",
        }
    }


def test_qemu_user() -> None:
    assert offered.qemu_user(CAPABILITIES) == (64055, 108)
    for text in (
        "<capabilities/>",
        "<capabilities><host><secmodel><model>dac</model></secmodel></host></capabilities>",
    ):
        assert offered.qemu_user(ElementTree.fromstring(text)) is None


def test_dotted() -> None:
    assert (offered.dotted(7_002_022), offered.dotted(11_003_000)) == ("7.2.22", "11.3.0")


@pytest.mark.parametrize(
    "value, mode, user, refused",
    [
        ("0\n", None, 64055, True),
        ("1\n", None, 64055, False),
        ("0\n", None, 0, False),
        ("0\n", None, None, False),
        ("0\n", 0o600, 64055, True),
        ("0\n", 0o666, 64055, False),
        ("0\n", 0o660, 64055, False),
        (None, None, 64055, False),
        ("0\n", 0o600, os.getuid() or 1, os.getuid() == 0),
    ],
)
def test_userfaultfd(tmp_path: pathlib.Path, value, mode, user, refused) -> None:
    setting, device = tmp_path / "setting", tmp_path / "device"
    if value is not None:
        setting.write_text(value)
    if mode is not None:
        device.touch()
        device.chmod(mode)
    why = offered.no_userfaultfd(user, str(setting), str(device))
    assert bool(why) is refused
    if refused:
        assert "unprivileged_userfaultfd = 0" in why and str(user) in why


@pytest.mark.parametrize(
    "text, has",
    [
        ("processor\t: 0\nflags\t\t: fpu pku ospke\n\nprocessor\t: 1\n", True),
        ("processor\t: 0\nflags\t\t: fpu ospke\n\nprocessor\t: 1\nflags\t\t: pku\n", False),
        ("processor\t: 0\nflags\t\t: fpu pku2 ospke\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        # What has none is not read to the end, which takes long with many CPUs.
        ("processor\t: 0\n" * 50 + "flags\t\t: pku\n", False),
        (None, False),
    ],
)
def test_whether_the_cpu_has_pku(tmp_path: pathlib.Path, text, has) -> None:
    """The first CPU counts."""
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    assert offered.has_pku(str(path)) is has
