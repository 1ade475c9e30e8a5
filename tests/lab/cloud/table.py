# SPDX-License-Identifier: Apache-2.0
"""The result of the lab, as a page of the documentation."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
import subprocess
from typing import Iterable, Mapping, Optional, Sequence

from tests.lab.cloud.faults import ELSEWHERE, ROWS, TARGET
from tests.lab.cloud.pairs import times
from tests.lab.cloud.rows import Played, ordered
from tests.lab.cloud.user import Migration

# Characters of a text that a cell shows.
_CELL = 300
_HEAD = f"""\
=======
The lab
=======

``./run lab`` brings up two whole clouds on one machine, side by side, one as Nova comes and one with nova-migcheck: keystone, placement,
glance, neutron, nova-api, conductor and scheduler, and three compute hosts, each with network, mount and UTS namespaces, a libvirtd and a
nova-compute of its own. It sets up the faults that the plugin is there for, one after the other, and asks for a live migration.
``./run lab --story --drain --healthy 200 --rst FILE`` writes this page, ``./run lab E1 T2`` plays those rows, ``./run lab --shell``
leaves a cloud up for you, and ``./run lab --help`` says the rest. Nothing of it stays, and it is not part of ``./run test``.

A server runs on one host; the fault is at {TARGET}, which the scheduler tries first, and the third host is well. The migration is asked
for without a host, except in C5, N1 and the rows K.""".splitlines()
_PACKAGES = ('nova', 'openstack-placement', 'keystone', 'glance', 'neutron', 'nova-migcheck')


def page(command: str, stock: Sequence[Played], plugin: Sequence[Played], pairs: Sequence[tuple[float, float]], story: Sequence[str],
         drain: Sequence[str], versions: Mapping[str, str], virt_type: str) -> str:
    """The whole page in reStructuredText."""
    told = ', '.join(f'{name} {version}' for name, version in versions.items())
    lines = [*_HEAD, '',
             f'Made by ``{command.strip()}`` on {datetime.date.today().isoformat()}, with {told}, ``virt_type = {virt_type}``.', '']
    lines += ['Faults', '======', '']
    lines += _table(('', 'fault', 'stock Nova', 'with nova-migcheck', 'asked at once',
                     'repaired, accepted after', 'what the administrator reads'),
                    [_row(row, stock, plugin) for row in ordered({p.row for p in (*stock, *plugin)})])
    lines += ['', 'Started means that ``pre_live_migration`` ran on the target, by Nova\'s own instance action events.',
              'The seconds after a repair end when ``pre_live_migration`` has begun.', '']
    if story:
        lines += ['The story', '=========', '', *(f'* {_text(line)}' for line in story), '']
    if drain:
        lines += [
            'A host is emptied',
            '=================',
            '',
            *(f'* {_text(line)}' for line in drain),
            '',
        ]
    if pairs:
        lines += ['Healthy migrations', '==================', '', *times(pairs), '']
    lines += ['Not here', '========', '', 'Rows that one machine cannot have:', '']
    lines += [f'* {row}: {reason}' for row, reason in ELSEWHERE.items()]
    return '\n'.join(lines) + '\n'


def _row(row: str, stock: Iterable[Played], plugin: Iterable[Played]) -> tuple[str, ...]:
    before = next((p for p in stock if p.row == row and not p.at_once), None)
    after = next((p for p in plugin if p.row == row and not p.at_once and not p.repaired), None)
    mended = next((p for p in plugin if p.row == row and p.repaired), None)
    at_once = next((p for p in plugin if p.row == row and p.at_once), None)
    told = _plugin(at_once) if at_once or ROWS[row].is_momentary() else 'cannot be'
    return (row, ROWS[row].text, _stock(before), _plugin(after), told, _repaired(mended),
            _short(after.text) if after and after.caught else '')


def _stock(played: Optional[Played]) -> str:
    if played is None or played.migration is None:
        return 'not run'
    told = _short(played.migration.read, 160) if played.migration.read else 'nothing'
    return f'{"**started**" if played.started else "not started"}; {_end(played.migration)}; user reads: {told}'


def _repaired(played: Optional[Played]) -> str:
    if played is None:
        return ''
    told = ', '.join(f'{seconds:.1f} s ({way})' for way, seconds in played.repaired.items())
    return f'**WRONG**: {_short(played.wrong)}' if played.wrong else told


def _plugin(played: Optional[Played]) -> str:
    if played is None or played.migration is None:
        return played.wrong if played else 'not run'
    if played.wrong:
        return f'**WRONG**: {_short(played.wrong)}; {_end(played.migration)}'
    did = {'': 'accepted', 'log': 'down for Nova, its own log says why'}.get(played.caught, f'refused by the {played.caught}')
    return f'{did}; {_end(played.migration)}'


def _end(migration: Migration) -> str:
    runs = ', '.join(f'{state} on {host}' for host, state in migration.running.items()) or 'nowhere'
    return f'{migration.record} after {migration.seconds:.1f} s, server {migration.state}, guest {runs}'


def _short(text: str, size: int = _CELL) -> str:
    text = re.sub(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}', 'UUID', ' '.join(text.split()))
    text = text.split(' || ')[0]
    return text if len(text) <= size else text[:size] + ' …'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ['.. list-table::', '   :header-rows: 1', '   :widths: 4 15 19 19 14 7 22', '']
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f'   {"* -" if number == 0 else "  -"} {_text(cell)}'.rstrip())
    return lines


def _text(said: str) -> str:
    """What nova.conf and log lines are made of must not be taken for markup."""
    return re.sub(r'([\\`|_])', r'\\\1', said)


def versions() -> dict[str, str]:
    """Package or program -> its version, of what runs here."""
    found = {package: importlib.metadata.version(package) for package in _PACKAGES}
    for program in ('libvirtd', 'qemu-system-x86_64'):
        said = subprocess.run([program, '--version'], capture_output=True, text=True).stdout
        found[program] = next(iter(re.findall(r'\d+\.\d+\.\d+', said)), '')
    return {**found, 'Linux': platform.release(), 'Python': platform.python_version()}
