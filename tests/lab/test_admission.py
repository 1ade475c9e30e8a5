# SPDX-License-Identifier: Apache-2.0
"""Real libvirtd that let nobody in: by the name in a certificate (L3), or because it is full (L4)."""

from __future__ import annotations

from typing import Any

import pytest

from nova_migcheck.deadline import Call
from nova_migcheck.finding import Outcome
from tests.lab import certificates, libvirtd
from tests.lab.asked_pair import SASL, Cloud, clients, password_of
from tests.lab.namespaces import Namespace

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]

# L3.

AUTHORITY = certificates.authority()
CLIENT = certificates.issue('node1', by=AUTHORITY, organization='lab')
FOREIGN = certificates.issue(
    'node1', by=certificates.authority('Other CA'), organization='lab'
)
SERVER = certificates.issue('node2', ['node2', '10.66.0.12'], by=AUTHORITY)
TLS: Any = {'live_migration_scheme': 'tls'}
TLS_URI = 'qemu+tls://10.66.0.12/system'


def _install(host: Namespace, role: str, certificate: certificates.Certificate) -> None:
    host.write('/etc/pki/CA/cacert.pem', AUTHORITY.pem)
    host.write(f'/etc/pki/libvirt/{role}cert.pem', certificate.pem)
    host.write(f'/etc/pki/libvirt/private/{role}key.pem', certificate.key, '600')


def _listen(cloud: Cloud, *allowed: str, client: certificates.Certificate = CLIENT) -> None:
    """Start a target that lets only these names in; any with a good certificate if there are none.
    """
    _install(cloud.hosts.source, 'client', client)
    _install(cloud.hosts.target, 'server', SERVER)
    names = ', '.join(f'"{name}"' for name in allowed)
    cloud.listen(
        conf='listen_tls = 1\nauth_tls = "none"\n'
        + (f'tls_allowed_dn_list = [{names}]\n' if allowed else '')
    )
    cloud.start()


@pytest.mark.parametrize('allowed', [(), ('O=lab,CN=node1',), ('O=lab,CN=node9', 'O=lab,CN=*')])
def test_a_name_that_is_allowed(cloud: Cloud, allowed: tuple[str, ...]) -> None:
    _listen(cloud, *allowed)
    (fine,) = cloud.ask(**TLS)
    assert fine.outcome is Outcome.OK and 'accepts the guest' in fine.detail
    assert not cloud.migrate(TLS_URI)


@pytest.mark.parametrize('allowed', ['CN=node1,O=lab', 'O=lab,CN=node9', 'CN=node1'])
def test_a_name_that_is_not_allowed(cloud: Cloud, allowed: str) -> None:
    """The order counts: OpenSSL writes it the other way round than libvirt."""
    _listen(cloud, allowed)
    (failure,) = cloud.ask(**TLS)
    assert (failure.outcome, failure.code) == (Outcome.FAILURE, 'transport-libvirt-silent')
    assert "refuses this host's client certificate, O=lab,CN=node1" in failure.detail
    assert 'tls_allowed_dn_list' in failure.remedy and '"O=lab,CN=node1"' in failure.remedy
    assert cloud.migrate(TLS_URI)


def test_an_authority_that_the_target_does_not_know(cloud: Cloud) -> None:
    _listen(cloud, client=FOREIGN)
    failures = [one for one in cloud.ask(**TLS) if one.outcome is Outcome.FAILURE]
    assert failures and cloud.migrate(TLS_URI)


# L4.

LIMITS: list[tuple[dict[str, Any], int]] = [
    ({'conf': 'max_clients = 6\nmax_anonymous_clients = 6\n'}, 5),
    # Those who have not logged in yet count apart.
    ({**SASL, 'conf': 'max_clients = 20\nmax_anonymous_clients = 3\n'}, 2),
]


@pytest.mark.parametrize('options, most', LIMITS)
def test_one_place_is_left(cloud: Cloud, options: dict[str, Any], most: int) -> None:
    password_of(cloud, 'good')
    cloud.listen(**options)
    cloud.start()
    with clients(cloud, most):
        (fine,) = cloud.ask()
        assert fine.outcome is Outcome.OK and not cloud.migrate()


@pytest.mark.parametrize('options, most', LIMITS)
def test_no_place_is_left(cloud: Cloud, options: dict[str, Any], most: int) -> None:
    """libvirt says nothing then, and a migration waits as long as there is none."""
    password_of(cloud, 'good')
    cloud.listen(**options)
    cloud.start()
    with clients(cloud, most + 1):
        (failure,) = cloud.ask()
        assert (failure.outcome, failure.code) == (Outcome.FAILURE, 'transport-libvirt-silent')
        assert 'accepts connections but does not answer' in failure.detail
        assert 'max_clients' in failure.remedy and 'max_anonymous_clients' in failure.remedy
        migration = Call(cloud.migrate)
        with pytest.raises(TimeoutError):
            migration.wait(3.0)
    assert migration.wait(60) == ''
