# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck compare``: would a guest run on a host? Offline, from what libvirt printed of them."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, Callable

from cliff import columns, show

from nova_migcheck import cpu
from nova_migcheck.cli import listing, main
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu import offered
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.models import CpuMap

_EXIT = {cpu.COMPATIBLE: main.OK, cpu.INCOMPATIBLE: main.FAILURE, cpu.UNKNOWN: main.WARNING}


class Names(columns.FormattableColumn):
    """A list of names: one line for people, a list for machines."""

    def human_readable(self) -> str:
        return ', '.join(self._value)

    def machine_readable(self) -> list[str]:
        return list(self._value)


class Compare(show.ShowOne):
    """Whether a guest's CPU can run on a host, and which features the host lacks.

    Both are XML as libvirt prints them: a <cpu> element, a <domain> (virsh dumpxml), <domainCapabilities> (virsh
    domcapabilities) or <capabilities> (virsh capabilities).
    """

    EXAMPLES = (('compare --guest guest.xml --host target.xml', '"virsh dumpxml GUEST" on the source, "virsh domcapabilities" on the '
                                                                'target'),)

    @property
    def formatter_namespace(self) -> str:
        return listing.ONE

    def get_epilog(self) -> str:
        """The example, and what the exit code says."""
        return listing.epilog(self.EXAMPLES, '0 compatible, 1 incompatible, 2 it cannot be told, 255 a file is not readable.')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = listing.help_formatter(parser.formatter_class)
        parser.add_argument('--guest', metavar='FILE', required=True,
                            help='the CPU of the guest, best the <domain> of the running guest')
        parser.add_argument('--host', metavar='FILE', required=True,
                            help='the CPU of the target, best its <domainCapabilities>')
        add_cpu_map(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        found = compare_files(parsed_args.guest, parsed_args.host, CpuMap(parsed_args.cpu_map))
        self._exit_code = _EXIT[found.outcome]
        return ('outcome', 'missing', 'reason'), (found.outcome, Names(found.missing), found.reason)

    def run(self, parsed_args: argparse.Namespace) -> int:
        super().run(parsed_args)
        return self._exit_code


def add_cpu_map(parser: argparse.ArgumentParser) -> None:
    """The option ``--cpu-map``."""
    parser.add_argument('--cpu-map', metavar='DIR',
                        help="libvirt's CPU models; default $NOVA_MIGCHECK_CPU_MAP or /usr/share/libvirt/cpu_map")


def read_definition(path: str) -> cpuxml.Definition:
    """The CPU in a file.

    :raises cpuxml.Undefined: when it is libvirt's, and says nothing of a CPU
    :raises ValueError: when it is not, or cannot be read, naming the file
    """
    try:
        with open(path, encoding='utf-8') as file:
            return cpuxml.parse_definition(file.read(cpuxml.MAX_XML + 1))
    except cpuxml.Undefined as error:
        raise cpuxml.Undefined(f'{path}: {error}') from None
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror or error}') from None
    except ValueError as error:  # a UnicodeDecodeError too
        raise ValueError(f'{path}: {error}') from None


def compare_files(guest_path: str, host_path: str, cpu_map: CpuMap) -> cpu.Comparison:
    """Compare the CPUs in two files.

    :raises ValueError: for a file that holds none
    """
    undefined = []
    definitions = []
    for path in (guest_path, host_path):  # both are read, so that a bad file is named whatever the other one is
        try:
            definitions.append(read_definition(path))
        except cpuxml.Undefined as error:
            undefined.append(str(error))
    if undefined:
        return cpu.Comparison(cpu.UNKNOWN, reason='; '.join(undefined))
    return compare_definitions(definitions[0], definitions[1], cpu_map)


def compare_definitions(guest: cpuxml.Definition, host: cpuxml.Definition,
                        cpu_map: CpuMap) -> cpu.Comparison:
    """Compare a guest's CPU with a host's."""
    # A <cpu> element names neither the architecture nor what runs it: then it is what the other one says.
    arch, virt = guest.arch or host.arch or 'x86_64', guest.virt or host.virt or 'kvm'
    guest = dataclasses.replace(guest, arch=arch, virt=virt)
    host = dataclasses.replace(host, arch=host.arch or arch, virt=host.virt or virt)
    try:
        if (guest.arch, guest.virt) == (host.arch, host.virt) and guest.arch in cpu.X86:
            said = offered.model(guest, host, cpu_map)
            if said is None or said.compatible:
                said = offered.names(guest, host, cpu_map) or said
            if said is not None:
                return said
        uses, gives = cpuguest.guest(guest, cpu_map.expand), cpuguest.host(host, cpu_map.expand)
    except (cpuxml.Undefined, cpuguest.UnknownModel) as error:
        return cpu.Comparison(cpu.UNKNOWN, reason=str(error.args[0]))
    uses = dataclasses.replace(uses, spelled=frozenset())  # which is judged here
    known = _knows(host, gives, cpu_map)
    found = cpu.compare(uses, gives, known)
    strange = sorted(name for name in guest.all_named if not known(name))
    # Where the host's models tell its release, the names were compared with what that knows.
    unsaid = not cpunames.known_with(model.name for model in host.models)
    if found.compatible and strange and unsaid and uses.arch in cpu.X86:
        return cpu.Comparison(cpu.UNKNOWN, reason=f'has a libvirt that does not know {", ".join(strange)}, which the '
                                                  "guest's definition names")
    if host.document == 'capabilities' and found.outcome != cpu.UNKNOWN:
        note = "this is the host's raw CPU, which differs from what its hypervisor provides: prefer domainCapabilities"
        return dataclasses.replace(found, reason='; '.join(filter(None, (found.reason, note))))
    return found


def _knows(host: cpuxml.Definition, gives: cpu.Cpu, cpu_map: CpuMap) -> Callable[[str], bool]:
    """Whether the host's libvirt knows a name: it does when the libvirt here does, or when the host's document says it."""
    here = cpunames.canonical(cpu_map.names(gives.arch))
    said = cpunames.canonical(name for name, _ in host.features) | gives.features
    vmx = any(name.startswith('vmx-') for name in said)  # a libvirt that knows one knows them all

    def known(name: str) -> bool:
        return not here or name in here or name in said or (vmx and name.startswith('vmx-'))

    return known
