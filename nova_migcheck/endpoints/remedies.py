# SPDX-License-Identifier: Apache-2.0
"""Say what the operator can do about a fault."""

from __future__ import annotations

from typing import NamedTuple, Optional

from nova_migcheck.endpoints import probe, tls
from nova_migcheck.endpoints.catalog import LoginFailed
from nova_migcheck.endpoints.values import MESSAGING, Answer, Fault

RESOLVER = 'check /etc/resolv.conf, the nameservers in it and the route to them, and /etc/hosts'
CUT_OFF = 'check this host first: links, bond, VLAN, routes, firewall'
LOSSES = ('check the link of this host to them: ip -s link, ethtool -S, the cable, the switch; a '
          'migration would be slow there, or hang')
CATALOG = ('make keystone reachable from this host; the endpoints in its catalog are then checked, '
           'too')

_VIP = ('it may be a VIP that no host holds, or a stale one: check keepalived and haproxy on the '
        'controllers (kolla: kolla_internal_vip_address, enable_haproxy), or correct the URL')

_OF_FAULT = {
    Fault.NAME: 'correct the name, or add it to the DNS or to /etc/hosts of this host',
    Fault.RESOLVER: RESOLVER,
    Fault.REFUSED: 'nothing listens there: check that the service is running. '
                   f'If the address is right, {_VIP}',
    Fault.UNREACHABLE: f'no host has this address, or there is no route to it; {_VIP}',
    Fault.SILENT: f'a firewall drops the packets, or no host has this address; {_VIP}',
    Fault.NO_ANSWER: 'the service, or the load balancer in front of it, hangs: restart it '
                     '(after a VIP fail-over: haproxy)',
    Fault.CLOSED: 'check the log of the service and of the load balancer, and whether the server '
                  'expects https where the URL says http',
    Fault.STATUS: 'the load balancer has no backend for it, or the service fails: check haproxy, '
                  "and the service's log",
    Fault.PROTOCOL: 'check the port, and that TLS is on at both ends or at neither',
    Fault.INVALID: 'correct the URL',
}


def of(answer: Answer, service: str, from_catalog: bool = False, elsewhere: bool = False) -> str:
    """Return the remedy for one answer.

    :param from_catalog: whether the URL can only be corrected in keystone
    :param elsewhere: whether the same service answers at another address from nova.conf
    """
    catalog = f'openstack endpoint list --service {service}; openstack endpoint set --url'
    fault = answer.fault
    if elsewhere and fault in (Fault.REFUSED, Fault.UNREACHABLE, Fault.SILENT, Fault.NAME):
        where = f'correct the catalog ({catalog})' if from_catalog else 'correct the URL'
        return ('the address looks stale after a re-deploy (kolla: kolla_internal_vip_address): '
                f'{where}')
    if fault is Fault.TLS:
        return _tls(answer.detail)
    if service == MESSAGING and fault in (Fault.REFUSED, Fault.NO_ANSWER, Fault.CLOSED):
        return ('check that RabbitMQ is running there (rabbitmqctl cluster_status), and that '
                'transport_url is right')
    if fault is None:
        return ''
    in_keystone = from_catalog and (fault.of_address or fault is Fault.NAME)
    return f'{_OF_FAULT[fault]} ({catalog})' if in_keystone else _OF_FAULT[fault]


def _tls(detail: str) -> str:
    if 'not yet valid' in detail or 'expired' in detail:
        return ('renew the certificate (kolla: kolla-ansible certificates, reconfigure), '
                "and check this host's clock")
    if 'another name' in detail:
        return 'use a name that is in the certificate, or issue a certificate for this name'
    if 'unknown CA' in detail:
        return ('add the CA to this host, or set cafile (kolla: openstack_cacert, '
                'kolla_copy_ca_into_containers)')
    if 'cannot be used' in detail:
        return 'correct cafile, certfile or keyfile, or their permissions'
    return 'check that the server expects https, and that both ends have a TLS version in common'


def nameservers() -> str:
    """Return the nameservers of /etc/resolv.conf, as the origin of a finding."""
    try:
        with open('/etc/resolv.conf', encoding='utf-8', errors='replace') as lines:
            words = [line.split() for line in lines if line.startswith('nameserver')]
    except OSError:
        return ''
    servers = ', '.join(line[1] for line in words if len(line) > 1)
    return f'/etc/resolv.conf nameserver {servers}' if servers else '/etc/resolv.conf'


class LoginDiagnosis(NamedTuple):
    """Hold what is wrong with a login, and its remedy."""

    text: str
    remedy: str


class Unreached(Exception):
    """Report that an earlier round could not reach keystone. The first argument says why."""


def diagnose_login(error: Exception, identity_answers: bool) -> Optional[LoginDiagnosis]:
    """Return what a failed login means.

    Return None if keystone could not be reached: that is another finding.

    :param identity_answers: whether its auth_url was probed without fault
    """
    if isinstance(error, LoginFailed):
        return LoginDiagnosis(str(error), error.remedy)
    if isinstance(error, Unreached):
        return None
    fault, detail = probe.classify(error, 0)
    if not identity_answers or fault in (Fault.NO_ANSWER, Fault.SILENT, Fault.CLOSED):
        return None
    names = {type(e).__name__ for e in tls.causes(error)}
    if 'DiscoveryFailure' in names:
        return LoginDiagnosis(
            'keystone cannot be found at its auth_url: the server there is no identity service',
            'correct auth_url (it ends in :5000 or /v3 in most clouds)')
    if fault.of_address or fault in (Fault.NAME, Fault.TLS):
        return LoginDiagnosis(
            f'auth_url answers, but the URL in its version document {fault.value} ({detail})',
            "correct keystone's public_endpoint, or let auth_url end in /v3")
    return None


def unreachable(error: Exception, seconds: float) -> str:
    """Return why keystone could not be reached.

    :param seconds: the longest wait for an answer
    """
    if isinstance(error, Unreached):
        return str(error.args[0])
    fault, detail = probe.classify(error, seconds)
    return detail if fault is Fault.INVALID else f'keystone {fault.value}'
