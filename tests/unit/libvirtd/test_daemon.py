# SPDX-License-Identifier: Apache-2.0
"""Which daemon is there, as files tell it. Processes and ports are in tests/lab/test_modular.py."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from typing import Iterator, Optional

import pytest

from nova_migcheck.checks.base import Settings
from nova_migcheck.checks.tls import TlsCheck
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.libvirtd import configfiles as libvirtconf
from nova_migcheck.libvirtd import daemon as daemons
from nova_migcheck.libvirtd import tlsfiles
from tests.lab import certificates

AUTHORITY = certificates.authority()
GOOD = certificates.issue('node2', ['node2'], AUTHORITY)
EXPIRED = certificates.issue('node2', ['node2'], AUTHORITY, days=-3)
FILES = ('libvirtd.conf', 'virtproxyd.conf')


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host with a qemu.conf, on which nothing runs."""
    for name in ('qemu', 'libvirtd', 'virtproxyd'):
        monkeypatch.setattr(libvirtconf, f'{name.upper()}_CONF', str(tmp_path / f'{name}.conf'))
    for name, path in (('_SOCKETS', 'run'), ('_SOCKET_UNITS', 'units')):
        monkeypatch.setattr(daemons, name, str(tmp_path / path))
        (tmp_path / path).mkdir()
    monkeypatch.setattr(daemons, '_running', lambda: iter(()))
    monkeypatch.setattr(tlsfiles, '_PKI', str(tmp_path / 'pki'))
    for name in libvirtconf._OF_CONTAINERS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'qemu.conf').touch()
    return tmp_path


def names() -> list[str]:
    return [daemon.name for daemon in daemons.of_port(16514)]


def named(host: pathlib.Path, directory: str, own: certificates.Certificate) -> str:
    """Put a certificate into a directory, and return the lines that name it."""
    (host / directory).mkdir()
    for name, text in (('ca', AUTHORITY.pem), ('cert', own.pem), ('key', own.key)):
        (host / directory / name).write_text(text)
    return ''.join(f'{name}_file = "{host / directory / name}"\n' for name in ('ca', 'cert', 'key'))


def findings() -> list[Finding]:
    settings = Settings('node2', {'libvirt': {'live_migration_scheme': 'tls'}})
    return [found for found in TlsCheck().run(settings) if isinstance(found, Finding)]


@pytest.mark.parametrize(
    'files, expected',
    [
        ((), ['libvirtd']),
        (FILES[:1], ['libvirtd']),
        (FILES[1:], ['virtproxyd']),
        (FILES, ['libvirtd', 'virtproxyd']),
    ],
)
def test_files(host: pathlib.Path, files: tuple, expected: list) -> None:
    for name in files:
        (host / name).touch()
    assert names() == expected
    assert daemons.of_guests() == ''


@pytest.mark.parametrize(
    'units, expected',
    [
        (['virtproxyd-tls.socket'], ['virtproxyd']),
        (['libvirtd-tcp.socket'], ['libvirtd']),
        (['libvirtd-tls.socket', 'virtproxyd-tls.socket'], ['libvirtd', 'virtproxyd']),
        # Debian's package switches this one on; it is no port.
        (['libvirtd.socket', 'virtproxyd-tcp.socket'], ['virtproxyd']),
    ],
)
def test_units(host: pathlib.Path, units: list, expected: list) -> None:
    """They go before the files; a link counts wherever it leads."""
    for name in FILES:
        (host / name).touch()
    for unit in units:
        (host / 'units' / unit).symlink_to(f'/lib/systemd/system/{unit}')
    assert names() == expected


@pytest.mark.parametrize(
    'sockets, listens, guests',
    [
        (['libvirt-sock'], 'libvirtd', 'libvirtd'),
        (['libvirt-sock', 'virtqemud-sock'], 'virtproxyd', 'virtqemud'),
    ],
)
def test_sockets(host: pathlib.Path, sockets: list, listens: str, guests: str) -> None:
    """They go before the units."""
    for name in ('libvirtd', 'virtproxyd'):
        (host / 'units' / f'{name}-tls.socket').symlink_to('/none')
    for name in sockets:
        (host / 'run' / name).touch()
    assert names() == [listens]
    assert daemons.of_guests() == guests


