# SPDX-License-Identifier: Apache-2.0
"""Hosts as a cloud has them, with what they publish."""

from __future__ import annotations

import dataclasses
import ipaddress
import random
import time
from typing import Any, Sequence

from nova_migcheck.checks.needs import Needs
from nova_migcheck.checks.registry import text_of
from nova_migcheck.cpu import Cpu
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.machine.guest import fold
from nova_migcheck.network.migration import HostMigration
from nova_migcheck.report import published
from nova_migcheck.report.past import PUBLISHED, Past
from nova_migcheck.report.report import Group, Report
from tests.facts import facts

# A server of the Cascade Lake generation, as libvirt 9 lists what its KVM provides.
_WORDS = (
    '3dnowprefetch abm adx aes amd-stibp apic arat arch-capabilities avx avx2 avx512bw avx512cd avx512dq avx512f avx512vl '
    'avx512vnni bmi1 bmi2 clflush clflushopt clwb cmov cx16 cx8 de erms f16c flush-l1d fma fpu fsgsbase fxsr hle hypervisor '
    'ibpb ibrs ibrs-all invpcid invtsc lahf_lm lm mca mce md-clear mds-no mmx monitor movbe mpx msr mtrr nx pae pat pcid '
    'pclmuldq pdcm pdpe1gb pge pku pni popcnt pschange-mc-no pse pse36 rdctl-no rdrand rdseed rdtscp rtm sep skip-l1dfl- '
    'vmentry smap smep spec-ctrl ss ssbd sse sse2 sse4.1 sse4.2 ssse3 stibp syscall tsc tsc-deadline tsc_adjust tsx-ctrl umip '
    'vme vmx x2apic xgetbv1 xsave xsavec xsaveopt xsaves '
)
FEATURES = _WORDS.split()


# What QEMU 7.2 of Debian 12 offers.
_TYPES = fold(['isapc', 'microvm', 'none', 'pc', 'pc-0.15', 'q35', 'x-remote', *(
    f'pc-{kind}-{major}.{minor}' for kind in ('i440fx', 'q35') for major in range(2, 8) for minor in range(13 if major == 2 else 3))])
_DEVICES = {'bus': 'fdc scsi virtio usb sata', 'graphics': 'sdl vnc spice egl-headless dbus',
            'video': 'vga cirrus vmvga qxl virtio none bochs ramfb', 'tpm': 'tpm-tis tpm-crb', 'tpm-backend': 'passthrough emulator',
            'tpm-version': '1.2 2.0', 'filesystem': 'path handle virtiofs', 'loader': '/usr/share/OVMF/OVMF_CODE_4M.fd', 'secure': 'no'}
_EMULATORS = '/usr/libexec/qemu-kvm'
_NEEDS = {'machine': {'arch': 'x86_64', 'type': 'pc-i440fx-7.2', 'emulator': '/usr/bin/qemu-system-x86_64',
                      'devices': 'bus=virtio graphics=vnc video=virtio'}}


def machine(number: int) -> dict[str, Any]:
    """What the machine check publishes."""
    return {'qemu': '7.2.22', 'libvirt': '9.0.0', 'kernel': '6.1.0-18-amd64', 'machine_types': {'x86_64': _TYPES, 'i686': _TYPES},
            'devices': {'pc-i440fx': {**_DEVICES, 'bus': f'ide {_DEVICES["bus"]}'}, 'pc-q35': _DEVICES},
            'emulators': '/usr/bin/qemu-system-x86_64 /usr/bin/kvm', 'no_emulators': _EMULATORS, 'cgroup': 2,
            'uuid': f'2f0f1c4e-0000-4000-9000-{number:012x}'}


def cpu(kind: int) -> Cpu:
    """The ``kind``-th of any number of different CPUs."""
    chance = random.Random(kind)
    less = set(chance.sample(FEATURES, kind % 7))
    features = frozenset(FEATURES) - less | ({f'kind{kind}'} if kind else set())
    return Cpu('x86_64', 'kvm', 'Intel', 'Cascadelake-Server', features, tsc_hz=2_095_078_000 + chance.randrange(10_000), tsc_scaling=True,
               libvirt=9_000_000)


def lost(kinds: int) -> frozenset[str]:
    """Features that one of so many CPUs lacks."""
    return frozenset(name for kind in range(kinds) for name in set(FEATURES) - cpu(kind).features)


def report(number: int, kinds: int = 1, findings: Sequence[Finding] = (), groups: int = 0, addresses: int = 1,
           now: float = 0.0, scaling: bool = True) -> Report:
    """Host ``number``'s report. Its CPU is one of ``kinds``; its addresses, its TSC and its free space are its own."""
    migration = HostMigration(
        f'compute{number:05d}', f'compute{number:05d}.example.org', f'compute{number:05d}-mig',
        tuple(ipaddress.ip_address(f'10.77.{number // 250 % 250}.{number % 250 + i}') for i in range(addresses)),
        {ipaddress.ip_address(f'10.0.{number // 250 % 250}.{number % 250}'): 'bond0'}, True, 'bond1.200',
        (ipaddress.ip_network('10.77.0.0/16'),), 'live_migration_inbound_addr', 9000).to_json()
    storage = {'images': 'path', 'expect': 'auto', 'path': '/var/lib/nova/instances', 'mount': '/var/lib/nova/instances', 'type': 'nfs4',
               'family': 'nfs', 'shared': True, 'source': '10.0.0.5:/export/nova', 'servers': ['10.0.0.5'], 'export': '/export/nova',
               'inode': 128, 'marker': 4711, 'free_bytes': 2 ** 40 + number, 'total_bytes': 2 ** 42}
    given = dataclasses.replace(cpu(number % kinds), tsc_scaling=scaling)
    who = tuple(Group(Cpu('x86_64', 'kvm', features=given.features - {FEATURES[i % 90], FEATURES[(i // 90 + i) % 90]}),
                      (f'{i:012x}',)) for i in range(groups))
    past = tuple(Past(int(now or time.time()) - 600 * n, 'in', f'{number:012x}', f'compute{number + n:05d}', 'completed', 3700, 63, 2 ** 28,
                      'bond1.200') for n in range(PUBLISHED))
    return Report(int((now or time.time()) - number % 60), tuple(findings), given, groups=who,
                  **facts(migration=migration, storage=storage, machine=machine(number)),
                  needs=Needs(text_of(_NEEDS)),
                  migrations=past)


def failure(number: int) -> Finding:
    return Finding('endpoint', Outcome.FAILURE, f'http://10.0.{number % 250}.5:8780', 'connection refused',
                   'keystone catalog: placement, internal, RegionOne', 'see that it listens, and the firewall between')


def stats(number: int, **changes: Any) -> dict[str, str]:
    """``ComputeNode.stats`` of that host: Nova's own, and the report."""
    return {**nova_stats(number), **published.write(report(number, **changes))}


def nova_stats(number: int) -> dict[str, str]:
    """What Nova itself puts there for a host with 20 servers."""
    return {'failed_builds': '0', 'num_instances': '20', 'num_vm_active': '20', 'num_task_None': '20', 'num_os_type_None': '20',
            f'num_proj_{number % 40:032x}': '20', 'io_workload': '0',
            'uptime': ' 10:00:00 up 100 days,  1:00,  0 users,  load average: 1, 1, 1'}
