# SPDX-License-Identifier: Apache-2.0
"""``./run lab``: the whole cloud, and the table of faults."""

from __future__ import annotations

import argparse
import code
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Optional, Sequence

from tests.lab.cloud import STATE, drain, isolation, oncall, rehearsals, story
from tests.lab.cloud.arguments import parser
from tests.lab.cloud.cloud import Cloud
from tests.lab.cloud.pairs import Line, migrations, times
from tests.lab.cloud.rows import Played, Players, chosen
from tests.lab.cloud.table import page, versions
from tests.lab.cloud.user import ADMINISTRATOR, Migration, Server

SIDES = ('stock', 'plugin')

_SHELL_RC = """
export {administrator}
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
    arguments = parser().parse_args()
    if arguments.merge:
        return conclude(arguments, *merged([result for kept in arguments.merge for result in Result.kept(kept)]))
    terminal = arguments.shell or arguments.console
    if not terminal:
        chosen(arguments.rows, arguments.at_once, arguments.repaired)
    if terminal or arguments.only:
        return isolation.isolated('tests.lab.cloud', [sys.argv[1:]], lambda: work(arguments), terminal)
    with tempfile.TemporaryDirectory(prefix='lab-') as directory:
        kept = arguments.results or directory
        # Two clouds side by side: most of the time both wait.
        logs = {side: ['--logs', f'{arguments.logs}/{side}'] if arguments.logs else [] for side in SIDES}
        status = isolation.isolated(
            'tests.lab.cloud', [[*sys.argv[1:], '--only', side, '--results', kept, *logs[side]] for side in SIDES],
            lambda: work(arguments), descriptors=Line.ends())
        results = Result.kept(kept)
    if len(results) < len(SIDES):
        print('the lab did not come to its end', file=sys.stderr)
        return status or 1
    # Also when one of them broke: what was seen until then is worth a table.
    return conclude(arguments, *results) or status


def work(arguments: argparse.Namespace) -> int:
    """Inside: one cloud, and what is to be done with it."""
    line = Line.inherited()
    try:
        with Cloud(plugin=arguments.only != 'stock', virt_type='kvm' if arguments.kvm else 'qemu') as cloud:
            if arguments.console:
                code.interact(banner='cloud is the lab', local={'cloud': cloud}, exitmsg='')
                return 0
            if arguments.shell:
                return shell(cloud)
            result = suite(cloud, arguments, line)
    finally:
        if arguments.logs:
            shutil.copytree(STATE / 'log', arguments.logs, dirs_exist_ok=True)
    # Of two clouds, whoever started both concludes.
    return 0 if line else conclude(arguments, result)


@dataclasses.dataclass
class Result:
    """What came of one cloud.

    :ivar healthy: seconds that each healthy migration took
    :ivar story: what the story came to, line by line
    :ivar drain: the same of the host that is emptied
    :ivar rehearsals: what Nova saw of rehearsals, line by line
    """

    plugin: bool
    virt_type: str
    played: list[Played] = dataclasses.field(default_factory=list)
    healthy: list[float] = dataclasses.field(default_factory=list)
    story: list[str] = dataclasses.field(default_factory=list)
    drain: list[str] = dataclasses.field(default_factory=list)
    command: str = ''
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    rehearsals: list[str] = dataclasses.field(default_factory=list)

    def write(self, directory: Optional[str]) -> None:
        if directory:
            pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
            pathlib.Path(directory, f'{SIDES[self.plugin]}.json').write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def kept(cls, directory: str) -> list[Result]:
        """What was written there, stock first."""
        return [cls._read(file) for file in (pathlib.Path(directory, f'{side}.json') for side in SIDES) if file.exists()]

    @classmethod
    def _read(cls, file: pathlib.Path) -> Result:
        told = json.loads(file.read_text())
        played = [Played(**{**one, 'migration': one['migration'] and Migration(**one['migration'])}) for one in told.pop('played')]
        return cls(**told, played=played)


def suite(cloud: Cloud, arguments: argparse.Namespace, line: Optional[Line]) -> Result:
    """Play the rows, then the healthy migrations, then the other parts that are asked for.

    :raises AssertionError: when one of these goes another way
    """
    result = Result(cloud.plugin, cloud.virt_type, command=_command(sys.argv[1:], alone=line is None), versions=versions())
    if arguments.at_once or arguments.repaired:
        cloud.check_seldom()
    players = Players(cloud, arguments.at_once, arguments.repaired)
    # With a part that is asked for and no table to be written, no row is wanted that is not named.
    parts = (arguments.story, arguments.drain, arguments.healthy, arguments.rehearsals,
             arguments.on_call)
    wanted = arguments.rows or arguments.rst or not any(parts)
    for row in chosen(arguments.rows, arguments.at_once, arguments.repaired) if wanted else []:
        result.played.append(players.play(row))
        result.write(arguments.results)
    players.done()
    for seconds in migrations(cloud, arguments.healthy, line):
        result.healthy.append(seconds)
        result.write(arguments.results)
    if cloud.plugin and arguments.story:
        result.story += story.play(cloud)
    if cloud.plugin and arguments.drain:
        result.drain += drain.play(cloud)
    if cloud.plugin and arguments.rehearsals:
        result.rehearsals += rehearsals.play(cloud, arguments.rehearsals)
    if cloud.plugin and arguments.on_call:
        oncall.play(cloud)
    result.write(arguments.results)
    return result


def merged(results: Sequence[Result]) -> list[Result]:
    """One result for each side, stock first; what comes later holds."""
    sides = []
    for plugin in (False, True):
        of = [result for result in results if result.plugin is plugin]
        if of:
            played = {(one.row, one.at_once, bool(one.repaired)): one for result in of for one in result.played}
            healthy, told, emptied = (
                next((found for result in of[::-1] if (found := getattr(result, what))), [])
                for what in ('healthy', 'story', 'drain')
            )
            commands = dict.fromkeys(result.command for result in of)
            sides.append(
                Result(
                    plugin,
                    of[0].virt_type,
                    list(played.values()),
                    healthy,
                    told,
                    emptied,
                    '; '.join(commands),
                    {
                        name: ' and '.join(
                            dict.fromkeys(
                                result.versions[name] for result in of if name in result.versions
                            )
                        )
                        for name in of[-1].versions
                    },
                )
            )
    return sides


def conclude(arguments: argparse.Namespace, *results: Result) -> int:
    """Say what came of it, and write the page. 1 when something is not as it should be."""
    stock, plugin = ([one for result in results if result.plugin is side for one in result.played] for side in (False, True))
    pairs = list(zip(*(result.healthy for result in results))) if len(results) > 1 else []
    for line in times(pairs) if pairs else []:
        print(line)
    for text in results[-1].rehearsals:
        print(text)
    if arguments.rst:
        command = '; '.join(dict.fromkeys(result.command for result in results))
        pathlib.Path(arguments.rst).write_text(
            page(
                command,
                stock,
                plugin,
                pairs,
                results[-1].story,
                results[-1].drain,
                results[-1].versions,
                results[0].virt_type,
            )
        )
    wrong = [one for one in plugin if one.wrong]
    for one in wrong:
        print(f'{one.row}: {one.wrong}')
    broken = [one for one in stock if one.migration is None]
    for one in broken:
        print(f'{one.row} without the plugin: {one.wrong}')
    print(f'{len(plugin) - len(wrong)} of {len(plugin)} rows as they should be with the plugin, {len(stock)} seen without it')
    return 1 if wrong or broken else 0


def _command(words: Sequence[str], alone: bool) -> str:
    """What was typed, without where something was written to.

    :param alone: whether there is no other cloud, and ``--only`` was typed too
    """
    said = list(words)
    for option in ('--logs', '--results', '--rst', *(() if alone else ('--only',))):
        while option in said:
            del said[said.index(option):said.index(option) + 2]
    return ' '.join(['./run lab', *said])


def shell(cloud: Cloud) -> int:
    """bash with the administrator's credentials, and a word for each host."""
    server = Server(cloud, 'compute1')
    nodes = '\n'.join(f'{name}() {{ nsenter --target {node.host.pid} --net --mount --uts -- "$@"; }}' for name, node in cloud.nodes.items())
    rc = STATE / 'tmp/shellrc'
    administrator = ' '.join(f'{name}={value}' for name, value in ADMINISTRATOR.items())
    rc.write_text(_SHELL_RC.format(administrator=administrator, bin=os.path.dirname(sys.executable),
                                   nodes=nodes))
    print(_SHELL_HELP.format(server=server.name, state=STATE))
    return subprocess.call(['bash', '--rcfile', str(rc), '-i'])


if __name__ == '__main__':
    sys.exit(main())
