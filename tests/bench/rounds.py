# SPDX-License-Identifier: Apache-2.0
"""One round of checks as nova-compute has it: what the child costs, what its parent pays, and how both grow."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Iterator, Optional

from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck.checks import cpu as cpu_check
from nova_migcheck.checks.attachments import AttachmentsCheck
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.checks.registry import Registry
from nova_migcheck.checks.volumes import VolumesCheck
from nova_migcheck.cpu import Cpu, hypervisor
from nova_migcheck.report import published
from nova_migcheck.report import report as reports
from nova_migcheck.rounds import reader, runner
from tests.bench.measure import Row, in_turns, tell
from tests.facts import BUILT_IN
from tests.lab.libvirtd import Libvirtd

# What runs this as a process of its own; it is __main__ there.
MODULE = 'tests.bench.rounds'
ENDPOINTS = (0, 12, 50)
GUESTS = (1, 50, 500)
TAPS = 2000

_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}'
# With the devices that Nova gives to most guests.
_DOMAIN = """
<domain type='test'><name>instance-{number:08x}</name><uuid>2f0f1c4e-0000-4000-8000-{number:012x}</uuid><memory>65536</memory>
<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>qemu64</model>
<feature policy='require' name='x2apic'/><feature policy='require' name='hypervisor'/></cpu>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='/nova/{number}/disk'/><target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><mac address='fa:16:3e:00:{high:02x}:{low:02x}'/>
<source bridge='br-int'/><target dev='tap{number}'/><model type='virtio'/>
<mtu size='1450'/></interface><serial type='pty'/>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<input type='tablet' bus='usb'/><graphics type='vnc' autoport='yes' listen='0.0.0.0'/>
<video><model type='virtio'/></video><memballoon model='virtio'/>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices></domain>
"""
# The checks that read what a guest needs besides its CPU.
_NEEDING = Registry([MachineCheck, AttachmentsCheck, VolumesCheck])


class Round:
    """Rounds of the checks about a host, in a process without nova."""

    def __init__(self, names: Optional[list[str]] = None, **options: Any) -> None:
        self.conf = cfg.ConfigOpts()
        self.conf([], project='nova', default_config_files=[])
        confs.register(self.conf)
        # As Nova registers them.
        self.conf.register_opts([cfg.StrOpt('connection_uri', default=''), cfg.StrOpt('virt_type', default='qemu')], 'libvirt')
        self.conf.register_opts([cfg.ListOpt('api_servers')], 'glance')
        for name, value in options.items():
            group, _, option = name.partition('__')
            self.conf.set_override(option, value, group)
        loaded = runner.load(names or list(self.conf.migcheck.checks))
        self.loaded = {name: one for name, one in loaded.items() if one.check is not None and one.check.WHEN == 'host'}
        self.runner = runner.Runner(self.loaded)
        self.reader = reader.Reader(self.conf)
        self.memory: dict[str, Any] = {}

    def run(self, times: int) -> tuple[float, float, float]:
        """Medians of: seconds of a round, CPU seconds of its processes, CPU seconds of this one."""
        walls, children, own = [], [], []
        for _ in range(times):
            before, begun, mine = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), time.process_time()
            outcome = self.runner.run({name: self.reader.read(one.check, self.memory.get(name)) for name, one in self.loaded.items()},
                                      self.conf.migcheck.round_deadline)
            self.memory.update(outcome.memory)
            published.write(reports.build(time.time(), outcome.findings, outcome.facts, BUILT_IN))
            own.append(time.process_time() - mine)
            walls.append(time.monotonic() - begun)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            children.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return statistics.median(walls), statistics.median(children), statistics.median(own)


def serve(count: int) -> None:
    """Listen on so many ports, say which, and answer whatever comes with an empty document, until standard input ends."""
    sockets = [socket.create_server(('127.0.0.1', 0), backlog=64) for _ in range(count)]
    print(*(one.getsockname()[1] for one in sockets), flush=True)
    with selectors.DefaultSelector() as selector:
        for one in (*sockets, sys.stdin):
            selector.register(one, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is sys.stdin:
                    return
                connection, _address = key.fileobj.accept()  # type: ignore[union-attr]
                with connection:
                    connection.recv(65536)
                    connection.sendall(_ANSWER)


@contextlib.contextmanager
def healthy(count: int) -> Iterator[list[int]]:
    """Ports at which so many services answer, in a process of their own: their CPU time is not ours."""
    with subprocess.Popen([sys.executable, '-m', MODULE, 'serve', str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout and process.stdin
        ports = [int(port) for port in process.stdout.readline().split()]
        assert len(ports) == count, 'the services do not start'
        yield ports
        process.stdin.close()


@contextlib.contextmanager
def silent(count: int) -> Iterator[list[int]]:
    """Ports at which the kernel accepts and nobody answers."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(('127.0.0.1', 0), backlog=64)).getsockname()[1] for _ in range(count)]


