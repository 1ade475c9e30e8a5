# SPDX-License-Identifier: Apache-2.0
"""Compare a guest with a host, offline, from XML that libvirt has printed."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, Callable

from cliff import columns, show

from nova_migcheck import cpu
from nova_migcheck.cli import listing, main, wholeguest
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu import offered
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.models import CpuMap
from nova_migcheck.finding import Finding, Outcome

_EXIT = {cpu.COMPATIBLE: main.OK, cpu.INCOMPATIBLE: main.FAILURE, cpu.UNKNOWN: main.WARNING}


class Names(columns.FormattableColumn):
    """A list of names: one line for people, a list for programs."""

    def human_readable(self) -> str:
        return ', '.join(self._value)


class Findings(columns.FormattableColumn):
    """Findings: one line each for people, JSON objects for programs."""

    def human_readable(self) -> str:
        return '\n'.join(wholeguest.texts(self._value))

    def machine_readable(self) -> list[dict[str, Any]]:
        return [finding.to_dict() for finding in self._value]


class Compare(listing.Command, show.ShowOne):
    """Show whether a guest can run on a host, and what the host lacks.

    All files contain XML as libvirt prints it. The guest is a <domain> (virsh dumpxml), or a <cpu>
    element, with which only the CPU is compared. The host is described by its <domainCapabilities>
    (virsh domcapabilities), which has its CPU and the devices for one machine type, and by its
    <capabilities> (virsh capabilities), which has the machine types.
    """

    EXAMPLES = (
        ('compare --guest guest.xml --host target.xml',
         '"virsh dumpxml GUEST" on the source, "virsh domcapabilities" on the target'),
        ('compare --guest guest.xml --host target.xml --host capabilities.xml --strict',
         'also "virsh capabilities" on the target: the whole guest'),
    )

    CODES = '0 compatible, 1 incompatible, 2 unknown, 255 a file cannot be read.'

    formatter_namespace = listing.ONE

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--guest', metavar='FILE', required=True,
                            help='the guest, preferably the <domain> of the running guest')
        parser.add_argument('--host', metavar='FILE', required=True, action='append',
                            help='the target, preferably its <domainCapabilities>; may be given '
                                 'more than once')
        parser.add_argument('--strict', action='store_true',
                            help='what the files do not tell is unknown, and so is the outcome')
        add_cpu_map(parser)
        return parser

    def take_action(self,
                    parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        guest = wholeguest.read(parsed_args.guest, cpuxml.parse)
        hosts = {path: wholeguest.read(path, cpuxml.parse) for path in parsed_args.host}
        result = compare_files(parsed_args.guest, wholeguest.of_cpu(guest, hosts),
                               CpuMap(parsed_args.cpu_map))
        findings = [*_cpu_finding(result), *wholeguest.compare(guest, hosts)]
        outcome = result.outcome
        if wholeguest.failed(findings):
            outcome = cpu.INCOMPATIBLE
        elif parsed_args.strict and any(one.outcome is Outcome.UNKNOWN for one in findings):
            outcome = cpu.UNKNOWN
        self.code = _EXIT[outcome]
        reason = '; '.join(filter(None, [result.reason, *(
            finding.detail for finding in wholeguest.failed(findings) if finding.check != 'cpu')]))
        return ('outcome', 'missing', 'reason', 'findings'), (
            outcome, Names(list(result.missing)), reason, Findings(findings))


def _cpu_finding(result: cpu.Comparison) -> list[Finding]:
    """Return the finding about the CPU, none if it fits."""
    if result.compatible:
        return []
    outcome = Outcome.FAILURE if result.outcome == cpu.INCOMPATIBLE else Outcome.UNKNOWN
    return [Finding('cpu', outcome, 'CPU', f'the host {result.reason}', 'the files given',
                    result.remedy, code=result.code)]


def add_cpu_map(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--cpu-map``."""
    parser.add_argument('--cpu-map', metavar='DIR',
                        help="libvirt's CPU models; default $NOVA_MIGCHECK_CPU_MAP or "
                             '/usr/share/libvirt/cpu_map')


def read_definition(path: str) -> cpuxml.Definition:
    """Read the CPU in a file.

    :raises cpuxml.Undefined: if the file is libvirt's, but the features do not follow from it
    :raises ValueError: if it is not libvirt's, or cannot be read; the text names the file
    """
    return wholeguest.read(path, cpuxml.parse_definition)


def compare_files(guest_path: str, host_path: str, cpu_map: CpuMap) -> cpu.Comparison:
    """Compare the CPUs in two files.

    :raises ValueError: if a file contains no CPU
    """
    undefined = []
    definitions = []
    for path in (guest_path, host_path):  # both, so that each bad file is reported
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
    # A <cpu> element contains neither architecture nor virt type: use those of the other file.
    arch, virt = guest.arch or host.arch or 'x86_64', guest.virt or host.virt or 'kvm'
    guest = dataclasses.replace(guest, arch=arch, virt=virt)
    host = dataclasses.replace(host, arch=host.arch or arch, virt=host.virt or virt)
    try:
        if (guest.arch, guest.virt) == (host.arch, host.virt) and guest.arch in cpu.X86:
            result = offered.model(guest, host, cpu_map)
            if result is None or result.compatible:
                result = offered.names(guest, host, cpu_map) or result
            if result is not None:
                return result
        uses, gives = cpuguest.guest(guest, cpu_map.expand), cpuguest.host(host, cpu_map.expand)
    except (cpuxml.Undefined, cpuguest.UnknownModel) as error:
        return cpu.Comparison(cpu.UNKNOWN, reason=str(error.args[0]))
    uses = dataclasses.replace(uses, spelled=frozenset())  # these names are compared below
    known = _knows(host, gives, cpu_map)
    result = cpu.compare(uses, gives, known)
    unknown = sorted(name for name in guest.all_named if not known(name))
    # If the host's models show its release, the names were compared with those of that release.
    compared = bool(cpunames.known_with(model.name for model in host.models))
    if result.compatible and unknown and not compared and uses.arch in cpu.X86:
        reason = (f'has a libvirt that may not know {", ".join(unknown)}, which '
                  "the guest's definition names")
        return cpu.Comparison(cpu.UNKNOWN, reason=reason)
    if host.document == 'capabilities' and result.outcome != cpu.UNKNOWN:
        note = ("this is the host's raw CPU, which differs from what its hypervisor provides: use "
                'domainCapabilities')
        return dataclasses.replace(result, reason='; '.join(filter(None, (result.reason, note))))
    return result


def _knows(host: cpuxml.Definition, gives: cpu.Cpu, cpu_map: CpuMap) -> Callable[[str], bool]:
    """Return a function that returns whether the host's libvirt knows a name.

    It does if the libvirt here knows it, or if the host's document contains it.
    """
    here = cpunames.canonical(cpu_map.names(gives.arch))
    listed = host.all_named | gives.features
    vmx = any(name.startswith('vmx-') for name in listed)  # a libvirt that knows one knows them all

    def known(name: str) -> bool:
        return not here or name in here or name in listed or (vmx and name.startswith('vmx-'))

    return known
