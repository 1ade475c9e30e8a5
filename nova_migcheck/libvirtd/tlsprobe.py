# SPDX-License-Identifier: Apache-2.0
"""A TLS handshake with a target's daemon, as libvirt on this host would do it."""

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
from nova_migcheck.network.probe import Reach, Service, connected

# X509_V_ERR_… of openssl/x509_vfy.h on which OpenSSL and GnuTLS, which libvirt uses, agree: dates, unknown authority, wrong name
_CERTAIN = {*certificates.DATES, *certificates.NAMES, 18, 19, 20, 21}


async def tls(address: IPAddress, port: int, deadline: float, name: str, files: tlsfiles.TlsFiles, verify: bool = True) -> Service:
    """Shake hands as libvirt would.

    :param name: by which the URI knows the target
    :param files: this host's; what nova-compute may not read is left out, and the answer is then less sure
    """
    async with connected(address, port, deadline) as (probe, sock):
        if probe.reach is not Reach.OPEN:
            return Service(probe, probe.detail)
        problem, unsure = await asyncio.to_thread(_shake, sock, deadline, name, files, verify)
        return Service(probe, problem, unsure)


def _shake(sock: socket.socket, deadline: float, name: str, files: tlsfiles.TlsFiles, verify: bool) -> tuple[str, bool]:
    context = certificates.unverifying_context()
    if verify and os.access(files.authority, os.R_OK):
        try:
            context.load_verify_locations(files.authority)
            context.check_hostname, context.verify_mode = True, ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError):
            pass  # said where the files are looked at
    presented = False
    with contextlib.suppress(OSError, ssl.SSLError):
        context.load_cert_chain(files.certificate, files.key)
        presented = True
    peer = sock.getpeername()
    try:
        sock.settimeout(max(0.05, deadline - time.monotonic()))
        with context.wrap_socket(sock, server_hostname=name) as secured:
            return _welcome(secured, name, context, verify, presented)
    except ssl.SSLCertVerificationError as e:
        seen = _certificate(peer, deadline)
        if seen is not None and e.verify_code in certificates.NAMES and certificates.matches(seen, name):
            return '', True
        told = f'; it is for {", ".join(certificates.names(seen))}, {certificates.outdated(seen) or "its dates are good"}' if seen else ''
        return f'its certificate is refused: {e.verify_message}{told}', e.verify_code not in _CERTAIN
    except socket.timeout:
        return 'it accepts connections but does not answer the TLS handshake', False
    except (OSError, ValueError) as e:
        return f'the TLS handshake fails: {getattr(e, "reason", None) or e}', False


def _welcome(secured: ssl.SSLSocket, name: str, context: ssl.SSLContext, verify: bool, presented: bool) -> tuple[str, bool]:
    """Read the daemon's answer.

    It sends one byte, 1, when it has accepted the client's certificate
    (virNetServerClientCheckAccess).
    """
    if verify and context.verify_mode is ssl.CERT_NONE:
        wrong = _look(secured.getpeercert(True), name)
        if wrong:
            return wrong, False
    try:
        accepted = secured.recv(1) == b'\1'
    except OSError:
        accepted = False
    if accepted or not presented:
        return '', not accepted
    return "it refuses this host's client certificate", False


def _look(der: Optional[bytes], name: str) -> str:
    """Dates and names of a certificate whose authority is not known here."""
    from cryptography import x509
    if not der:
        return ''
    certificate = x509.load_der_x509_certificate(der)
    wrong = certificates.outdated(certificate)
    if wrong:
        return f'its certificate {wrong}'
    if certificates.matches(certificate, name):
        return ''
    return f'its certificate is for {", ".join(certificates.names(certificate))}, not for {name}'


def _certificate(peer: Any, deadline: float) -> Optional[Any]:
    """What the other end presents, unverified, to say what is wrong with it."""
    try:
        host, port = peer[:2]
        return certificates.fetch(host, port, max(0.05, deadline - time.monotonic()))
    except (OSError, ValueError):
        return None
