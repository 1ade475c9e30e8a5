# SPDX-License-Identifier: Apache-2.0
"""States of what lies between the two hosts."""

from __future__ import annotations

from typing import Callable

from tests.truth.plan import SOURCE, TARGET, Plan
from tests.truth.stage import Stage
from tests.truth.states import fault, state

LIBVIRT, QEMU = 'tcp dport { 16509, 16514 }', 'tcp dport 49152-49215'


def _usual(plan: Plan) -> None:
    pass


def _late(function: Callable[[Stage], None]) -> Callable[[Plan], None]:
    """A state that comes when the guest runs."""
    return lambda plan: plan.late.append(function)


def _ip(host: str, command: str) -> Callable[[Plan], None]:
    return _late(lambda stage: stage.spaces[host].ip(command))


def _firewall(host: str, rule: str, verdict: str = 'drop') -> Callable[[Plan], None]:
    return _late(lambda stage: stage.spaces[host].drop(rule, verdict))


state('link=up')(_usual)
fault('link=target-down')(_ip(TARGET, 'link set mig0 down'))
fault('link=source-down')(_ip(SOURCE, 'link set mig0 down'))
fault('link=no-carrier')(_late(lambda stage: stage.unplug()))
state('link=management-down')(_ip(TARGET, 'link set mgmt0 down'))

state('route=direct')(_usual)


@fault('route=over-management')
def _(plan: Plan) -> None:
    """The source reaches the target's migration address over the management network."""
    size = 128 if plan.family == 6 else 32
    to, over = plan.address(TARGET, 'mig0'), plan.address(TARGET, 'mgmt0')
    _ip(SOURCE, f'route replace {to}/{size} via {over} dev mgmt0')(plan)


@fault('route=none')
def _(plan: Plan) -> None:
    size = 128 if plan.family == 6 else 32
    _ip(SOURCE, f'route replace unreachable {plan.address(TARGET, "mig0")}/{size}')(plan)


@fault('route=hole')
def _(plan: Plan) -> None:
    size = 128 if plan.family == 6 else 32
    _ip(SOURCE, f'route replace blackhole {plan.address(TARGET, "mig0")}/{size}')(plan)


@fault('route=no-way-back')
def _(plan: Plan) -> None:
    size = 128 if plan.family == 6 else 32
    _ip(TARGET, f'route replace blackhole {plan.address(SOURCE, "mig0")}/{size}')(plan)


state('mtu=1500')(_usual)


def _mtu(source: int, target: int, largest: int = 0) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan.mtu.update({SOURCE: source, TARGET: target})
        plan.largest = largest or None

    return change


state('mtu=9000')(_mtu(9000, 9000))
state('mtu=1500-through-a-small-switch')(_mtu(1500, 1500, 1500))
fault('mtu=9000-through-a-small-switch')(_mtu(9000, 9000, 1500))
fault('mtu=1500-through-a-smaller-switch')(_mtu(1500, 1500, 1400))
fault('mtu=9000-to-1500')(_mtu(9000, 1500))
fault('mtu=1500-to-9000')(_mtu(1500, 9000))
fault('mtu=9000-to-1500-through-a-small-switch')(_mtu(9000, 1500, 1500))

state('firewall=none')(_usual)
state('firewall=icmp-dropped')(_firewall(TARGET, 'meta l4proto icmp'))
state('firewall=udp-dropped')(_firewall(TARGET, 'meta l4proto udp'))
for _what, _rule in (('libvirt', LIBVIRT), ('qemu', QEMU)):
    for _how, _verdict in (
        ('dropped', 'drop'),
        ('rejected', 'reject'),
        ('reset', 'reject with tcp reset'),
        ('prohibited', 'reject with icmpx admin-prohibited'),
    ):
        fault(f'firewall={_what}-{_how}')(_firewall(TARGET, _rule, _verdict))
fault('firewall=qemu-low-dropped')(_firewall(TARGET, 'tcp dport 49152-49160'))
state('firewall=qemu-high-dropped')(_firewall(TARGET, 'tcp dport 49200-49215'))
fault('firewall=source-may-not-leave')(_late(lambda stage: stage.source.drop(QEMU, hook='output')))
fault('firewall=source-drops')(_firewall(SOURCE, 'tcp sport { 16509, 16514 }'))
fault('firewall=migration-network-dropped')(_firewall(TARGET, 'iifname "mig0" tcp dport != 22'))
state('firewall=management-network-dropped')(_firewall(TARGET, 'iifname "mgmt0" tcp dport != 22'))

state('port=free')(_usual)


@state('port=first-taken')
def _(plan: Plan) -> None:
    """Something else listens on QEMU's first port: libvirt takes the next one."""
    plan.late.append(lambda stage: stage.target.listen('::', 49152, lambda connection: None))


@state('port=other-range')
def _(plan: Plan) -> None:
    """The target's QEMU uses other ports than by default."""
    plan.target.qemu.update(migration_port_min=50000, migration_port_max=50015)


@fault('port=other-range-dropped')
def _(plan: Plan) -> None:
    plan.target.qemu.update(migration_port_min=50000, migration_port_max=50015)
    _firewall(TARGET, 'tcp dport 50000-50015')(plan)


@state('port=none-free')
def _(plan: Plan) -> None:
    """libvirt may use four ports only, and other programs have three of them."""
    plan.target.qemu.update(migration_port_min=49152, migration_port_max=49155)

    def take(stage: Stage) -> None:
        for port in (49152, 49153, 49154):
            stage.target.listen('::', port, lambda connection: None)

    plan.late.append(take)
