# SPDX-License-Identifier: Apache-2.0
"""``./run lab``: the whole cloud, and the table of faults."""

from __future__ import annotations

import argparse
import code
import os
import shutil
import subprocess
import sys

from tests.lab.cloud import STATE, isolation
from tests.lab.cloud.cloud import Cloud


def main() -> int:
    parser = argparse.ArgumentParser(prog='./run lab', description='A whole Nova with real libvirt in namespaces, and the table of faults.')
    parser.add_argument('rows', nargs='*', metavar='ROW', help='rows of the table, e.g. E1 T2; all when none is named')
    parser.add_argument('--shell', action='store_true', help='bring it up, and leave you in a shell in it')
    parser.add_argument('--console', action='store_true', help='the same with Python, which has the lab as "cloud"')
    parser.add_argument('--stock', action='store_true', help='with --shell: without the plugin')
    parser.add_argument('--logs', metavar='DIR', help='where the logs of all services are copied to at the end')
    arguments = parser.parse_args()
    return isolation.isolated('tests.lab.cloud', sys.argv[1:], lambda: work(arguments), terminal=arguments.shell or arguments.console)


def work(arguments: argparse.Namespace) -> int:
    try:
        with Cloud(plugin=not arguments.stock) as cloud:
            if arguments.shell:
                return shell(cloud)
            if arguments.console:
                return console(cloud)
    finally:
        if arguments.logs:
            shutil.copytree(STATE / 'log', arguments.logs, dirs_exist_ok=True)
    return 0


def shell(cloud: Cloud) -> int:
    return subprocess.call([os.environ.get('SHELL', '/bin/sh')])


def console(cloud: Cloud) -> int:
    """Python with the running cloud in its hands, from standard input."""
    code.interact(banner='cloud is the lab; tests.lab.cloud.user has Server', local={'cloud': cloud}, exitmsg='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
