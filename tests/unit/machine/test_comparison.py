# SPDX-License-Identifier: Apache-2.0
"""Rows M1 to M11 of the fault table, as far as two documents show them, and their healthy neighbours."""

from __future__ import annotations

from typing import Any

import pytest

from nova_migcheck.machine import comparison

NEEDS = {
    "arch": "x86_64",
    "type": "pc-i440fx-7.2",
    "emulator": "/usr/bin/qemu-system-x86_64",
    "devices": "bus=virtio graphics=vnc video=cirrus tpm-version=2.0",
}
OFFERS = {
    "qemu": "9.2.0",
    "libvirt": "10.7.0",
    "kernel": "6.1.0-18-amd64",
    "cgroup": 2,
    "machine_types": {"x86_64": "pc pc-i440fx-7.2 pc-q35-7.2", "i686": "pc"},
    "emulators": "/usr/bin/qemu-system-x86_64",
    "no_emulators": "/usr/libexec/qemu-kvm /usr/bin/kvm",
    "devices": {
        "pc-i440fx": {
            "bus": "virtio ide",
            "graphics": "vnc",
            "video": "vga cirrus",
        },
        "pc-q35": {"bus": "virtio", "video": "vga"},
    },
}


def codes(needs: dict[str, Any], offers: dict[str, Any]) -> list[str]:
    return [one.code for one in comparison.compare({**NEEDS, **needs}, {**OFFERS, **offers})]


@pytest.mark.parametrize(
    "needs, offers",
    [
        ({}, {}),
        ({"type": "pc"}, {}),
        ({}, {"machine_types": {}}),
        ({}, {"machine_types": {"aarch64": "virt"}}),  # M1: alias; nothing is listed
        ({"emulator": "/opt/qemu"}, {}),
        ({"emulator": "/usr/bin/kvm"}, {"no_emulators": ""}),
        ({"emulator": ""}, {}),  # M2: nobody asked
        ({}, {"devices": {}}),
        ({"devices": "tpm=tpm-crb"}, {}),  # M4: a list that is not there
        ({"devices": "loader=/fw/CODE.fd secure=yes"}, {}),
        (
            {"devices": "loader=/fw/CODE.fd secure=yes tpm-version=2.0"},
            {"devices": {"pc-i440fx": {"loader": "/fw/CODE.fd /fw/MORE.fd", "secure": "yes no",
                                       "tpm-version": "1.2 2.0"}}},
        ),
        ({"type": "pc-q35-7.2", "devices": "bus=virtio"}, {}),
        ({"cores": 2}, {}),
        ({"cores": 2}, {"qemu": "10.0.0", "libvirt": "11.10.0"}),
        ({}, {"qemu": "10.0.0"}),  # M8
        ({"cores": 2, "arch": "aarch64"}, {"qemu": "10.0.0"}),
        ({"cores": 2}, {"qemu": "10.0.0", "libvirt": ""}),
        ({"uso": "6.8.0"}, {"kernel": "6.2.0"}),
        ({"uso": "6.8.0"}, {"kernel": ""}),
        *(({"pku": "5.4.0-150-generic"}, {"kernel": kernel})  # M9: both before, or mended
          for kernel in ("5.4.0-150-generic", "5.14.0-427.el9", "6.1.0-18-amd64", "6.1.64",
                         "6.6.0", "6.8.0-31", "")),
        ({}, {"kernel": "5.15.0-94-generic"}),
        ({"bound": ["hostdev usb"]}, {}),  # M5, of a later version of ours
    ],
)  # M10
def test_healthy(needs, offers) -> None:
    assert codes(needs, offers) == []


def test_a_host_that_tells_nothing() -> None:
    assert list(comparison.compare({**NEEDS, "cores": 2, "uso": "6.8"}, {})) == []


