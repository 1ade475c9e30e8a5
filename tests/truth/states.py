# SPDX-License-Identifier: Apache-2.0
"""The states of which worlds are made, by group. The first state of a group is the usual one.

Whether a state is a fault only decides how often it is drawn: what is true is for
:mod:`tests.truth.reality` to say.
"""

from __future__ import annotations

import dataclasses
from typing import Callable

from tests.truth.plan import INSTANCES, SOURCE, TARGET, Plan


@dataclasses.dataclass(frozen=True)
class State:
    """:param change: what it changes in a plan
    :param along: the state of another group without which it changes nothing, '' for none
    """

    group: str
    name: str
    fault: bool
    change: Callable[[Plan], None]
    along: str = ''

    def __str__(self) -> str:
        return f'{self.group}={self.name}'


GROUPS: dict[str, list[State]] = {}
# Names of the target matter only where Nova is given one.
_ALONG = {'names': 'inbound=name', 'libvirt-name': 'inbound=none'}


def state(
    word: str, fault: bool = False
) -> Callable[[Callable[[Plan], None]], Callable[[Plan], None]]:
    """Make a function a state. Groups change a plan in the order in which they are first named
    here.
    """
    group, _equals, name = word.partition('=')

    def add(change: Callable[[Plan], None]) -> Callable[[Plan], None]:
        GROUPS.setdefault(group, []).append(
            State(group, name, fault, change, _ALONG.get(group, ''))
        )
        return change

    return add


def fault(word: str) -> Callable[[Callable[[Plan], None]], Callable[[Plan], None]]:
    """Make a function a state that is a fault."""
    return state(word, fault=True)


# Addresses and what Nova is told of them.


@state('ip=4')
def _(plan: Plan) -> None:
    plan.names()


@state('ip=6')
def _(plan: Plan) -> None:
    plan.family = 6
    plan.names()


@state('subnet=apart')
def _(plan: Plan) -> None:
    pass


def _one_subnet(plan: Plan) -> None:
    plan.one_subnet = plan.family == 4
    plan.names()


@state('subnet=one-tamed')
def _(plan: Plan) -> None:
    """Both interfaces are in one subnet, and each answers for itself, as the kernel's documentation
    says.
    """
    _one_subnet(plan)
    plan.first.append(lambda stage: stage.tame())


@fault('subnet=one')
def _(plan: Plan) -> None:
    _one_subnet(plan)


@state('inbound=address')
def _(plan: Plan) -> None:
    for name, host in plan.hosts.items():
        host.nova['live_migration_inbound_addr'] = plan.address(name, 'mig0')
    plan.intended = 'mig0'


@state('inbound=name')
def _(plan: Plan) -> None:
    for name, host in plan.hosts.items():
        host.nova['live_migration_inbound_addr'] = f'{name}-mig'
    plan.intended = 'mig0'


@state('inbound=none')
def _(plan: Plan) -> None:
    plan.intended = None


@state('inbound=management')
def _(plan: Plan) -> None:
    for name, host in plan.hosts.items():
        host.nova['live_migration_inbound_addr'] = plan.address(name, 'mgmt0')
    plan.intended = 'mgmt0'


def _only_target(plan: Plan, address: str) -> None:
    plan.source.nova['live_migration_inbound_addr'] = plan.address(SOURCE, 'mig0')
    plan.target.nova['live_migration_inbound_addr'] = address
    plan.intended = 'mig0'


@fault('inbound=nobody')
def _(plan: Plan) -> None:
    _only_target(plan, plan.nobody())


@fault('inbound=loopback')
def _(plan: Plan) -> None:
    _only_target(plan, '127.0.0.1' if plan.family == 4 else '::1')


@fault('inbound=of-source')
def _(plan: Plan) -> None:
    _only_target(plan, plan.address(SOURCE, 'mig0'))


@fault('inbound=unresolvable')
def _(plan: Plan) -> None:
    _only_target(plan, 'node2-nowhere')


@state('intent=inbound')
def _(plan: Plan) -> None:
    pass


@state('intent=networks')
def _(plan: Plan) -> None:
    plan.everywhere(migration_networks=[plan.prefix('mig0')])
    # In one subnet, either interface is in the network.
    plan.intended = None if plan.one_subnet else 'mig0'


