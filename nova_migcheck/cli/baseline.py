# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck baseline``: compute what all hosts can give to a guest."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any, Mapping, Optional

from cliff import columns, show

from nova_migcheck import hostranges
from nova_migcheck.cli import fleetlisting, listing, main
from nova_migcheck.cli.compare import Names, add_cpu_map, read_definition
from nova_migcheck.cli.machinetypes import Machines, MachineTypes
from nova_migcheck.cpu import X86, Cpu
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu.models import CpuMap


@dataclasses.dataclass(frozen=True)
class Common:
    """The largest CPU that all hosts provide.

    :param model: the largest of libvirt's models that it includes
    :param extra: features in addition to the model's
    :param lost: host -> features that it provides and this CPU does not have
    """

    model: str
    extra: tuple[str, ...]
    lost: Mapping[str, tuple[str, ...]]

    def lines(self) -> list[str]:
        """Return lines for nova.conf, with the lost features as comments."""
        lines = ['[libvirt]', 'cpu_mode = custom', f'cpu_models = {self.model}']
        if self.extra:
            lines.append(f'cpu_model_extra_flags = {",".join(self.extra)}')
        alike: dict[tuple[str, ...], list[str]] = {}
        for host, lost in self.lost.items():
            alike.setdefault(lost, []).append(host)
        for lost, hosts in alike.items():
            who, what = hostranges.fold(hosts, 12), ', '.join(lost) or 'nothing'
            lines.append(f'# {who} loses {what}' if len(hosts) == 1 else f'# {who} lose {what}')
        return lines


def common(hosts: Mapping[str, Cpu], cpu_map: CpuMap, model_only: bool = False) -> Common:
    """Return the largest CPU that each of ``hosts`` provides.

    It chooses only a model that every host provides completely and that the libvirt of each one
    knows, so that nova-compute accepts the model when it starts.

    :param model_only: return a named model without extra features
    :raises ValueError: when there is no common CPU, with the reason
    """
    for attribute, words in _MUST_MATCH.items():
        by_value: dict[Optional[str], list[str]] = {}
        for name, cpu in hosts.items():
            by_value.setdefault(getattr(cpu, attribute), []).append(name)
        if len(by_value) > 1:
            values = '; '.join(f'{value}: {hostranges.fold(names, 12)}'
                               for value, names in by_value.items())
            raise ValueError(
                f'guests cannot move between all of them, the {words} differs: {values}')
    first = next(iter(hosts.values()))
    if first.arch not in X86:
        raise ValueError(f'a common CPU can only be computed for x86 hosts, these are {first.arch}')
    everywhere = frozenset.intersection(*(cpu.features for cpu in hosts.values())) - _NEVER_A_GUESTS
    best, best_features = '', frozenset[str]()
    models = [model for model in cpu_map.models(first.arch)
              if all(_may_know(cpu, model) for cpu in hosts.values())]
    # Of two equal models take the one without a version, as more releases of libvirt know it, then
    # the one that libvirt lists later, which is the newer one.
    for model in sorted(models, key=lambda name: bool(cpuguest.VERSIONED.search(name)),
                        reverse=True):
        features = cpu_map.expand(model, first.arch)
        vendor = cpu_map.vendor(model, first.arch)
        if (features <= everywhere and vendor in (None, first.vendor)
                and len(features) >= len(best_features)):
            best, best_features = model, features
    if not best:
        raise ValueError("none of libvirt's CPU models is provided by all of them")
    if model_only:
        everywhere = best_features
    return Common(best, tuple(sorted(everywhere - best_features)),
                  {name: tuple(sorted(cpu.features - everywhere - _NEVER_A_GUESTS))
                   for name, cpu in hosts.items()})


def _may_know(cpu: Cpu, model: str) -> bool:
    """Return whether the libvirt of a host may know a model; True if that is unknown."""
    if cpu.libvirt is None or not cpunames.is_listed(model):
        return True
    return cpunames.knows(cpu.libvirt, cpu.cpu_map, model, None) is True


# Features that no guest gets: those that are not migratable, and those of a host's own CPU that
# libvirt never passes to QEMU (src/qemu/qemu_capabilities.c).
_NEVER_A_GUESTS = cpuguest.NOT_BY_DEFAULT | {'cmt', 'mbm_local', 'mbm_total', 'osxsave', 'ospke'}
_MUST_MATCH = {'arch': 'architecture', 'virt': 'type of their guests',
               'vendor': 'vendor of the CPU'}


