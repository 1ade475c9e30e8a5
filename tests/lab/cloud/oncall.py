# SPDX-License-Identifier: Apache-2.0
"""Whoever is on call: an alert fires, its page and the page of the code are followed to the end.

Each command of "See it by hand" is run as printed, with the lab's names for the pages' examples. It
must show what the page says that it shows. The fault is then mended as the page says, and the alert
is over. Prometheus scrapes what ``nova-migcheck hosts --prometheus`` writes, with the alerts as
they are shipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import threading
from typing import Callable, Iterator, Mapping, Optional, Sequence

from tests import prometheus
from tests.lab.cloud import ROOT, STATE
from tests.lab.cloud.cloud import Cloud, say
from tests.lab.cloud.configuration import PORTS, VIP
from tests.lab.cloud.service import until
from tests.lab.cloud.user import ADMINISTRATOR, Server

_CONF = STATE / 'etc/nova/nova.conf'
#: Seconds between two writings of the metrics, and two scrapes. A timer has 60.
_OFTEN = 5
#: Seconds until an alert fires or is over: how long it must last, and a few rounds of the lab.
_HEARD = 300
_CONTROLLER = ''
#: What hosts need. The lab has no cinder, without which the check would fail on all of them.
_SERVICES = 'identity,placement,network,message-queue'
# What a terminal is told besides the text.
_STYLE = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]|\r')


@dataclasses.dataclass(frozen=True)
class Line:
    """A command of a page.

    :ivar text: as it is printed there
    :ivar host: where it is run; '' for the controller
    :ivar shows: what its output has, as a regular expression
    :ivar instead: the lab's names for the examples of the page
    """

    text: str
    host: str
    shows: str
    instead: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Drill:
    """One night.

    :ivar alert: what fires
    :ivar pages: page -> the commands of its "See it by hand", and what else of it is typed
    :ivar then: what is typed when the fault is mended
    """

    alert: str
    pages: Mapping[str, Sequence[Line]]
    then: Sequence[Line] = ()

    def as_printed(self) -> bool:
        """Return whether the alert leads to the pages, and the pages say all this and no more."""
        told = next(rule for rule in prometheus.ALERTS if rule['alert'] == self.alert)
        assert next(iter(self.pages)) == told['annotations']['runbook']
        for page, lines in self.pages.items():
            text = (ROOT / f'doc/source/{page}.rst').read_text()
            seen = re.findall(r'(?m)^   [$#] (.+)$', text.partition('\nMend it\n')[0])
            assert seen == [line.text for line in lines][: len(seen)], f'{page}: {seen}'
            whole = ' '.join(text.split())
            assert all(line.text in whole for line in lines), page
        return True


class OnCall:
    """Follows the pages in one cloud, and tells what was seen."""

    def __init__(self, cloud: Cloud, ask: prometheus.Ask) -> None:
        self._cloud, self._ask = cloud, ask
        self.told: list[str] = []

    def play(
        self, drill: Drill, break_it: Callable[[], None], mend: Optional[Callable[[], None]] = None
    ) -> None:
        """Play one drill.

        :param mend: what the page says to do, where the lab has no systemd or docker for it
        :raises AssertionError: when a command does not show what the page says
        """
        break_it()
        until(
            _HEARD, f'{drill.alert} fires', lambda: drill.alert in prometheus.firing(self._ask), 1
        )
        self._tell(f'{drill.alert} fires')
        assert drill.as_printed()
        for page, lines in drill.pages.items():
            self._follow(page, lines)
        if mend is not None:
            mend()
        for line in drill.then:
            self._wait(line)
        until(
            _HEARD,
            f'{drill.alert} is over',
            lambda: drill.alert not in prometheus.firing(self._ask),
            1,
        )
        self._tell(f'{drill.alert} is over')

    def _follow(self, page: str, lines: Sequence[Line]) -> None:
        self._tell(f'page {page}')
        for line in lines:
            self._type(line)

    def _wait(self, line: Line) -> None:
        """Type a line again and again: a service that was started may not answer yet."""
        until(_HEARD, f'{line.text} shows {line.shows}', lambda: self._shown(line)[0], 1)
        self._type(line)

    def _type(self, line: Line) -> None:
        found, text, shown = self._shown(line)
        assert found, f'{line.host or "controller"}: {text}\n{shown}'
        self._tell(f'  {line.host or "controller"}: {text}: {found[0].strip()}')

    def _shown(self, line: Line) -> tuple[Optional[re.Match[str]], str, str]:
        """Run a line. What it was to show if it did, what was typed, and all that came."""
        text = line.text
        for example, real in line.instead.items():
            assert example in text, (example, text)
            text = text.replace(example, real)
        if text.startswith('nova-migcheck'):
            # The lab has no /etc/nova.
            conf = self._cloud.nodes[line.host].conf if line.host else _CONF
            text = f'{text} --config-file {conf}'
        # With a terminal, as whoever is on call has one.
        command = ['script', '--quiet', '--return', '--command', text, '/dev/null']
        if line.host:
            command = self._cloud.nodes[line.host].host.inside(*command)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            cwd=STATE,
            env=_environment(),
        )
        shown = _STYLE.sub('', done.stdout)
        # A text may go on in the next line of a terminal.
        found = re.search(line.shows, shown) or re.search(line.shows, ' '.join(shown.split()))
        return found, text, shown

    def _tell(self, line: str) -> None:
        say(f'on call: {line}')
        self.told.append(line)


def _environment() -> dict[str, str]:
    path = f'{pathlib.Path(sys.prefix) / "bin"}:{os.environ["PATH"]}'
    width = {'COLUMNS': '200', 'TERM': 'xterm'}
    return {**os.environ, **ADMINISTRATOR, **width, 'PATH': path}


@contextlib.contextmanager
def _monitored() -> Iterator[prometheus.Ask]:
    """Write the metrics again and again, as a timer does, and have them scraped."""
    directory = STATE / 'prometheus'
    directory.mkdir()
    stop = threading.Event()

    def write() -> None:
        command = str(pathlib.Path(sys.prefix) / 'bin/nova-migcheck')
        while not stop.is_set():
            subprocess.run(
                [
                    command,
                    'hosts',
                    '--prometheus',
                    str(directory / 'fleet.prom'),
                    '--config-file',
                    str(_CONF),
                ],
                stdout=subprocess.DEVNULL,
                timeout=60,
            )
            stop.wait(_OFTEN)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        with prometheus.running(directory, ['fleet'], f'{_OFTEN}s', at_once=False) as ask:
            until(60, 'the metrics are scraped', lambda: ask('nova_migcheck_hosts'), 0.5)
            yield ask
    finally:
        stop.set()
        writer.join(60)


def play(cloud: Cloud) -> list[str]:
    """Play three nights, and return what was seen, line by line.

    :raises AssertionError: where a page does not lead to the end
    """
    _configure(cloud, {'stale_after': 30}, {'required_services': _SERVICES})
    server = Server(cloud, 'compute3')
    with _monitored() as ask:
        # A night begins in peace.
        until(_HEARD, 'no alert is near', lambda: not ask('ALERTS'), 1)
        one = OnCall(cloud, ask)
        stale, dead, without_target = drills(server.name)
        one.play(stale, *_stopped(cloud))
        one.play(dead, *_dead(cloud))
        one.play(without_target, *_link_down(cloud))
    done = server.migrate('compute1')
    assert done.completed, done
    one.told.append(f'{server.name} went from compute3 to compute1 in {done.seconds:.1f} s')
    server.delete()
    _configure(cloud, {}, {})
    return one.told


def _configure(cloud: Cloud, control: Mapping[str, object], hosts: Mapping[str, object]) -> None:
    """Set options of ``[migcheck]`` on the controller and on the hosts; none: as it was."""
    cloud.control.more = {'migcheck': dict(control)}
    cloud.control.configure()
    for node in cloud.nodes.values():
        node.more = {'migcheck': dict(hosts)}
        node.configure()
    cloud.restart_computes()


_STALE = Drill(
    'NovaMigcheckReportStale',
    {
        'alerts/NovaMigcheckReportStale': [
            Line('nova-migcheck hosts --only-bad', _CONTROLLER, 'compute3 .*stale'),
            Line(
                'openstack compute service list --service nova-compute',
                _CONTROLLER,
                r'compute3 .* down',
            ),
        ],
        'runbooks/report-stale': [
            Line(
                'nova-migcheck hosts compute2',
                _CONTROLLER,
                'compute3 .*stale',
                {'compute2': 'compute3'},
            ),
            Line(
                'openstack compute service list --host compute2',
                _CONTROLLER,
                'compute3 .* down',
                {'compute2': 'compute3'},
            ),
            Line('date -u', 'compute3', r'UTC'),
            Line(
                'grep -E "ERROR|WARNING" /var/log/nova/nova-compute.log | tail',
                'compute3',
                '',
                {'/var/log/nova/nova-compute.log': f'{STATE}/log/nova-compute-compute3.log'},
            ),
        ],
    },
    [
        Line(
            'nova-migcheck hosts compute2',
            _CONTROLLER,
            'compute3 .*fresh',
            {'compute2': 'compute3'},
        )
    ],
)


def _stopped(cloud: Cloud) -> tuple[Callable[[], None], Callable[[], None]]:
    """nova-compute of compute3 is down; ``systemctl start nova-compute``."""

    def mend() -> None:
        node = cloud.nodes['compute3']
        node.wait_ready(node.start())
        until(60, 'a fresh report', lambda: cloud.up('compute3'), 0.5)

    return lambda: cloud.nodes['compute3'].compute.stop(0), mend


_URL = f'http://{VIP}:{PORTS["network"]}'
_DEAD = Drill(
    'NovaMigcheckCheckFailsOnManyHosts',
    {
        'alerts/NovaMigcheckCheckFailsOnManyHosts': [
            Line('nova-migcheck hosts --only-bad', _CONTROLLER, 'compute2 .*failure'),
            Line('nova-migcheck hosts compute2', _CONTROLLER, 'runbooks/endpoint-refused'),
            Line('nova-migcheck check', 'compute2', 'runbooks/endpoint-refused'),
        ],
        'runbooks/endpoint-refused': [
            Line('nova-migcheck check --only endpoint', 'compute2', re.escape(_URL)),
            Line(
                'curl -sv -m 5 http://10.0.0.5:8780',
                'compute2',
                'Connection refused',
                {'http://10.0.0.5:8780': _URL},
            ),
            Line(
                'openstack endpoint list --service placement',
                _CONTROLLER,
                re.escape(_URL),
                {'placement': 'network'},
            ),
            Line(
                'ip -brief address | grep 10.0.0.5',
                _CONTROLLER,
                re.escape(VIP),
                {'10.0.0.5': VIP},
            ),
            # Nothing listens: the head of the table is all.
            Line(
                "ss -ltnp '( sport = :8780 )'",
                _CONTROLLER,
                r'\AState[^\n]*\s*\Z',
                {'8780': str(PORTS['network'])},
            ),
        ],
    },
    [
        Line(
            'nova-migcheck check --only endpoint',
            'compute2',
            f'{re.escape(_URL)}: [0-9.]+: HTTP 200',
        )
    ],
)


def _dead(cloud: Cloud) -> tuple[Callable[[], None], Callable[[], None]]:
    """neutron does not run; "start what should listen"."""
    neutron = cloud.control.services['network']

    def mend() -> None:
        neutron.start()
        neutron.wait_listening(VIP, PORTS['network'], 120)

    return neutron.stop, mend


def drills(server: str) -> tuple[Drill, Drill, Drill]:
    """Return the three nights.

    :param server: name of the one that is on compute3
    """
    return _STALE, _DEAD, _without_target(server)


def _without_target(server: str) -> Drill:
    named = {'web1': server}
    return Drill(
        'NovaMigcheckHostCannotBeEmptied',
        {
            'alerts/NovaMigcheckHostCannotBeEmptied': [
                Line('nova-migcheck matrix', _CONTROLLER, 'runbooks/address-link-down'),
                Line('nova-migcheck hosts --only-bad', _CONTROLLER, 'compute1 .*failure'),
                Line('nova-migcheck explain web1', _CONTROLLER, 'rejected', named),
                Line('nova-migcheck hosts compute2', _CONTROLLER, 'runbooks/address-link-down'),
            ],
            'runbooks/address-link-down': [
                Line('nova-migcheck check --only address', 'compute2', 'mig0.* is down'),
                Line('ip -brief link show mig0', 'compute2', 'DOWN'),
                Line('ethtool mig0', 'compute2', 'Link detected: no'),
                # The lab has no bond.
                Line('cat /proc/net/bonding/bond0', 'compute2', 'No such file'),
                Line('ip link set mig0 up', 'compute2', ''),
                Line('ip link set mig0 up', 'compute1', ''),
                Line('nova-migcheck check --only address', 'compute2', r'(?m)^\d+ ok on compute2'),
            ],
        },
        [
            Line(
                'nova-migcheck drain compute1',
                _CONTROLLER,
                '1 of 1 servers can go',
                {'compute1': 'compute3'},
            )
        ],
    )


def _link_down(cloud: Cloud) -> tuple[Callable[[], None]]:
    """The migration interfaces of compute1 and compute2 are down, so compute3 has no target."""

    def break_it() -> None:
        for name in ('compute1', 'compute2'):
            cloud.nodes[name].host.ip('link set mig0 down')

    return (break_it,)