def test_no_daemon_and_no_qemu_conf_to_be_seen(host: pathlib.Path) -> None:
    """As in a container: whether clients are verified cannot be told."""
    serving = daemons.of_port(16514)
    assert daemons.verifies_clients(serving) is True
    (host / 'qemu.conf').unlink()
    assert daemons.verifies_clients(serving) is None


@pytest.mark.parametrize(
    'libvirtd, virtproxyd, expected', [(0, 0, True), (1, 1, False), (0, 1, None), (1, 0, None)]
)
def test_clients_where_either_daemon_may_serve(
    host: pathlib.Path, libvirtd: int, virtproxyd: int, expected: object
) -> None:
    for name, value in zip(FILES, (libvirtd, virtproxyd)):
        (host / name).write_text(f'tls_no_verify_certificate = {value}\n')
    assert daemons.verifies_clients(daemons.of_port(16514)) is expected


@pytest.mark.parametrize(
    'certificates_of, outcomes',
    [
        ((GOOD, GOOD), [Outcome.OK, Outcome.OK]),
        ((GOOD, EXPIRED), [Outcome.OK, Outcome.UNKNOWN]),
        ((EXPIRED, EXPIRED), [Outcome.UNKNOWN, Outcome.UNKNOWN]),
    ],
)
def test_two_files_that_differ_fail_nothing(
    host: pathlib.Path, certificates_of: tuple, outcomes: list
) -> None:
    for name, own in zip(FILES, certificates_of):
        (host / name).write_text(named(host, f'of-{name}', own))
    found = findings()
    assert [finding.outcome for finding in found] == outcomes
    for finding in found:
        if finding.outcome is Outcome.UNKNOWN:
            assert 'whether libvirtd or virtproxyd serves port 16514' in finding.detail
            assert 'remove the settings of the one that does not' in finding.remedy


@pytest.mark.parametrize('own, outcome', [(GOOD, Outcome.OK), (EXPIRED, Outcome.FAILURE)])
def test_two_files_that_agree(
    host: pathlib.Path, own: certificates.Certificate, outcome: Outcome
) -> None:
    lines = named(host, 'both', own)
    for name in FILES:
        (host / name).write_text(lines)
    (finding,) = findings()
    assert finding.outcome is outcome and "libvirt's certificate" in finding.detail


@pytest.mark.parametrize('own, outcome', [(GOOD, Outcome.OK), (EXPIRED, Outcome.UNKNOWN)])
def test_a_file_that_cannot_be_read(
    host: pathlib.Path, own: certificates.Certificate, outcome: Outcome
) -> None:
    """It may name another certificate than the one in the default place."""
    (host / 'virtproxyd.conf').mkdir()  # root could read any file
    named(host, 'pki', own)
    for name, path in (
        ('ca', 'CA/cacert.pem'),
        ('cert', 'libvirt/servercert.pem'),
        ('key', 'libvirt/private/serverkey.pem'),
    ):
        (host / 'pki' / path).parent.mkdir(parents=True, exist_ok=True)
        (host / 'pki' / name).rename(host / 'pki' / path)
    (finding,) = findings()
    assert finding.outcome is outcome
    if outcome is Outcome.UNKNOWN:
        assert f'{host}/virtproxyd.conf, which may set other files' in finding.detail
        assert f'let nova-compute read {host}/virtproxyd.conf' in finding.remedy


@pytest.mark.parametrize(
    'name, transport, words',
    [
        ('libvirtd', 'tls', 'libvirtd'),
        ('virtproxyd', 'tls', 'virtproxyd (virtproxyd-tls.socket)'),
        ('virtproxyd', 'tcp', 'virtproxyd (virtproxyd-tcp.socket)'),
        ('', 'tcp', 'libvirtd or virtproxyd'),
        ('virtproxyd', 'ssh', 'sshd'),
    ],
)
def test_what_should_listen(name: str, transport: str, words: str) -> None:
    assert daemons.listening(name, transport) == words


