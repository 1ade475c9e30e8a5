# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck baseline``: the largest CPU that all hosts can give to a guest, as lines for nova.conf."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any, Mapping, Optional

from cliff import columns, show

from nova_migcheck import hostranges
from nova_migcheck.cli import fleetlisting, listing, main
from nova_migcheck.cli.compare import Names, add_cpu_map, read_definition
from nova_migcheck.cpu import X86, Cpu
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu.models import CpuMap


@dataclasses.dataclass(frozen=True)
class Common:
    """What all hosts can give.

    :param model: the largest model of libvirt that is in it
    :param extra: features besides the model's
    :param lost: host -> what it provides and a guest of this CPU would not get
    """

    model: str
    extra: tuple[str, ...]
    lost: Mapping[str, tuple[str, ...]]

    def lines(self) -> list[str]:
        """For nova.conf, with what is lost as comments."""
        lines = ['[libvirt]', 'cpu_mode = custom', f'cpu_models = {self.model}']
        if self.extra:
            lines.append(f'cpu_model_extra_flags = {",".join(self.extra)}')
        alike: dict[tuple[str, ...], list[str]] = {}
        for host, lost in self.lost.items():
            alike.setdefault(lost, []).append(host)
        for lost, hosts in alike.items():
            verb = 'loses' if len(hosts) == 1 else 'lose'
            lines.append(f'# {hostranges.fold(hosts, 12)} {verb} {", ".join(lost) or "nothing"}')
        return lines


def common(hosts: Mapping[str, Cpu], cpu_map: CpuMap, model_only: bool = False) -> Common:
    """The largest CPU that each of ``hosts`` provides.

    :param model_only: nothing besides a named model

    Only a model that is wholly in it is chosen, so that Nova's own check at its start accepts it on every host.

    :raises ValueError: when they have none in common, with the reason
    """
    for what, words in _WHAT.items():
        by_value: dict[Optional[str], list[str]] = {}
        for name, cpu in hosts.items():
            by_value.setdefault(getattr(cpu, what), []).append(name)
        if len(by_value) > 1:
            differ = '; '.join(f'{hostranges.fold(names, 12)} {"has" if len(names) == 1 else "have"} {value}'
                               for value, names in by_value.items())
            raise ValueError(f'guests cannot move between all of them, the {words} differs: {differ}')
    first = next(iter(hosts.values()))
    if first.arch not in X86:
        raise ValueError(f'a common CPU can be told of x86 hosts only, these are {first.arch}')
    everywhere = frozenset.intersection(*(cpu.features for cpu in hosts.values())) - _NEVER_A_GUESTS
    best, best_features = '', frozenset[str]()
    for model in cpu_map.models(first.arch):
        features = cpu_map.expand(model, first.arch)
        vendor = cpu_map.vendor(model, first.arch)
        # ">=": of equals the one that libvirt lists later, which is the newer one.
        if features <= everywhere and vendor in (None, first.vendor) and len(features) >= len(best_features):
            best, best_features = model, features
    if not best:
        raise ValueError('no CPU model that libvirt knows is provided by all of them')
    if model_only:
        everywhere = best_features
    return Common(best, tuple(sorted(everywhere - best_features)),
                  {name: tuple(sorted(cpu.features - everywhere - _NEVER_A_GUESTS))
                   for name, cpu in hosts.items()})


# Beside what is not migratable: what a host's own CPU has and libvirt never passes to QEMU (src/qemu/qemu_capabilities.c).
_NEVER_A_GUESTS = cpuguest.NOT_BY_DEFAULT | {'cmt', 'mbm_local', 'mbm_total', 'osxsave', 'ospke'}
_WHAT = {'arch': 'architecture', 'virt': 'type of their guests', 'vendor': 'vendor of the CPU'}