class Lost(columns.FormattableColumn):
    """Host -> features: unchanged for programs, ``compute1: avx; compute2: nothing`` for people."""

    def human_readable(self) -> str:
        """Return all hosts in one line."""
        return '; '.join(f'{host}: {", ".join(lost) or "nothing"}'
                         for host, lost in self._value.items())


class Baseline(listing.Configured, show.ShowOne):
    """Show the largest CPU that all hosts provide, as [libvirt] lines for nova.conf.

    Comments list the features that each host would lose. If the hosts have published their machine
    types, the newest one that all of them have is shown too, and the types of running guests that
    some of them lack.
    """

    EXAMPLES = (
        ('baseline', 'of all hosts that have published a report'),
        ('baseline compute1 compute2 --model-only', 'of two of them, as a named model'),
        ('baseline a.xml b.xml', 'of files with the output of "virsh domcapabilities"'),
    )
    CODES = ('0 there is a common CPU, 1 there is none, 2 there is one but some hosts could not be '
             'read, 255 the command itself failed.')

    formatter_namespace = listing.ONE

    _machines = Machines()

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument('hosts', metavar='HOST|FILE', nargs='*',
                            help="names of hosts in Nova, or files with a host's domain "
                                 'capabilities (virsh domcapabilities); default: all hosts')
        parser.add_argument('--model-only', action='store_true',
                            help='a named model without extra features')
        add_cpu_map(parser)
        fleetlisting.add_timeout(parser)
        return parser

    def hosts(self, parsed_args: argparse.Namespace, cpu_map: CpuMap) -> dict[str, Cpu]:
        """Return the CPU that each host provides.

        :raises ValueError: for a file that does not describe a host's CPU
        """
        if not any(os.path.exists(name) or '/' in name for name in parsed_args.hosts):
            return self._published(parsed_args)
        hosts = {}
        for path in parsed_args.hosts:
            try:
                hosts[path] = cpuguest.host(read_definition(path), cpu_map.expand)
            except (ValueError, cpuguest.UnknownModel) as error:
                text = str(error.args[0])
                raise ValueError(text if text.startswith(path) else f'{path}: {text}') from None
        return hosts

    def _published(self, parsed_args: argparse.Namespace) -> dict[str, Cpu]:
        """Return the published CPUs. A remark lists the hosts without one."""
        fleetlisting.require_nova()
        from nova_migcheck.novadb import fleet
        fleet.configure(parsed_args.config_file, parsed_args.config_dir)
        found = fleet.read(parsed_args.cell_timeout)
        wanted = [found.host(name) for name in parsed_args.hosts] or list(found.hosts)
        hosts = {host.name: host.report.cpu for host in wanted if host.report and host.report.cpu}
        missing = [host.name for host in wanted if host.name not in hosts]
        notes = found.notes()
        if missing:
            notes.append(f'there is no published CPU of {hostranges.fold(missing, 12)}')
        for note in notes:
            self.say(f'{note}.')
        if not hosts:
            raise ValueError('no host has published its CPU')
        self.code = main.WARNING if notes else main.OK
        self._machines = Machines.of({host.name: host.report for host in wanted
                                      if host.report and host.report.cpu})
        return hosts

    def take_action(
            self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Compute the common CPU, and return its fields."""
        cpu_map = CpuMap(parsed_args.cpu_map)
        hosts = self.hosts(parsed_args, cpu_map)
        try:
            self._common: Optional[Common] = common(hosts, cpu_map, parsed_args.model_only)
        except ValueError as error:
            self._common, self.code = None, main.FAILURE
            return ('reason',), (str(error),)
        return ('cpu_mode', 'cpu_models', 'cpu_model_extra_flags', 'lost', 'hw_machine_type',
                'machine_types'), (
            'custom', self._common.model, Names(list(self._common.extra)),
            Lost({host: list(lost) for host, lost in self._common.lost.items()}),
            self._machines.newest, MachineTypes(self._machines.lacking()))

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Any,
                       data: Any) -> int:
        """Print lines for nova.conf or why there are none, unless a format was requested."""
        if parsed_args.formatter != 'table':
            return int(super().produce_output(parsed_args, column_names, data) or 0)
        if self._common:
            lines = [*self._common.lines(), *self._machines.lines()]
        else:
            lines = [self._wrapped(f'There is no common CPU: {data[0]}.')]
        self.app.stdout.write('\n'.join(lines) + '\n')
        return 0

    def _wrapped(self, sentence: str) -> str:
        """Return a sentence, in lines if the output is a terminal."""
        if not self.app.stdout.isatty():
            return sentence
        from nova_migcheck.cli import terminal
        return terminal.wrapped(sentence, terminal.console_for(self.app.stdout).width)
