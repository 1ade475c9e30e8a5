# SPDX-License-Identifier: Apache-2.0
"""What ``./run bench`` is told."""

import argparse

#: In the order in which they run.
PARTS = ('rounds', 'publishing', 'hooks', 'path', 'requests', 'page', 'drain', 'filter')


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(
        prog='./run bench', description='What the package costs, as a table of ratios, and whether that is within the promised limits.')
    told.add_argument('hosts', nargs='*', type=int, default=[100, 1000, 10000], help='how many hosts the filter gets')
    told.add_argument('--only', choices=PARTS, action='append', help='one part; may be given more than once')
    return told
