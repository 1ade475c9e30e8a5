# SPDX-License-Identifier: Apache-2.0
"""What the target cannot reach of the control plane."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from typing import Callable, Optional

from tests.lab import certificates
from tests.lab.cloud import STATE
from tests.lab.cloud.configuration import BROKERS, PORTS, VIP
from tests.lab.cloud.faults import REFUSE, TARGET, Fault, firewall, open_firewall
from tests.lab.cloud.service import until

# Namespaces have no wall clock of their own. Python asks this for the time; libfaketime breaks its sleep.
_CLOCK = """
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += 120;
    return failed;
}
"""


class _Blocked(Fault):
    """Something in the way of what the target asks for."""

    rule = f'ip daddr {VIP}'
    verdict = 'drop'

    def set(self) -> None:
        firewall(self.target.host, 'out', self.rule, self.verdict)

    def clear(self) -> None:
        open_firewall(self.target.host)


class E1(_Blocked):
    """The virtual address of the internal endpoints refuses."""

    names = (VIP, r'refused', r'nova\.conf|catalog')
    rule, verdict = f'ip daddr {VIP} tcp dport 1-65535', REFUSE


class E2(_Blocked):
    """The virtual address of the internal endpoints swallows packets."""

    names = (VIP, r'\d s')


class E3(_Blocked):
    """placement cannot be reached, whose URL is in keystone's catalog only."""

    names = (f'http://{VIP}:8778', 'catalog', 'placement', 'internal', 'RegionOne')
    rule, verdict = f'tcp dport {PORTS["placement"]}', REFUSE


class E4(Fault):
    """The name of an endpoint does not resolve."""

    names = (r'nowhere\.lab',)
    restarted = ('target',)

    def set(self) -> None:
        self.configure(self.target, {'neutron': {'endpoint_override': 'http://nowhere.lab:9696'}})

    def clear(self) -> None:
        self.configure(self.target, {})


class _Stand:
    """Something that listens on the virtual address and treats each connection in one way."""

    def __init__(self, port: int, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server((VIP, port), backlog=64)
        self._serve = serve
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()


class _Replaced(Fault):
    """Behind an endpoint's address stands something else, for the target only."""

    port = PORTS['placement']
    _stand: Optional[_Stand] = None

    def serve(self, connection: socket.socket) -> None:
        """What it does with a connection."""

    def set(self) -> None:
        stand = 18000
        self._stand = _Stand(stand, self.serve)
        self.target.host.run('nft', '-f', '-', text=f"""
            table ip lab {{
              chain output {{
                type nat hook output priority -100;
                ip daddr {VIP} tcp dport {self.port} dnat to {VIP}:{stand}
              }}
            }}""")

    def clear(self) -> None:
        self.target.host.run('nft', 'delete', 'table', 'ip', 'lab')
        assert self._stand is not None
        self._stand.close()


class E5(_Replaced):
    """An endpoint's TLS certificate has expired."""

    names = ('expired', r'20\d\d-\d\d-\d\d')
    restarted = ('target',)
    port = 9443

    def set(self) -> None:
        by = certificates.authority()
        expired = certificates.issue(VIP, [VIP], by, days=-3)
        files = STATE / 'tls'
        files.mkdir(exist_ok=True)
        (files / 'ca.pem').write_text(by.pem)
        (files / 'server.pem').write_text(expired.pem + expired.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files / 'server.pem')
        super().set()
        self.configure(self.target, {'neutron': {'endpoint_override': f'https://{VIP}:{self.port}', 'cafile': str(files / 'ca.pem')}})

    def serve(self, connection: socket.socket) -> None:
        self._context.wrap_socket(connection, server_side=True).recv(1)

    def clear(self) -> None:
        super().clear()
        self.configure(self.target, {})


class E6(_Replaced):
    """The load balancer answers 503: it has no backend."""

    names = ('503',)

    def serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b'HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        connection.close()


class E7(_Replaced):
    """An endpoint accepts and never answers."""

    names = (r'\d s',)

    def serve(self, connection: socket.socket) -> None:
        while connection.recv(65536):
            pass


class E8(_Blocked):
    """None of the message queue's hosts can be reached from the target."""

    names = tuple(broker.replace('.', r'\.') for broker in BROKERS)
    rule = 'tcp dport 5672'
    silent = True

    def set(self) -> None:
        super().set()
        # Until then Nova takes it for well, and waits 60 s for the answer of a host that hears nothing.
        until(120, f'{TARGET} counts as down', lambda: self.cloud.control.database.query(
            f"select count(*) from nova_cell1.services where host='{TARGET}' and `binary`='nova-compute'"
            ' and last_seen_up < utc_timestamp() - interval 31 second').strip() == '1', 1)


class E10(Fault):
    """The target's clock is off by two minutes."""

    names = ('clock', r'1[12]\d\.\d s ahead', VIP)
    restarted = ('target',)
    _library = STATE / 'clock.so'

    def set(self) -> None:
        subprocess.run(['gcc', '-shared', '-fPIC', '-x', 'c', '-o', str(self._library), '-'], input=_CLOCK, text=True, check=True)
        self.target.compute.environment['LD_PRELOAD'] = str(self._library)

    def clear(self) -> None:
        del self.target.compute.environment['LD_PRELOAD']


class E9(_Blocked):
    """All endpoints but keystone are on one dead address: one finding lists them."""

    names = (VIP, 'placement', 'neutron|network')
    rule, verdict = f'ip daddr {VIP} tcp dport != {PORTS["identity"]}', REFUSE