@pytest.mark.parametrize(
    'running, holding, expected, guests',
    [
        ([(1, 'libvirtd')], [], ['libvirtd'], 'libvirtd'),
        ([(1, 'virtqemud')], [], ['virtproxyd'], 'virtqemud'),
        ([(1, 'virtproxyd'), (2, 'virtqemud')], [], ['virtproxyd'], 'virtqemud'),
        ([(1, 'libvirtd'), (2, 'virtproxyd')], [1], ['libvirtd'], ''),
        ([(1, 'libvirtd'), (2, 'virtproxyd')], [2], ['virtproxyd'], ''),
        ([(1, 'libvirtd'), (2, 'virtproxyd')], [], ['libvirtd', 'virtproxyd'], ''),
        ([(1, 'libvirtd'), (2, 'virtqemud')], [2], ['libvirtd', 'virtproxyd'], ''),
    ],
)
def test_processes(
    host: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    running: list,
    holding: list,
    expected: list,
    guests: str,
) -> None:
    """They go before the sockets. Of two, the one that holds the port serves it."""
    (host / 'run' / 'libvirt-sock').touch()
    asked = set()
    monkeypatch.setattr(daemons, '_running', lambda: iter(running))
    monkeypatch.setattr(daemons, '_listens', lambda pid, port: asked.add(port) or pid in holding)
    assert names() == expected and daemons.of_guests() == guests and asked <= {16514}


@pytest.mark.parametrize('port, listens', [('own', True), ('other', False), (None, False)])
def test_whether_a_process_listens(port: object, listens: bool) -> None:
    with (
        socket.create_server(('127.0.0.1', 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        number = {'own': server.getsockname()[1], 'other': client.getsockname()[1]}.get(str(port))
        assert daemons._listens(os.getpid(), number) is listens
    assert daemons._listens(2**30, 1) is False


@pytest.mark.parametrize(
    'arguments, path',
    [
        (['-f', '/a'], '/a'),
        (['--config', '/a'], '/a'),
        (['--config=/a'], '/a'),
        (['-f', 'relative'], None),
        (['-l', '/a'], None),
        (['-l', '-f', '/a'], '/a'),
        (['-f'], None),
        ([], None),
    ],
)
def test_the_file_in_a_command_line(
    host: pathlib.Path, arguments: list, path: Optional[str]
) -> None:
    program = 'print(1, flush=True); import sys; sys.stdin.read()'
    with subprocess.Popen(
        [sys.executable, '-c', program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b'1\n'  # its command line is there
        running = [(2**30, 'libvirtd'), (process.pid, 'libvirtd')]
        assert daemons._conf('libvirtd', running) == (path or str(host / 'libvirtd.conf'))
        assert daemons._conf('virtproxyd', running) == str(host / 'virtproxyd.conf')
        process.communicate()


def test_nothing_is_known_without_a_daemon(host: pathlib.Path) -> None:
    assert daemons.verifies_clients(()) is None and daemons.of_guests() == ''


@pytest.fixture
def readable() -> Iterator[pathlib.Path]:
    """A directory that other users may read, unlike pytest's."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield pathlib.Path(directory)


@pytest.mark.root
@pytest.mark.parametrize(
    'name, user, found',
    [
        ('libvirtd', 0, True),
        ('virtqemud', 0, True),
        ('virtproxyd', 0, True),
        ('virtnothing', 0, False),
        ('virtqemud', 65534, False),
    ],
)
def test_the_daemons_of_this_machine(
    readable: pathlib.Path, name: str, user: int, found: bool
) -> None:
    """By the name of the process, of root, in this network namespace."""
    (readable / name).symlink_to('/bin/cat')
    with subprocess.Popen(
        [readable / name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user
    ) as process:
        process.stdin.write(b'x\n')
        process.stdin.flush()
        assert process.stdout.readline() == b'x\n'
        assert dict(daemons._running()).get(process.pid) == (name if found else None)
        process.communicate()
