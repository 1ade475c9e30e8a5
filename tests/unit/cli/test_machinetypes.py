# SPDX-License-Identifier: Apache-2.0
"""What the reports of all hosts say of machine types."""

from __future__ import annotations

import json
from typing import Any

from nova_migcheck.checks.needs import Needs
from nova_migcheck.cli.machinetypes import Machines, MachineTypes
from nova_migcheck.cpu import Cpu
from nova_migcheck.report.report import Report

CPU = Cpu(arch='x86_64', virt='kvm', vendor='Intel', model='Large', features=frozenset())


def needs(name: Any, arch: Any = 'x86_64', **more: Any) -> str:
    return json.dumps({'machine': {'arch': arch, 'type': name, **more}})


def report(types: Any, usual: str = '', *others: str) -> Report:
    return Report(0, cpu=CPU, common={'machine': {'machine_types': types}},
                  needs=Needs(usual, tuple((text, ('2f0f1c4e0000',)) for text in others)))


def test_two_releases() -> None:
    old, new = 'pc pc-i440fx-7.2 pc-q35-7.2', 'pc pc-i440fx-7.2 pc-i440fx-10.0 pc-q35-10.0'
    found = Machines.of({
        'compute1': report({'x86_64': old, 'i686': 'pc'}, needs('pc-i440fx-7.2'), needs('pc-q35-7.2'),
                           needs('pc-q35-7.2', cores=2)),
        'compute2': report({'x86_64': new}, needs('pc-i440fx-10.0')),
        'compute3': report({'x86_64': new})})
    assert found.newest == 'x86_64=pc-i440fx-7.2'
    assert found.lines() == [
        'hw_machine_type = x86_64=pc-i440fx-7.2',
        '# guests on compute2 have pc-i440fx-10.0, which is not on compute1',
        '# guests on compute1 have pc-q35-7.2, which is not on compute[2-3]']
    shown = MachineTypes(found.lacking())
    assert shown.machine_readable()[1] == {
        'type': 'pc-q35-7.2', 'on': ['compute1'], 'lacking': ['compute2', 'compute3']}
    assert shown.human_readable().startswith('pc-i440fx-10.0 on compute2: not on compute1; pc-q35-7.2')


def test_hosts_that_publish_nothing_of_it_or_nonsense() -> None:
    for types in (None, {}, [], {'x86_64': ['pc']}, {'x86_64': None}, 'pc'):
        found = Machines.of({'compute1': report(types, json.dumps({'machine': 7}), needs(None),
                                                needs('virt-9.0', 'aarch64'), json.dumps({}))})
        assert (found.newest, found.lines(), found.used) == ('', [], {})
    assert Machines().newest == '' and Machines().lines() == []
