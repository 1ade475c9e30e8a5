# SPDX-License-Identifier: Apache-2.0
"""Faults of the way to a target: a guest does not get there, or strays, and a check had said so."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from typing import Any, Callable

import pytest

from tests.lab import certificates, libvirtd
from tests.lab.asked_pair import SASL, Cloud, Sshd, clients, password_of
from tests.lab.rehearsal_stage import Stage
from tests.lab.two_hosts import HOSTS

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]

AUTHORITY = certificates.authority()


@dataclasses.dataclass
class Fault:
    """A fault.

    :param code: of the finding that foresees it
    :param play: sets it up, while the stage is there
    :param options: of the target's libvirtd
    :param lines: of ``[libvirt]`` on the source
    :param strays: whether the guest arrives, over another interface
    """

    code: str
    play: Callable[[Cloud, contextlib.ExitStack], Any] = lambda cloud, cleanup: None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: tuple[str, ...] = ()
    strays: bool = False


def _lines(*lines: str) -> Callable[[Cloud, contextlib.ExitStack], None]:
    """Write these into the source's hosts file in place of the target's line."""
    return lambda cloud, cleanup: cloud.hosts.source.hosts.write(*HOSTS[:-1], *lines)


def _source(*commands: str) -> Callable[[Cloud, contextlib.ExitStack], None]:
    return lambda cloud, cleanup: cloud.hosts.source.ip(*commands)


def _dropped(rule: str) -> Callable[[Cloud, contextlib.ExitStack], None]:
    return lambda cloud, cleanup: cloud.hosts.target.drop(rule)


def _small_frames_only(cloud: Cloud, cleanup: contextlib.ExitStack) -> None:
    for host in (cloud.hosts.source, cloud.hosts.target):
        host.ip('link set mig0 mtu 9000 gso_max_segs 1')
    cloud.hosts.target.drop('iifname "mig0" meta length > 1500')


def _unknown_host_key(cloud: Cloud, cleanup: contextlib.ExitStack) -> None:
    assert cloud.target is not None
    cleanup.enter_context(Sshd(cloud, cloud.target)).trust()


def _certificates(client: bool) -> Callable[[Cloud, contextlib.ExitStack], None]:
    def play(cloud: Cloud, cleanup: contextlib.ExitStack) -> None:
        host = cloud.hosts.source
        host.write('/etc/pki/CA/cacert.pem', AUTHORITY.pem)
        # A libvirt that nova-compute can see: so a file that is missing is missing.
        host.write('/etc/libvirt/qemu.conf', '')
        if client:
            own = certificates.issue('node1', by=AUTHORITY)
            host.write('/etc/pki/libvirt/clientcert.pem', own.pem)
            host.write('/etc/pki/libvirt/private/clientkey.pem', own.key, '600')
    return play


def _tls(*conf: str) -> dict[str, Any]:
    return {'conf': '\n'.join(['listen_tls = 1', 'auth_tls = "none"', *conf, ''])}


TLS = ('live_migration_scheme = tls',)
SSH = ('live_migration_scheme = ssh',)

FAULTS = {
    'T1': Fault('transport-libvirt-silent', _dropped('tcp dport 16509')),
    'T2': Fault('transport-qemu-filtered', _dropped('tcp dport 49152-49215')),
    'T3': Fault('transport-missing', _certificates(False), _tls(), TLS),
    'L1': Fault(
        'transport-login-refused', lambda cloud, _: password_of(cloud, 'wrong', 'node2-mig'), SASL
    ),
    'L1 no mechanism': Fault('transport-login', options={'mechanisms': 'gssapi'}),
    'L2': Fault('transport-login-refused', _unknown_host_key, lines=SSH),
    'L3': Fault(
        'transport-libvirt-silent',
        _certificates(True),
        _tls('tls_allowed_dn_list = ["CN=other"]'),
        TLS,
    ),
    'L4': Fault(
        'transport-libvirt-silent',
        lambda cloud, cleanup: cleanup.enter_context(clients(cloud, 7)),
        {'conf': 'max_clients = 6\nmax_anonymous_clients = 6\n'},
    ),
    'L5': Fault('transport-path-mtu', _small_frames_only),
    'A1': Fault('transport-wrong-interface', _lines('10.66.0.12 node2-mig'), strays=True),
    'A2': Fault('transport-libvirt-silent', _lines('10.77.0.77 node2-mig')),
    'A3': Fault(
        'transport-hosts-conflict',
        _lines('10.66.0.12 node2-mig', '10.77.0.12 node2-mig'),
        strays=True,
    ),
    'A5': Fault('transport-loopback', _lines('127.0.1.1 node2-mig')),
    'A6': Fault('transport-unresolved', _lines()),
    'A7': Fault(
        'transport-wrong-interface',
        _source('route add 10.77.0.12/32 dev mgmt0 src 10.66.0.11'),
        strays=True,
    ),
}


@pytest.mark.parametrize('name', FAULTS)
def test_it_fails_as_foreseen(cloud: Cloud, tmp_path: pathlib.Path, name: str) -> None:
    fault = FAULTS[name]
    if name in ('T3', 'L3'):
        server = certificates.issue('node2', ['node2-mig', '10.77.0.12'], by=AUTHORITY)
        cloud.hosts.target.write('/etc/pki/CA/cacert.pem', AUTHORITY.pem)
        cloud.hosts.target.write('/etc/pki/libvirt/servercert.pem', server.pem)
        cloud.hosts.target.write('/etc/pki/libvirt/private/serverkey.pem', server.key, '600')
    target = cloud.listen(**fault.options)
    stage = Stage(cloud.hosts, cloud.source, target, tmp_path)
    stage.configure(*fault.lines)
    with contextlib.ExitStack() as cleanup:
        fault.play(cloud, cleanup)
        ended, said = stage.rehearse(
            *('--connect', 'node2-mig', '--deadline', '10'),
            # Enough to tell it from other traffic.
            *(('--memory', '32') if fault.strays else ()),
        )
    assert ended == 1 and said['agrees'], said
    assert fault.code in {one['code'] for one in said['foreseen'] if one['outcome'] == 'failure'}
    if fault.strays:
        assert said['arrived'] and said['strayed']
    else:
        assert not said['arrived'] and said['error']
    # Filtered ports hold up libvirt itself for two minutes.
    cloud.hosts.target.run('nft', 'flush', 'ruleset')
    stage.wait_until_empty()


def test_it_arrives_beside_all_that(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    """With a login, and jumbo frames all the way."""
    for host in (cloud.hosts.source, cloud.hosts.target):
        host.ip('link set mig0 mtu 9000 gso_max_segs 1')
    password_of(cloud, 'good', 'node2-mig')
    stage = Stage(cloud.hosts, cloud.source, cloud.listen(**SASL), tmp_path)
    ended, said = stage.rehearse('--connect', 'node2-mig', '--memory', '32')
    assert ended == 0 and said['agrees'] and said['foreseen'] == [], said
    assert stage.guests == []
