# SPDX-License-Identifier: Apache-2.0
"""Make a TLS handshake with a target's daemon, as libvirt on this host would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from typing import Any, Optional

from nova_migcheck import certificates
from nova_migcheck.libvirtd import tlsfiles
from nova_migcheck.network.interfaces import IPAddress
from nova_migcheck.network.probe import FULL, Reach, Service, connected

# Errors in which OpenSSL agrees with GnuTLS, which libvirt uses: dates, names, unknown authority.
_CERTAIN = {*certificates.DATES, *certificates.NAMES, 18, 19, 20, 21}


async def tls(address: IPAddress, port: int, deadline: float, name: str, files: tlsfiles.TlsFiles,
              verify: bool = True) -> Service:
    """Make a TLS handshake as libvirt would.

    :param name: the target's name in the URI
    :param files: this host's files. Those that nova-compute cannot read are left out, and the
        result is then less sure.
    """
    async with connected(address, port, deadline) as (probe, sock):
        if probe.reach is not Reach.OPEN:
            return Service(probe, probe.detail)
        problem, unsure, remedy = await asyncio.to_thread(
            _shake, sock, deadline, name, files, verify)
        return Service(probe, problem, unsure, remedy=remedy)


def _shake(sock: socket.socket, deadline: float, name: str, files: tlsfiles.TlsFiles,
           verify: bool) -> tuple[str, bool, str]:
    """Return the problem ('' for none), whether libvirt may get another result, and a remedy."""
    context = certificates.unverifying_context()
    if verify and os.access(files.authority, os.R_OK):
        try:
            context.load_verify_locations(files.authority)
            context.check_hostname, context.verify_mode = True, ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError):
            pass  # the check of the files reports it
    presented = False
    with contextlib.suppress(OSError, ssl.SSLError):
        context.load_cert_chain(files.certificate, files.key)
        presented = True
    peer = sock.getpeername()
    try:
        sock.settimeout(_left(deadline))
        with context.wrap_socket(sock, server_hostname=name) as secured:
            return _welcome(secured, name, context, verify, files if presented else None)
    except ssl.SSLCertVerificationError as e:
        return (*_refused(e, peer, deadline, name), '')
    except socket.timeout:
        return 'it accepts connections but does not answer the TLS handshake', False, FULL
    except (OSError, ValueError) as e:
        return f'the TLS handshake fails: {getattr(e, "reason", None) or e}', False, ''


def _refused(error: ssl.SSLCertVerificationError, peer: Any, deadline: float,
             name: str) -> tuple[str, bool]:
    """Return why the target's certificate is refused, and whether libvirt may accept it."""
    problem = f'its certificate is refused: {error.verify_message}'
    unsure = error.verify_code not in _CERTAIN
    host, port = peer[:2]
    try:
        certificate = certificates.fetch(host, port, _left(deadline))
    except (OSError, ValueError):
        return problem, unsure
    if error.verify_code in certificates.NAMES and certificates.matches(certificate, name):
        return '', True
    names = ', '.join(certificates.names(certificate))
    dates = certificates.outdated(certificate) or 'its dates are good'
    return f'{problem}; it is for {names}, {dates}', unsure


def _welcome(secured: ssl.SSLSocket, name: str, context: ssl.SSLContext, verify: bool,
             presented: Optional[tlsfiles.TlsFiles]) -> tuple[str, bool, str]:
    """Read the daemon's answer.

    It sends one byte, 1, when it has accepted the client's certificate
    (virNetServerClientCheckAccess).
    """
    if verify and context.verify_mode is ssl.CERT_NONE:
        problem = _unverified_problem(secured.getpeercert(True), name)
        if problem:
            return problem, False, ''
    try:
        accepted = secured.recv(1) == b'\1'
    except OSError:
        accepted = False
    if accepted or presented is None:
        return '', not accepted, ''
    subject = certificates.subject(certificates.read(presented.certificate)[0])
    return (f"it refuses this host's client certificate, {subject}", False,
            f'let tls_allowed_dn_list in libvirtd.conf there have "{subject}", in this order, or '
            'remove that option; and see that its cacert.pem has the authority of '
            f'{presented.certificate}')


def _unverified_problem(der: Optional[bytes], name: str) -> str:
    """Return what is wrong with the dates or names of a certificate whose authority is unknown."""
    from cryptography import x509
    if not der:
        return ''
    certificate = x509.load_der_x509_certificate(der)
    outdated = certificates.outdated(certificate)
    if outdated:
        return f'its certificate {outdated}'
    if certificates.matches(certificate, name):
        return ''
    return f'its certificate is for {", ".join(certificates.names(certificate))}, not for {name}'


def _left(deadline: float) -> float:
    return max(0.05, deadline - time.monotonic())
