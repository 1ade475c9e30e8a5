# SPDX-License-Identifier: Apache-2.0
"""What nova-compute does not see from its container is no failure of any check."""

from __future__ import annotations

import pathlib
import socket

import pytest

from nova_migcheck.checks.address import AddressCheck
from nova_migcheck.checks.base import Check, Settings
from nova_migcheck.checks.cpu import CpuCheck
from nova_migcheck.checks.storage import StorageCheck
from nova_migcheck.checks.tls import TlsCheck
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import tlsfiles
from nova_migcheck.network import hostsfile

SCHEME, NATIVE = 'live_migration_scheme', 'live_migration_with_native_tls'


@pytest.fixture
def bare(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """No hosts file, nothing of libvirt's and no /etc/pki."""
    monkeypatch.setattr(hostsfile, 'PATH', str(tmp_path / 'hosts'))
    monkeypatch.setattr(libvirtconf, 'QEMU_CONF', str(tmp_path / 'qemu.conf'))
    monkeypatch.setattr(libvirtconf, 'LIBVIRTD_CONF', str(tmp_path / 'libvirtd.conf'))
    monkeypatch.setattr(tlsfiles, '_PKI', str(tmp_path / 'pki'))
    for name in libvirtconf._OF_CONTAINERS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def findings(check: type[Check], **libvirt: object) -> list[Finding]:
    settings = Settings(host=socket.gethostname(), options={'libvirt': libvirt})
    return [result for result in check().run(settings) if isinstance(result, Finding)]


@pytest.mark.parametrize('options', [{SCHEME: 'tls'}, {NATIVE: True}])
def test_certificates_that_only_libvirtd_s_container_has(bare: pathlib.Path, options: dict) -> None:
    found = findings(TlsCheck, **options)
    assert [finding.outcome for finding in found] == [Outcome.UNKNOWN]
    assert 'cannot be read by nova-compute' in found[0].detail


@pytest.mark.parametrize('options', [{SCHEME: 'tls'}, {NATIVE: True}])
@pytest.mark.parametrize('variable', libvirtconf._OF_CONTAINERS)
def test_a_qemu_conf_of_the_image_is_not_libvirtd_s(
        bare: pathlib.Path, monkeypatch: pytest.MonkeyPatch, options: dict, variable: str) -> None:
    (bare / 'qemu.conf').write_text('user = "root"\n')
    # On a host, it is missing.
    assert [finding.outcome for finding in findings(TlsCheck, **options)] == [Outcome.FAILURE]
    monkeypatch.setenv(variable, 'x')
    assert [finding.outcome for finding in findings(TlsCheck, **options)] == [Outcome.UNKNOWN]


def test_no_socket_of_libvirtd(bare: pathlib.Path) -> None:
    pytest.importorskip('libvirt', reason='libvirt-python is not installed')
    found = findings(CpuCheck, connection_uri=f'qemu+unix:///system?socket={bare}/none')
    assert {finding.outcome for finding in found} == {Outcome.UNKNOWN}


@pytest.mark.parametrize('check', [AddressCheck, StorageCheck])
def test_nothing_else_fails_for_what_is_missing(bare: pathlib.Path, check: type[Check]) -> None:
    for finding in findings(check):
        if finding.outcome is Outcome.FAILURE:
            assert str(bare) not in f'{finding.subject} {finding.detail} {finding.origin}', finding