@pytest.mark.parametrize(
    "needs, offers, code, names",
    [
        ({"type": "pc-i440fx-9.9"}, {}, "machine-type-missing", ["pc-i440fx-9.9", "QEMU 9.2.0"]),
        (
            {"emulator": "/usr/libexec/qemu-kvm"},
            {},
            "machine-emulator-missing",
            ["/usr/libexec/qemu-kvm", "/usr/bin/qemu-system-x86_64"],
        ),
        (
            {"devices": "video=qxl graphics=spice"},
            {},
            "machine-device-missing",
            ["video qxl, graphics spice", "QEMU 9.2.0"],
        ),
        (
            {"devices": "bus=ide", "type": "pc-q35-7.2"},
            {},
            "machine-device-missing",
            ["bus ide"],
        ),
        (
            {"devices": "tpm=tpm-crb"},
            {"devices": {"pc-i440fx": {"tpm": ""}}},
            "machine-device-missing",
            ["TPM tpm-crb"],
        ),
        *(
            (
                {"devices": device},
                {"devices": {"pc-i440fx": offers}},
                "machine-device-missing",
                [said],
            )
            for device, offers, said in (
                ("loader=/fw/CODE.fd", {"loader": "/fw/MORE.fd"}, "loader /fw/CODE.fd"),
                ("secure=yes", {"secure": "no"}, "secure boot yes"),
                ("tpm-version=2.0", {"tpm-version": "1.2"}, "TPM version 2.0"),
                ("tpm-backend=emulator", {"tpm-backend": "passthrough"}, "TPM backend emulator"),
                ("graphics=spice", {"graphics": "vnc"}, "graphics spice"),
                ("filesystem=virtiofs", {"filesystem": "path"}, "filesystem virtiofs"),
            )
        ),
        (
            {"cores": 4},
            {"qemu": "10.0.2", "libvirt": "11.3.0"},
            "machine-ht",
            ["ht", "10.0.2", "11.3.0", "4 CPUs"],
        ),
        ({"fixed": ["interface vhu1"]}, {}, "machine-fixed", ["interface vhu1", "vhost-user"]),
        ({"bound": ["hostdev scsi_host"]}, {}, "machine-fixed", ["hostdev scsi_host"]),
        (
            {"bound": ["filesystem virtiofs"]},
            {"libvirt": "9.0.0"},
            "machine-fixed",
            ["filesystem virtiofs", "virtiofsd"],
        ),
    ],
)
def test_refused(needs, offers, code, names) -> None:
    (misfit,) = comparison.compare({**NEEDS, **needs}, {**OFFERS, **offers})
    assert misfit.code == code and not misfit.warning and misfit.remedy and misfit.origin
    for name in names:
        assert name in misfit.detail


def test_an_offload_is_a_warning() -> None:
    """Distributions backport."""
    (misfit,) = comparison.compare({**NEEDS, "uso": "6.8.0-31"}, OFFERS)
    assert (
        misfit.warning
        and misfit.code == "machine-offload"
        and "6.8.0-31" in misfit.detail
        and "6.1.0-18-amd64" in misfit.detail
    )


@pytest.mark.parametrize("kernel", ["5.15.0-94-generic", "5.17.0", "6.2.0-39-generic", "6.5.3"])
def test_m9_pku_is_a_warning(kernel: str) -> None:
    """Row M9: both kernels are named. Distributions backport."""
    needs = {**NEEDS, "pku": "5.4.0-150-generic"}
    (misfit,) = comparison.compare(needs, {**OFFERS, "kernel": kernel})
    assert misfit.code == "machine-pku" and misfit.warning
    for name in ("pku", "5.4.0-150-generic", kernel):
        assert name in misfit.detail


@pytest.mark.parametrize(
    "device, libvirt",
    [("filesystem 9p", "9.0.0"), ("filesystem virtiofs", "11.3.0"), ("filesystem virtiofs", "")],
)
def test_m5_a_filesystem_that_may_be_migrated_is_a_warning(device: str, libvirt: str) -> None:
    """9p only while it is mounted, virtiofs where virtiofsd can."""
    (misfit,) = comparison.compare({**NEEDS, "bound": [device]}, {**OFFERS, "libvirt": libvirt})
    assert misfit.code == "machine-fixed" and misfit.warning and device in misfit.detail


def test_post_copy() -> None:
    permits, cannot = (
        {"post_copy": True},
        {"no_userfaultfd": "vm.unprivileged_userfaultfd = 0, and QEMU runs as user 64055"},
    )
    (misfit,) = comparison.between(permits, cannot)
    assert misfit.code == "machine-post-copy" and cannot["no_userfaultfd"] in misfit.detail
    for source, target in (({}, cannot), (permits, {}), (cannot, permits)):
        assert list(comparison.between(source, target)) == []


@pytest.mark.parametrize(
    "jobs, mtus, networks, shares, cgroup, code",
    [
        ({"vda": "copy"}, {}, {}, 0, 2, "machine-block-job"),
        ({}, {"m": 1450}, {"m": 1500}, 0, 2, "machine-mtu"),
        ({}, {}, {}, 10_001, 2, "machine-shares"),
        ({}, {"m": 1450}, {"m": 1450}, 10_000, 2, None),
        ({}, {"m": 1450}, {}, 10_001, 1, None),
        ({}, {}, {"m": 9000}, 0, 2, None),
    ],
)
def test_leaves(jobs, mtus, networks, shares, cgroup, code) -> None:
    found = [
        one.code for one in comparison.leaves(jobs, mtus, networks, shares, {"cgroup": cgroup})
    ]
    assert found == ([code] if code else [])
