# SPDX-License-Identifier: Apache-2.0
"""The table of faults: one class for each row, which sets the fault up in a healthy cloud and takes it away."""

from __future__ import annotations

import importlib
from typing import ClassVar, Mapping, Sequence

from tests.lab.cloud.cloud import Cloud
from tests.lab.cloud.compute_node import ComputeNode
from tests.lab.libvirtd import has_kvm
from tests.lab.namespaces import Namespace

# All that they do is done to this host, unless a row says otherwise: the scheduler tries it first.
TARGET = 'compute2'

ROWS: dict[str, type[Fault]] = {}

# Rows that one machine cannot have, and where they are tested.
ELSEWHERE = {
    'C7': 'one machine has one TSC: tests/unit/cpu/test_comparison.py, tests/functional/test_cpu_rows.py, tests/lab/test_libvirt_cpu.py '
    'with the frequency that libvirt tells',
    'K11': 'one machine has one TSC: the same tests as C7',
    'V1': 'there is no Ceph here, so no guest has such a disk: tests/lab/test_volumes.py, tests/lab/test_target.py with real secrets, '
    'tests/functional/test_volumes.py',
    'K12': 'one machine has one libvirt: tests/unit/cpu/test_comparison.py, tests/functional/test_cpu_rows.py',
    'M5': 'no guest of the lab has such a device: tests/lab/test_machine.py, '
    'tests/functional/test_machine.py',
    'M7': 'the guests of the lab have no NIC: tests/functional/test_machine.py',
    'M8': 'one machine has one QEMU and one libvirt: tests/functional/test_machine.py',
    'M9': 'one machine has one kernel: tests/functional/test_machine.py',
    'M10': 'one machine has one kernel: tests/functional/test_machine.py',
    'M11': 'one machine has one version of cgroup: tests/functional/test_machine.py',
}


class Fault:
    """One row.

    :cvar text: what is wrong
    :cvar names: what the message must name, as regular expressions; all of them
    :cvar accepted: whether the target is to be used in spite of it (the rows whose rejection is a bug)
    :cvar named: whether the user names the target, instead of leaving the choice to the scheduler
    :cvar restarted: whose nova-compute must read its configuration again, after ``set`` and after ``clear``: ``source``, ``target``
    :ivar source: where the server is
    :ivar target: what is broken, and what the scheduler tries first
    :ivar third: the other host, which is well
    """

    text: ClassVar[str] = ''
    names: ClassVar[Sequence[str]] = ()
    accepted: ClassVar[bool] = False
    named: ClassVar[bool] = False
    force: ClassVar[bool] = False
    restarted: ClassVar[Sequence[str]] = ()
    #: whether the server first goes to the target and then comes back: the way back is what counts
    way_back: ClassVar[bool] = False
    #: whether the fault must be there before the server is started, and whether that is on the target
    born_after: ClassVar[bool] = False
    born_on_target: ClassVar[bool] = False
    #: whether the target can tell nobody, and only its log says what is wrong
    silent: ClassVar[bool] = False
    #: whose reports must have seen the fault before the migration is asked for: ``source``, ``target``, ``third``
    noticed: ClassVar[Sequence[str]] = ('target',)
    #: whether it needs a KVM, nested or not
    kvm: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if cls.__doc__ and cls.__name__[0] in 'CAESTMVNK' and cls.__name__[1:].isdigit():
            ROWS[cls.__name__] = cls
            cls.text = cls.text or cls.__doc__.splitlines()[0].rstrip('.')

    def __init__(self, cloud: Cloud, source: str = 'compute1') -> None:
        self.cloud = cloud
        self.source, self.target = cloud.nodes[source], cloud.nodes[TARGET]
        self.third = next(node for name, node in cloud.nodes.items() if name not in (source, TARGET))

    @classmethod
    def is_momentary(cls) -> bool:
        """Whether the fault can arise while all services run and the server is where it is."""
        return not (cls.accepted or cls.restarted or cls.way_back or cls.born_after or cls.silent
                    or cls.ready is not Fault.ready) and cls.noticed == ('target',)

    @property
    def row(self) -> str:
        return type(self).__name__

    def restart(self) -> None:
        """Let nova-compute read its configuration, where this row needs it."""
        if self.restarted:
            self.cloud.restart_computes(*(getattr(self, role).name for role in self.restarted))

    def set(self) -> None:
        """Break it."""

    def set_in_a_moment(self) -> None:
        """Break it so that nothing notices but who asks."""
        self.set()

    def ready(self) -> None:
        """What is left to be done when nova-compute has been started again, and the server is there."""

    def clear(self) -> None:
        """Mend it."""

    def configure(self, node: ComputeNode, more: Mapping[str, Mapping[str, object]]) -> None:
        """Put sections over a host's nova.conf; with none, it is as it was."""
        node.more = {section: dict(options) for section, options in more.items()}
        node.configure()


def firewall(host: Namespace, chain: str, rule: str, verdict: str = 'drop') -> None:
    """Let a host's firewall drop, or refuse (``reject with tcp reset``), what matches a rule on its way ``in`` or ``out``."""
    hook = {'in': 'input', 'out': 'output'}[chain]
    host.run('nft', '-f', '-', text=f"""
        table inet lab {{
          chain {hook} {{
            type filter hook {hook} priority 0;
            {rule} {verdict}
          }}
        }}""")


def open_firewall(host: Namespace) -> None:
    """Take all of :func:`firewall` back."""
    host.run('nft', 'delete', 'table', 'inet', 'lab')


REFUSE = 'reject with tcp reset'

_NO_KVM = 'this machine has no /dev/kvm: tests/unit/cpu/test_comparison.py, tests/functional/test_cpu_rows.py'

for _module in (
    'cpu',
    'network',
    'endpoint',
    'storage',
    'transport',
    'machine',
    'volumes',
    'policy',
    'healthy',
):
    importlib.import_module(f'{__name__}.{_module}')

if importlib.import_module(f'{__name__}.machine').may_use_userfaultfd():
    del ROWS['M6']
    ELSEWHERE['M6'] = ('vm.unprivileged_userfaultfd is 1 on this machine: '
                       'tests/lab/test_machine.py, tests/functional/test_machine.py')

if not has_kvm():
    for _row in [row for row, kind in ROWS.items() if kind.kvm]:
        del ROWS[_row]
        ELSEWHERE[_row] = _NO_KVM