def rows(times: int = 5) -> Iterator[Row]:
    with Libvirtd('compute1') as libvirtd:
        for count in ENDPOINTS:
            for name, ports in (('healthy', healthy), ('silent', silent))[:2 if count else 1]:
                with ports(count) as numbers:
                    told = Round(libvirt__connection_uri=libvirtd.uri, glance__api_servers=[f'http://127.0.0.1:{n}' for n in numbers])
                    told.run(1)
                    wall, child, own = told.run(times if name == 'healthy' else 4)
                what = f'a round, {count} {name} endpoints' if count else 'a round, no endpoints'
                yield Row(f'{what}: wall', wall, 's', None, 'all checks; libvirtd answers' if name == 'healthy' else 'probe_timeout is 5 s')
                # Whether anything answers is not this machine's doing: what is promised is so for a host as it should be.
                gates = (0.5, 5) if name == 'healthy' and count <= 12 else (None, None)
                yield Row(f'{what}: CPU of its processes', child, 's', gates[0])
                yield Row(f'{what}: CPU of nova-compute itself', own * 1000, 'ms', gates[1])
        # A process begins with the pages of the one that started it, which therefore is a small one here.
        yield Row('memory of the largest process of a round', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 'MiB', 80)
        yield from guests(libvirtd)
    yield from taps()


def guests(libvirtd: Libvirtd) -> Iterator[Row]:
    """Reading the guests' CPUs. Five hundred QEMUs cannot be had here: the guests are those of libvirt's own test driver."""
    import libvirt
    real = libvirtd.connect()
    host = hypervisor.host_cpu(real, 'qemu')

    class Connection:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def listAllDomains(self, flags: int) -> Any:
            return guests_of.listAllDomains(flags)

    with tempfile.TemporaryDirectory() as directory:
        for count in GUESTS:
            file = pathlib.Path(directory, 'node.xml')
            domains = (_DOMAIN.format(number=number, high=number // 256, low=number % 256)
                       for number in range(count))
            file.write_text(f'<node>{"".join(domains)}</node>')
            guests_of = libvirt.open(f'test://{file}')
            runs = []
            for registry in (Registry(()), _NEEDING):
                known = cpu_check._Guests(None, registry)
                assert len(known.read(Connection(), host)) == count
                assert (
                    all('video=virtio' in one for one in known.needs.values())
                    or not registry.needing
                )
                runs += [functools.partial(_read_guests, kept, Connection(), host, registry)
                         for kept in (None, known.memory())]
            alone, known_alone, new, again = in_turns(*runs, times=9)
            yield Row(
                f'{count} guests that are new: CPU',
                statistics.median(new) * 1000,
                'ms',
                None,
                'once; libvirt\'s test driver instead of QEMUs',
            )
            yield Row(f'{count} guests that are known: CPU', statistics.median(again) * 1000, 'ms', None, 'each round')
            # One guest is over too soon to tell.
            gates = (1.2, 1.1) if count > 1 else (None, None)
            for what, both, one, gate in (('new', new, alone, gates[0]),
                                          ('known', again, known_alone, gates[1])):
                yield Row(f'{count} guests that are {what}: with their needs / their CPU alone',
                          statistics.median(x / y for x, y in zip(both, one)), '', gate)
            guests_of.close()


def _read_guests(kept: Any, connection: Any, host: Cpu, registry: Registry) -> None:
    cpu_check._Guests(kept, registry).read(connection, host)


def taps() -> Iterator[Row]:
    """The address check on hosts with few and many interfaces, each in a network namespace of its own."""
    for count in (2, TAPS):
        done = subprocess.run(['unshare', '--net', sys.executable, '-W', 'ignore', '-m', MODULE, 'taps', str(count)],
                              stdout=subprocess.PIPE, check=True, timeout=300, text=True)
        child, own = (float(word) for word in done.stdout.split())
        yield Row(f'the address check, {count} interfaces: CPU of its processes', child, 's')
        yield Row(f'the address check, {count} interfaces: CPU of nova-compute itself', own * 1000, 'ms')


def measure_taps(count: int) -> None:
    from pyroute2 import IPRoute
    with IPRoute() as ip:
        for number in range(count // 2):
            ip.link('add', ifname=f'tap{number:08x}', kind='veth', peer=f'peer{number:08x}')
        for link in ip.get_links():
            ip.link('set', index=link['index'], state='up')
    told = Round(['address'])
    told.run(1)
    _wall, child, own = told.run(5)
    print(child, own)


if __name__ == '__main__':
    if sys.argv[1:2] == ['serve']:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ['taps']:
        measure_taps(int(sys.argv[2]))
    else:
        tell(rows())
