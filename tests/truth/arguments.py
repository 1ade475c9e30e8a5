# SPDX-License-Identifier: Apache-2.0
"""What ``./run truth`` is told."""

import argparse


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(
        prog='./run truth',
        description='Random states of two hosts in namespaces, each with a libvirtd and QEMU: what the checks say, and whether a real '
        'migration then works. Fails when they disagree and nobody has explained it.',
    )
    told.add_argument('--worlds', type=int, default=20, metavar='N', help='how many (20)')
    told.add_argument(
        '--seed', type=int, default=1, metavar='S', help='a seed always draws the same worlds (1)'
    )
    told.add_argument(
        '--first', type=int, default=0, metavar='N', help='leave out those before this one'
    )
    told.add_argument(
        '--world',
        metavar='WORDS',
        action='append',
        help='play this world, as a disagreement names it, e.g. "inbound=name mtu=9000"',
    )
    told.add_argument(
        '--singles', action='store_true', help='play each state by itself instead of random worlds'
    )
    told.add_argument('--jobs', type=int, default=3, metavar='N', help='worlds at a time (3)')
    told.add_argument('--rst', metavar='FILE', help='write the table there, too')
    return told
