# SPDX-License-Identifier: Apache-2.0
"""``./run lab``: the whole cloud, and the table of faults."""

from __future__ import annotations

import argparse
import code
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Sequence

from tests.lab.cloud import STATE, isolation, story
from tests.lab.cloud.cloud import Cloud, say
from tests.lab.cloud.configuration import AUTH_URL
from tests.lab.cloud.rows import Played, Players, chosen
from tests.lab.cloud.table import page, times
from tests.lab.cloud.user import Server

_SHELL_RC = """
export OS_AUTH_URL={url} OS_USERNAME=admin OS_PASSWORD=lab OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default \\
  OS_PROJECT_DOMAIN_ID=default OS_INTERFACE=internal OS_COMPUTE_API_VERSION=2.96 OS_PLACEMENT_API_VERSION=1.39
export PATH={bin}:$PATH
{nodes}
PS1='lab# '
"""
_SHELL_HELP = """
The lab is up. openstack ...             what the administrator does:  openstack server migrate --live-migration {server}
               compute1 CMD, compute2 CMD, compute3 CMD      in a compute host:  compute2 nft list ruleset; compute2 virsh list
               {state}/log    every service's log;  {state}/hosts/compute1/nova.conf
All of it goes when you leave this shell.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog='./run lab', description='A whole Nova with real libvirt in namespaces, and the table of faults.')
    parser.add_argument('rows', nargs='*', metavar='ROW', help='rows of the table, e.g. E1 T2; all when none is named')
    parser.add_argument('--only', choices=['plugin', 'stock'], help='play the rows only with the plugin, or only without')
    parser.add_argument('--rst', metavar='FILE', help='write the table there')
    parser.add_argument('--healthy', type=int, default=0, metavar='N', help='also N healthy migrations, without the plugin and with it')
    parser.add_argument('--story', action='store_true', help='also the story: three faults, seen, repaired, migrated')
    parser.add_argument('--shell', action='store_true', help='bring it up, and leave you in a shell in it')
    parser.add_argument('--console', action='store_true', help='the same with Python, which has the lab as "cloud"')
    parser.add_argument('--kvm', action='store_true', help='guests with KVM instead of emulation')
    parser.add_argument('--logs', metavar='DIR', help='where the logs of all services are copied to at the end')
    arguments = parser.parse_args()
    terminal = arguments.shell or arguments.console
    if not terminal:
        chosen(arguments.rows)
    return isolation.isolated('tests.lab.cloud', sys.argv[1:], lambda: work(arguments), terminal)


def work(arguments: argparse.Namespace) -> int:
    interactive = arguments.shell or arguments.console
    first_plugin = arguments.only == 'plugin' or (interactive and arguments.only != 'stock')
    try:
        with Cloud(plugin=first_plugin, virt_type='kvm' if arguments.kvm else 'qemu') as cloud:
            if arguments.console:
                code.interact(banner='cloud is the lab', local={'cloud': cloud}, exitmsg='')
                return 0
            return shell(cloud) if arguments.shell else suite(cloud, arguments)
    finally:
        if arguments.logs:
            shutil.copytree(STATE / 'log', arguments.logs, dirs_exist_ok=True)


def suite(cloud: Cloud, arguments: argparse.Namespace) -> int:
    """Play the rows, without the plugin first, and say what came of them. 1 when something is not as it should be."""
    played: dict[bool, list[Played]] = {False: [], True: []}
    healthy: dict[bool, list[float]] = {False: [], True: []}
    for plugin in [False, True] if arguments.only is None else [arguments.only == 'plugin']:
        cloud.use_plugin(plugin)
        players = Players(cloud)
        # With --story or --healthy alone, no row is wanted.
        for row in chosen(arguments.rows) if arguments.rows or not (arguments.story or arguments.healthy) else []:
            played[plugin].append(players.play(row))
        players.done()
        healthy[plugin] = migrations(cloud, arguments.healthy)
        if plugin and arguments.story:
            story.play(cloud)
    pairs = list(zip(healthy[False], healthy[True]))
    for line in times(pairs) if pairs else []:
        print(line)
    if arguments.rst:
        words = [word for word in sys.argv[1:] if not word.startswith('--logs')]
        text = page('./run lab ' + ' '.join(words), played[False], played[True], pairs, cloud.virt_type)
        pathlib.Path(arguments.rst).write_text(text)
    wrong = [one for one in played[True] if one.wrong]
    for one in wrong:
        print(f'{one.row}: {one.wrong}')
    print(f'{len(played[True]) - len(wrong)} of {len(played[True])} rows as they should be with the plugin')
    return 1 if wrong else 0


def migrations(cloud: Cloud, count: int) -> Sequence[float]:
    """Migrate one server round and round, and say how long each took.

    :raises RuntimeError: when one does not complete
    """
    if not count:
        return []
    server = Server(cloud, 'compute1')
    seconds = []
    for number in range(count):
        done = server.migrate(f'compute{(number + 1) % 3 + 1}')
        if not done.completed:
            raise RuntimeError(f'healthy migration {number + 1} did not complete: {done}')
        seconds.append(done.seconds)
    server.delete()
    say(f'{count} healthy migrations {"with" if cloud.plugin else "without"} the plugin')
    return seconds


def shell(cloud: Cloud) -> int:
    """bash with the administrator's credentials, and a word for each host."""
    server = Server(cloud, 'compute1')
    nodes = '\n'.join(f'{name}() {{ nsenter --target {node.host.pid} --net --mount --uts -- "$@"; }}' for name, node in cloud.nodes.items())
    rc = STATE / 'tmp/shellrc'
    rc.write_text(_SHELL_RC.format(url=AUTH_URL, bin=os.path.dirname(sys.executable), nodes=nodes))
    print(_SHELL_HELP.format(server=server.name, state=STATE))
    return subprocess.call(['bash', '--rcfile', str(rc), '-i'])


if __name__ == '__main__':
    sys.exit(main())
