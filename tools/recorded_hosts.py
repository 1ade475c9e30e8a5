#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rewrite ``tests/unit/machine/recorded.json``: hosts that libvirt's developers have recorded.

It reads the source trees of the releases that are named; ``apt-get source libvirt`` gets Debian's::

    tools/recorded_hosts.py 9.0.0=libvirt-9.0.0 11.3.0=libvirt-11.3.0

libvirt's tests compute its domain capabilities for the answers of many releases of QEMU, which were
recorded on real machines. Of these documents only what we compare is kept, as our code reads it:
the machine types, the devices, and the CPU of host-model guests.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nova_migcheck.cpu import xml as cpuxml  # noqa: E402
from nova_migcheck.machine import guest, offered  # noqa: E402

FILE = ROOT / 'tests/unit/machine/recorded.json'
# The first QEMU that is read.
OLDEST = (7, 2)
# How libvirt calls its documents: QEMU's release, what the document is for, what the machine had.
NAME = re.compile(r'qemu_([\d.]+)(?:-(?:q35|tcg))?\.x86_64((?:\+\w+)?)\.xml')


def hosts(release: str, tree: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield what each host offers of which a release of libvirt has documents."""
    documents: dict[tuple[str, str], list[ElementTree.Element]] = {}
    for path in sorted((tree / 'tests/domaincapsdata').glob('*.xml')):
        match = NAME.fullmatch(path.name)
        # macOS has no live migration.
        if match and guest.version(match[1]) >= OLDEST and match[2] != '+hvf':
            documents.setdefault((match[1], match[2]), []).append(cpuxml.parse(path.read_text()))
    for (qemu, variant), found in documents.items():
        directory = tree / 'tests/qemucapabilitiesdata'
        (path,) = [path for path in (directory / f'caps_{qemu}_x86_64{variant}.xml',
                                     directory / f'caps_{qemu}.x86_64{variant}.xml')
                   if path.exists()]  # the second until libvirt 9
        caps = ElementTree.parse(path)
        yield {'libvirt': release, 'qemu': qemu, 'variant': variant,
               'types': guest.fold({one.get('name', '') for one in caps.iterfind('machine')}),
               'devices': offered.devices(found),
               'cpus': {document.findtext('domain'): cpu(document) for document in found}}


def cpu(document: ElementTree.Element) -> list[str]:
    """Return model, vendor, and the features that a host-model guest has beside, or has not."""
    definition = cpuxml.parse_definition(ElementTree.tostring(document, encoding='unicode'))
    features = ' '.join(('' if policy == 'require' else '-') + name
                        for name, policy in definition.features)
    return [definition.model or '', definition.vendor or '', features]


def main() -> None:
    """Read the trees, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('trees', nargs='+', metavar='RELEASE=DIRECTORY')
    found: list[dict[str, Any]] = []
    for tree in parser.parse_args().trees:
        release, _equals, directory = tree.partition('=')
        found += hosts(release, pathlib.Path(directory))
    # Most hosts offer the same devices.
    devices: list[Any] = []
    for host in found:
        for family, lists in host['devices'].items():
            if lists not in devices:
                devices.append(lists)
            host['devices'][family] = devices.index(lists)
    lines = ',\n'.join(json.dumps(one) for one in devices), ',\n'.join(map(json.dumps, found))
    FILE.write_text('{"origin": "libvirt\'s tests, by tools/recorded_hosts.py",\n"devices": [\n'
                    f'{lines[0]}],\n"hosts": [\n{lines[1]}]}}\n')


if __name__ == '__main__':
    main()
