# SPDX-License-Identifier: Apache-2.0
"""``./run mixed``: a fleet that is half upgraded."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Iterator

from tests import roots
from tests.lab import libvirtd
from tests.lab.cloud import isolation
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.mixed import table
from tests.lab.mixed.arguments import parser
from tests.lab.mixed.guests import VIRTS, guests
from tests.lab.mixed.pair import Side, Tried, machine_of_both, migrate
from tests.lab.two_hosts import TwoHosts


def main() -> int:
    arguments = parser().parse_args()
    return isolation.isolated('tests.lab.mixed', [sys.argv[1:]], lambda: work(arguments))


def work(arguments: argparse.Namespace) -> int:
    """Inside: both hosts, and every guest from each to the other."""
    release = roots.Root(roots.another())
    with TwoHosts() as hosts, LibvirtHost(hosts.source) as ours, \
            LibvirtHost(hosts.target, release=release) as theirs:
        sides = sorted((Side(ours), Side(theirs)), key=lambda side: side.conn.getLibVersion())
        tried = []
        for one in _all(arguments, *sides):
            print(table.line(one), flush=True)
            tried.append(one)
    if arguments.rst:
        pathlib.Path(arguments.rst).write_text(table.page(tried, sides))
    print('\n' + table.summary(tried))
    wrong = [one for one in tried if not one.agrees]
    for one in wrong:
        print(table.line(one))
    return 1 if wrong or not tried else 0


def _all(arguments: argparse.Namespace, older: Side, newer: Side) -> Iterator[Tried]:
    machine = machine_of_both(older, newer)
    print(f'{older.name} and {newer.name}; {machine}')
    for virt in arguments.virt or (VIRTS if libvirtd.has_kvm() else VIRTS[:1]):
        for guest in guests():
            wanted = not arguments.guests or any(word in guest.name for word in arguments.guests)
            if wanted and virt in guest.virts:
                yield migrate(guest, virt, machine, older, newer)
                yield migrate(guest, virt, machine, newer, older)


if __name__ == '__main__':
    sys.exit(main())
