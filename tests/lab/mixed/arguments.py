# SPDX-License-Identifier: Apache-2.0
"""What ``./run mixed`` is told."""

import argparse


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(
        prog='./run mixed',
        description='Real migrations between a libvirtd of this Debian and one of another release, '
                    'both ways, and what is said of each beforehand. Fails when they disagree.')
    told.add_argument('guests', nargs='*', metavar='GUEST',
                      help='only guests with this in their names, e.g. EPYC; all by default')
    told.add_argument('--virt', choices=['qemu', 'kvm'], action='append',
                      help='only with emulation, or only with KVM; both by default')
    told.add_argument('--rst', metavar='FILE', help='write the table there, too')
    return told