class Lost(columns.FormattableColumn):
    """Host -> features: as it is in JSON and YAML, ``compute1: avx, bmi2; compute2: nothing`` elsewhere."""

    def human_readable(self) -> str:
        return '; '.join(f'{host}: {", ".join(lost) or "nothing"}' for host, lost in self._value.items())


class Baseline(show.ShowOne):
    """Tell the largest CPU that all hosts provide, as [libvirt] lines for nova.conf, and what each host would lose."""

    EXAMPLES = (
        ('baseline', 'of all hosts that have published a report'),
        ('baseline compute1 compute2 --model-only', 'of two of them, as a named model'),
        ('baseline a.xml b.xml', 'of files, as "virsh domcapabilities" prints them'),
    )

    @property
    def formatter_namespace(self) -> str:
        return listing.ONE

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = listing.help_formatter(parser.formatter_class)
        parser.add_argument('hosts', metavar='HOST|FILE', nargs='*',
                            help="hosts by the names that Nova has for them, or files with a host's domain capabilities (virsh "
                                 'domcapabilities); default: all hosts')
        parser.add_argument('--model-only', action='store_true', help='a named model and nothing besides')
        add_cpu_map(parser)
        fleetlisting.add_timeout(parser)
        listing.add_configuration(parser)
        return parser

    def get_epilog(self) -> str:
        """The examples, and what the exit code says."""
        return listing.epilog(self.EXAMPLES, '0 there is one, 1 there is none, 2 there is one, but not all hosts could be asked, 255 the '
                                             'command itself failed.')

    def hosts(self, parsed_args: argparse.Namespace, cpu_map: CpuMap) -> dict[str, Cpu]:
        """Host -> what it provides.

        :raises ValueError: for a file that says nothing of a host
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
        """What the hosts have published. Of those that have not, it is said."""
        fleetlisting.require_nova()
        from nova_migcheck.novadb import fleet
        fleet.configure(parsed_args.config_file, parsed_args.config_dir)
        found = fleet.read(parsed_args.cell_timeout)
        wanted = [found.host(name) for name in parsed_args.hosts] or list(found.hosts)
        hosts = {host.name: host.report.cpu for host in wanted if host.report and host.report.cpu}
        silent = [host.name for host in wanted if host.name not in hosts]
        notes = found.notes() + ([f'nothing is known of the CPU of {hostranges.fold(silent, 12)}'] if silent else [])
        for note in notes:
            listing.say(self.app, f'{note}.')
        if not hosts:
            raise ValueError('no host has published its CPU')
        self._exit_code = main.WARNING if notes else main.OK
        return hosts

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        cpu_map = CpuMap(parsed_args.cpu_map)
        self._exit_code = main.OK
        hosts = self.hosts(parsed_args, cpu_map)
        try:
            self._found: Optional[Common] = common(hosts, cpu_map, parsed_args.model_only)
        except ValueError as error:
            self._found, self._exit_code = None, main.FAILURE
            return ('reason',), (str(error),)
        return ('cpu_mode', 'cpu_models', 'cpu_model_extra_flags', 'lost'), (
            'custom', self._found.model, Names(self._found.extra),
            Lost({host: list(lost) for host, lost in self._found.lost.items()}))

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Any, data: Any) -> int:
        """Lines for nova.conf, or a sentence that says why there are none, unless a format was asked for."""
        if parsed_args.formatter != 'table':
            return int(super().produce_output(parsed_args, column_names, data) or 0)
        lines = self._found.lines() if self._found else [self._broken(f'There is no common CPU: {data[0]}.')]
        self.app.stdout.write('\n'.join(lines) + '\n')
        return 0

    def _broken(self, sentence: str) -> str:
        """In lines, on a terminal."""
        if not self.app.stdout.isatty():
            return sentence
        from nova_migcheck.cli import terminal
        return terminal.broken(sentence, terminal.on(self.app.stdout).width)

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print it.

        :returns: the exit code
        """
        listing.prepare(self.app, parsed_args)
        with listing.wrong_values():
            super().run(parsed_args)
        return self._exit_code
