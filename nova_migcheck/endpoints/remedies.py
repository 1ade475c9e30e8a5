# SPDX-License-Identifier: Apache-2.0
"""What the operator can do, in the operator's words."""

from __future__ import annotations

from typing import NamedTuple, Optional

from nova_migcheck.endpoints import probe, tls
from nova_migcheck.endpoints.catalog import LoginFailed
from nova_migcheck.endpoints.values import MESSAGING, Answer, Fault

RESOLVER = 'look at /etc/resolv.conf, at the nameservers in it and the way to them, and at /etc/hosts'
CUT_OFF = 'look at this host first: links, bond, VLAN, routes, firewall'
CATALOG = 'make keystone answer from this host; what the catalog lists is then asked too'

_VIP = ('is it a VIP that no host holds, or a stale one? Look at keepalived and haproxy on the controllers (kolla: '
        'kolla_internal_vip_address, enable_haproxy), and correct the URL where it is not meant')

_OF_FAULT = {
    Fault.NAME: 'correct the name, or add it to the DNS or to /etc/hosts of this host',
    Fault.RESOLVER: RESOLVER,
    Fault.REFUSED: f'nothing listens there: is the service running? If the address is right, {_VIP}',
    Fault.UNREACHABLE: f'nobody has this address, or there is no route to it: {_VIP}',
    Fault.SILENT: f'a firewall drops, or nobody has this address: {_VIP}',
    Fault.NO_ANSWER: 'the service, or the load balancer before it, hangs: restart it (after a VIP fail-over: haproxy)',
    Fault.CLOSED: 'look at the log of the service and of the load balancer; is it http where https is spoken?',
    Fault.STATUS: 'the load balancer has no backend for it, or the service fails: look at haproxy, and at its log',
    Fault.PROTOCOL: 'is the port right, and TLS on at both ends or at neither?',
    Fault.INVALID: 'correct the URL',
}


def of(answer: Answer, service: str, from_catalog: bool = False, elsewhere: bool = False) -> str:
    """The remedy for one answer.

    :param from_catalog: the URL can only be corrected in keystone
    :param elsewhere: the same service answers on another address that nova.conf names
    """
    catalog = f'openstack endpoint list --service {service}; openstack endpoint set --url'
    if elsewhere and answer.fault in (Fault.REFUSED, Fault.UNREACHABLE, Fault.SILENT, Fault.NAME):
        return ('the address looks stale after a re-deploy (kolla: kolla_internal_vip_address): '
                + (f'correct the catalog ({catalog})' if from_catalog else 'correct the URL'))
    if answer.fault is Fault.TLS:
        return _tls(answer.detail)
    if service == MESSAGING and answer.fault in (Fault.REFUSED, Fault.NO_ANSWER, Fault.CLOSED):
        return 'is RabbitMQ running there (rabbitmqctl cluster_status), and is transport_url right?'
    if answer.fault is None:
        return ''
    text = _OF_FAULT[answer.fault]
    return f'{text} ({catalog})' if from_catalog and (answer.fault.of_address or answer.fault is Fault.NAME) else text


def _tls(detail: str) -> str:
    if 'not yet valid' in detail or 'expired' in detail:
        return "renew the certificate (kolla: kolla-ansible certificates, reconfigure), and look at this host's clock"
    if 'another name' in detail:
        return 'use a name that the certificate has, or issue one for this name'
    if 'unknown CA' in detail:
        return 'add the CA to this host, or set cafile (kolla: openstack_cacert, kolla_copy_ca_into_containers)'
    if 'cannot be used' in detail:
        return 'correct cafile, certfile or keyfile, and who may read them'
    return 'is it https where http is spoken, and do both ends have a TLS version in common?'


def nameservers() -> str:
    """The nameservers of /etc/resolv.conf, as an origin."""
    try:
        with open('/etc/resolv.conf', encoding='utf-8', errors='replace') as lines:
            found = [line.split()[1] for line in lines if line.startswith('nameserver') and len(line.split()) > 1]
    except OSError:
        return ''
    return f'/etc/resolv.conf nameserver {", ".join(found)}' if found else '/etc/resolv.conf'


class Verdict(NamedTuple):
    text: str
    remedy: str


def login_verdict(error: Exception, identity_answers: bool) -> Optional[Verdict]:
    """What a failed login means, or None when keystone simply could not be asked: that has a finding of its own.

    :param identity_answers: whether the probe of its auth_url went well
    """
    if isinstance(error, LoginFailed):
        return Verdict(str(error), error.remedy)
    fault, detail = probe.classify(error, 0)
    if not identity_answers or fault in (Fault.NO_ANSWER, Fault.SILENT, Fault.CLOSED):
        return None
    names = {type(e).__name__ for e in tls.causes(error)}
    if 'DiscoveryFailure' in names:
        return Verdict('keystone cannot be found at its auth_url: what answers there is no identity service',
                       'correct auth_url (it ends in :5000 or /v3 in most clouds)')
    if fault.of_address or fault in (Fault.NAME, Fault.TLS):
        return Verdict(f'auth_url answers, but the URL in its version document {fault.value} ({detail})',
                       "correct keystone's public_endpoint, or let auth_url end in /v3")
    return None


def login_wait(error: Exception, seconds: float) -> str:
    """Why keystone could not be asked."""
    fault, detail = probe.classify(error, seconds)
    return detail if fault is Fault.INVALID else f'keystone {fault.value}'