@state('intent=interface')
def _(plan: Plan) -> None:
    plan.everywhere(migration_interface='mig0')
    plan.intended = 'mig0'


# Names.


@state('names=right')
def _(plan: Plan) -> None:
    pass


@fault('names=two-right')
def _(plan: Plan) -> None:
    """The name has another address, which comes second and leads to the target as well."""
    plan.resolve_on(plan.source, plan.address(TARGET, 'mig0'), plan.address(TARGET, 'mgmt0'))


@state('names=loopback-on-target')
def _(plan: Plan) -> None:
    """Debian's line for the own name: it harms nobody else."""
    plan.resolve_on(plan.target, '127.0.1.1')


@state('names=both-families')
def _(plan: Plan) -> None:
    """The name has an address of either family, and libvirt listens on both."""
    other = 10 - plan.family
    plan.first.append(lambda stage: stage.second_family(other))
    plan.resolve_on(plan.source, plan.address(TARGET, 'mig0'), plan.address(TARGET, 'mig0', other))
    plan.target.lines.append(f'{plan.address(TARGET, "mig0", other)} {plan.used}')


@fault('names=wrong-network')
def _(plan: Plan) -> None:
    plan.resolve_on(plan.source, plan.address(TARGET, 'mgmt0'))


@fault('names=unknown')
def _(plan: Plan) -> None:
    plan.resolve_on(plan.source)


@fault('names=loopback')
def _(plan: Plan) -> None:
    plan.resolve_on(plan.source, '127.0.1.1')


@fault('names=own')
def _(plan: Plan) -> None:
    plan.resolve_on(plan.source, plan.address(SOURCE, 'mig0'))


@fault('names=nobody')
def _(plan: Plan) -> None:
    plan.resolve_on(plan.source, plan.nobody())


@fault('names=nobody-first')
def _(plan: Plan) -> None:
    plan.resolve_on(plan.source, plan.nobody(), plan.address(TARGET, 'mig0'))


@fault('names=nobody-second')
def _(plan: Plan) -> None:
    plan.resolve_on(plan.source, plan.address(TARGET, 'mig0'), plan.nobody())


@state('libvirt-name=short')
def _(plan: Plan) -> None:
    pass


def _libvirt_name(plan: Plan, name: str, address: str = '') -> None:
    """libvirt puts its name of the target into the answer, and QEMU on the source goes there if
    Nova gives no address.
    """
    plan.target.qemu['migration_host'] = name
    if address:
        plan.source.lines.append(f'{address} {name}')


@state('libvirt-name=long')
def _(plan: Plan) -> None:
    _libvirt_name(plan, 'node2.example.org', plan.address(TARGET, 'mgmt0'))
    plan.target.lines.append(f'{plan.address(TARGET, "mgmt0")} node2.example.org')


@fault('libvirt-name=unknown')
def _(plan: Plan) -> None:
    _libvirt_name(plan, 'node2.example.org')


@fault('libvirt-name=other-network')
def _(plan: Plan) -> None:
    _libvirt_name(plan, 'node2.example.org', plan.address(TARGET, 'mig0'))


# The instances directory.


@state('disk=none')
def _(plan: Plan) -> None:
    pass


@state('disk=shared')
def _(plan: Plan) -> None:
    plan.disk = True


@state('disk=local')
def _(plan: Plan) -> None:
    plan.disk = True
    for host in plan.hosts.values():
        host.share = 'local'


@fault('disk=shared-missing')
def _(plan: Plan) -> None:
    plan.disk, plan.target.share = True, 'local'


@fault('disk=shared-other')
def _(plan: Plan) -> None:
    plan.disk, plan.target.share = True, 'other'


@fault('disk=shared-read-only')
def _(plan: Plan) -> None:
    plan.disk, plan.target.share = True, 'read-only'


@fault('disk=no-directory')
def _(plan: Plan) -> None:
    plan.disk = True
    plan.target.nova['instances_path'] = INSTANCES + '-gone'


# Loaded here, so that their groups come after these.
from tests.truth import states_libvirt, states_network  # noqa: E402, F401
