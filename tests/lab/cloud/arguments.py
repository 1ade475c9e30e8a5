# SPDX-License-Identifier: Apache-2.0
"""What ``./run lab`` is told."""

import argparse


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(prog='./run lab', description='A whole Nova with real libvirt in namespaces, and the table of faults.')
    told.add_argument('rows', nargs='*', metavar='ROW', help='rows of the table, e.g. E1 T2; all when none is named')
    told.add_argument('--only', choices=['plugin', 'stock'], help='play the rows only with the plugin, or only without')
    told.add_argument('--rst', metavar='FILE', help='write the table there')
    told.add_argument('--healthy', type=int, default=0, metavar='N',
                      help='also N healthy migrations without the plugin and N with it, in turns, and the ratio of their times')
    told.add_argument('--story', action='store_true', help='also the story: three faults, seen, repaired, migrated')
    told.add_argument(
        '--drain',
        action='store_true',
        help='also a host that is emptied by the commands of its plan',
    )
    told.add_argument('--rehearsals', type=int, default=0, metavar='N',
                      help='also N rehearsals in both directions while servers come, move and go: '
                           'what Nova sees of them')
    told.add_argument(
        '--on-call',
        action='store_true',
        help='also three alerts, each from its firing to the end of its runbook, with '
        'every command as printed',
    )
    told.add_argument('--at-once', action='store_true',
                      help='ask for the migration within three seconds of the fault, before any round of checks; for the '
                           'rows whose fault can arise in a moment')
    told.add_argument('--repaired', action='store_true',
                      help='ask for the migration a moment after the fault was repaired, while the reports still tell of it: '
                           'A9, E1, S1 and T1')
    told.add_argument('--shell', action='store_true', help='bring it up, and leave you in a shell in it')
    told.add_argument('--console', action='store_true', help='the same with Python, which has the lab as "cloud"')
    told.add_argument('--kvm', action='store_true', help='guests with KVM instead of emulation')
    told.add_argument('--logs', metavar='DIR', help='where the logs of all services are copied to at the end')
    told.add_argument('--results', metavar='DIR', help='keep there what came of it, row by row')
    told.add_argument('--merge', metavar='DIR', nargs='+', help='play nothing: conclude from what --results has kept')
    return told
