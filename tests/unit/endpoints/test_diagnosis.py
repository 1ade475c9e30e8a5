# SPDX-License-Identifier: Apache-2.0
"""Answers in, findings out: what matters, and what is one cause."""

from __future__ import annotations

import dataclasses
from typing import Optional

import pytest

from nova_migcheck.checks.endpoint import REQUIRED
from nova_migcheck.endpoints import diagnosis, weights
from nova_migcheck.endpoints.catalog import Catalog, LoginFailed, Missing
from nova_migcheck.endpoints.losses import Losses
from nova_migcheck.endpoints.observations import Picture
from nova_migcheck.endpoints.values import Answer, Endpoint, Fault, Target
from nova_migcheck.finding import MAX_FIELD, Finding, Outcome
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

OK, WARNING, FAILURE, UNKNOWN = Outcome.OK, Outcome.WARNING, Outcome.FAILURE, Outcome.UNKNOWN


class World:
    """A picture in the making."""

    def __init__(self) -> None:
        self.picture = Picture()

    def add(
        self,
        url: str,
        service: str,
        fault: Optional[Fault] = None,
        address: str = '',
        needed_for: str = '',
        group: str = '',
        from_catalog: bool = False,
    ) -> World:
        target = Target(url)
        self.picture.endpoints.setdefault(target, []).append(
            Endpoint(
                target,
                service,
                f'nova.conf [{service}]',
                needed_for or service,
                group,
                from_catalog,
            )
        )
        address = address or target.host
        detail = f'detail of {fault.name}' if fault else 'HTTP 200'
        self.picture.answers.setdefault(target, {})[address] = Answer(address, fault, detail)
        return self

    def findings(self, needed: tuple[str, ...] = REQUIRED) -> list[Finding]:
        return list(
            diagnosis.diagnose(
                self.picture, weights.required(needed), lambda g, o: f'nova.conf [{g}] {o}'
            )
        )

    def bad(self, needed: tuple[str, ...] = REQUIRED) -> list[tuple[Outcome, str, str]]:
        return [
            (f.outcome, f.subject, f.scope) for f in self.findings(needed) if f.outcome is not OK
        ]


def test_all_well() -> None:
    found = World().add('http://10.0.0.5:1', 'placement').findings()
    assert [(f.outcome, f.subject) for f in found] == [(OK, 'http://10.0.0.5:1')]


@pytest.mark.parametrize(
    'service, needed_for, expected',
    [
        ('placement', '', (FAILURE, '')),
        ('network', '', (FAILURE, '')),
        ('message-queue', '', (FAILURE, '')),
        ('identity', 'placement', (FAILURE, '')),
        ('identity', 'block-storage', (FAILURE, 'volumes')),
        ('block-storage', '', (FAILURE, 'volumes')),
        ('key-manager', '', (FAILURE, 'encryption')),
        ('image', '', (WARNING, '')),
        ('memcached', '', (WARNING, '')),
        ('extra', '', (WARNING, '')),
    ],
)
def test_what_matters(service: str, needed_for: str, expected: tuple[Outcome, str]) -> None:
    world = World().add('http://10.0.0.5:1', service, Fault.REFUSED, needed_for=needed_for)
    assert world.bad() == [(expected[0], 'http://10.0.0.5:1', expected[1])]


@pytest.mark.parametrize('fault', Fault)
def test_each_fault_has_its_code(fault: Fault) -> None:
    found = World().add('http://a.example.org:1', 'placement', fault, '10.0.0.5').findings()
    assert [(f.outcome, f.code) for f in found] == [
        (FAILURE, f'endpoint-{fault.name.lower().replace("_", "-")}')
    ]


def test_identity_that_nothing_needed_logs_in_by() -> None:
    """[keystone_authtoken] in nova-compute's file."""
    world = World()
    target = Target('http://10.0.0.5:5000')
    world.picture.endpoints[target] = [Endpoint(target, 'identity', 'x', '')]
    world.picture.answers[target] = {'10.0.0.5': Answer('10.0.0.5', Fault.REFUSED)}
    assert world.bad() == [(WARNING, 'http://10.0.0.5:5000', '')]


def test_required_by_option() -> None:
    world = (
        World()
        .add('http://10.0.0.5:1', 'image', Fault.REFUSED)
        .add('http://10.0.0.6:1', 'placement', Fault.REFUSED)
    )
    assert world.bad(('image:volumes',)) == [
        (FAILURE, 'http://10.0.0.5:1', 'volumes'),
        (WARNING, 'http://10.0.0.6:1', ''),
    ]


def test_one_finding_for_an_address() -> None:
    world = World().add('http://10.0.0.9:1', 'placement')
    for port, service in enumerate(('placement', 'network', 'image', 'block-storage'), 1):
        world.add(f'http://10.0.0.5:{port}', service, Fault.SILENT)
    assert world.bad() == [(FAILURE, '10.0.0.5', '')]
    [found] = [f for f in world.findings() if f.outcome is FAILURE]
    assert all(f'http://10.0.0.5:{port}' in found.detail for port in (1, 2, 3, 4))
    assert found.detail.endswith('1 other endpoint answers')
    assert found.detail.index(':1') < found.detail.index(':3'), 'what matters most comes first'


def test_an_address_that_only_some_servers_need() -> None:
    world = World().add('http://10.0.0.5:1', 'block-storage', Fault.REFUSED)
    world.add('http://10.0.0.5:2', 'key-manager', Fault.REFUSED).add(
        'http://10.0.0.5:3', 'image', Fault.REFUSED
    )
    assert sorted(world.bad()) == [
        (FAILURE, '10.0.0.5', 'encryption'),
        (FAILURE, '10.0.0.5', 'volumes'),
    ]
    world.add('http://10.0.0.5:4', 'placement', Fault.REFUSED)
    assert world.bad() == [(FAILURE, '10.0.0.5', '')]


def test_different_faults_on_one_address() -> None:
    world = (
        World()
        .add('http://10.0.0.5:1', 'placement', Fault.STATUS)
        .add('http://10.0.0.5:2', 'network', Fault.REFUSED)
    )
    [found] = [f for f in world.findings() if f.outcome is FAILURE]
    assert 'detail of STATUS): http://10.0.0.5:1' in found.detail
    assert 'refuses connections: http://10.0.0.5:2' in found.detail


def test_one_of_several_is_enough() -> None:
    world = World().add('amqp://10.0.0.1:5672', 'message-queue', group='message-queue')
    for n in (2, 3):
        world.add(f'amqp://10.0.0.{n}:5672', 'message-queue', Fault.REFUSED, group='message-queue')
    assert world.bad() == [
        (WARNING, 'amqp://10.0.0.2:5672', ''),
        (WARNING, 'amqp://10.0.0.3:5672', ''),
    ]


def test_no_message_queue() -> None:
    """One finding names each host. Another service on one of the addresses keeps its own."""
    world = World().add('http://10.0.0.9:1', 'image')
    for n in (1, 2, 3):
        world.add(f'amqp://10.0.0.{n}:5672', 'message-queue', Fault.REFUSED, group='message-queue')
    world.add('http://10.0.0.1:8780', 'placement', Fault.REFUSED)
    assert world.bad() == [(FAILURE, 'message queue', ''), (FAILURE, 'http://10.0.0.1:8780', '')]
    assert all(f'10.0.0.{n}:5672 refuses' in world.findings()[0].detail for n in (1, 2, 3))


def test_cut_off() -> None:
    world = (
        World()
        .add('http://10.0.0.5:1', 'placement', Fault.SILENT)
        .add('http://10.0.0.6:1', 'image', Fault.UNREACHABLE)
    )
    assert world.bad() == [(FAILURE, 'this host', '')]


@pytest.mark.parametrize('fault', [None, Fault.REFUSED, Fault.STATUS])
def test_not_cut_off(fault: Optional[Fault]) -> None:
    """Whoever refuses is there."""
    world = (
        World()
        .add('http://10.0.0.5:1', 'placement', Fault.SILENT)
        .add('http://10.0.0.6:1', 'image', fault)
    )
    assert world.bad()[0] == (FAILURE, 'http://10.0.0.5:1', '')


def test_one_silent_address_is_not_everything() -> None:
    world = (
        World()
        .add('http://10.0.0.5:1', 'placement', Fault.SILENT)
        .add('http://10.0.0.5:2', 'network', Fault.SILENT)
    )
    assert world.bad() == [(FAILURE, '10.0.0.5', '')]


def test_cut_off_though_loopback_answers() -> None:
    world = (
        World()
        .add('http://10.0.0.5:1', 'placement', Fault.SILENT)
        .add('http://10.0.0.6:1', 'image', Fault.SILENT)
    )
    world.add('memcached://127.0.0.1:11211', 'memcached')
    assert world.bad() == [(FAILURE, 'this host', '')]


def test_no_name_resolves() -> None:
    world = (
        World()
        .add('http://a.cloud:1', 'placement', Fault.NAME)
        .add('http://b.cloud:1', 'image', Fault.NAME)
    )
    assert world.bad() == [(FAILURE, 'resolver', '')]
    world.add('http://10.0.0.5:1', 'network')
    assert world.bad() == [(FAILURE, 'resolver', '')], 'an address needs no resolver'
    world.add('http://c.cloud:1', 'network', address='10.0.0.7')
    assert world.bad() == [(FAILURE, 'http://a.cloud:1', ''), (WARNING, 'http://b.cloud:1', '')]


def test_one_name_does_not_resolve() -> None:
    assert World().add('http://a.cloud:1', 'placement', Fault.NAME).bad() == [
        (FAILURE, 'http://a.cloud:1', '')
    ]
    assert World().add('http://a.cloud:1', 'placement', Fault.RESOLVER).bad() == [
        (FAILURE, 'resolver', '')
    ]


def test_one_address_of_a_name_is_dead() -> None:
    world = World().add('http://a.cloud:1', 'placement', Fault.REFUSED, '10.0.0.5')
    assert world.bad() == [(FAILURE, 'http://a.cloud:1', '')]
    world.picture.answers[Target('http://a.cloud:1')]['10.0.0.6'] = Answer('10.0.0.6')
    assert world.bad() == [(WARNING, 'http://a.cloud:1', '')]
    world.picture.answers[Target('http://a.cloud:1')]['10.0.0.5'] = Answer(
        '10.0.0.5', Fault.UNREACHABLE
    )
    assert world.bad() == []


def login(world: World, result: object) -> World:
    world.picture.shared_login = {'placement': 'placement', 'neutron': 'placement'}
    world.picture.logins = {'placement': result}
    return world


def identity(fault: Optional[Fault]) -> World:
    world = World()
    target = Target('http://10.0.0.5:5000')
    world.picture.endpoints[target] = [
        Endpoint(target, 'identity', 'nova.conf [placement] auth_url', 'placement')
    ]
    world.picture.answers[target] = {'10.0.0.5': Answer('10.0.0.5', fault)}
    return world


def test_login_refused() -> None:
    world = login(identity(None), LoginFailed('keystone answers HTTP 401', 'correct it'))
    assert world.bad() == [(FAILURE, 'login of [placement], [neutron]', '')]
    assert login(identity(None), Catalog(0, [])).bad() == []


def test_keystone_is_dead() -> None:
    """One failure: the address. That the catalog was not fetched is not another one."""
    world = login(identity(Fault.REFUSED), ConnectionRefusedError())
    assert world.bad() == [(FAILURE, 'http://10.0.0.5:5000', ''), (UNKNOWN, 'keystone catalog', '')]
    world.picture.cached = {'placement': 700.0}
    assert world.bad() == [(FAILURE, 'http://10.0.0.5:5000', ''), (WARNING, 'keystone catalog', '')]
    assert '700 s old' in world.findings()[1].detail


def test_keystone_shows_its_versions_and_sends_one_elsewhere() -> None:
    """public_endpoint of keystone.conf."""
    assert login(identity(None), ConnectionRefusedError()).bad() == [
        (FAILURE, 'login of [placement], [neutron]', '')
    ]


def test_keystone_is_slow() -> None:
    """Could not tell."""
    assert login(identity(None), TimeoutError()).bad() == [(UNKNOWN, 'keystone catalog', '')]


def test_a_bug_of_ours_is_not_a_fault_of_keystone() -> None:
    assert login(identity(None), KeyError('x')).bad() == [(UNKNOWN, 'keystone catalog', '')]


def test_missing_in_the_catalog() -> None:
    world = World()
    world.picture.missing = [Missing('network', 'neutron', 'none', 'remedy')]
    assert world.bad() == [(FAILURE, 'network in the service catalog', '')]


def test_a_busy_host_cannot_tell() -> None:
    """What it saw by the clock only warns; a refusal is one however busy it is."""
    world = (
        World()
        .add('http://10.0.0.5:1', 'placement', Fault.SILENT)
        .add('http://10.0.0.6:1', 'network', Fault.REFUSED)
    )
    world.picture.starved = True
    assert world.bad() == [(FAILURE, 'http://10.0.0.6:1', ''), (WARNING, 'http://10.0.0.5:1', '')]
    assert 'too busy for the result' in world.findings()[1].detail


def test_a_finding_stays_short() -> None:
    """The report of a host has 8 KiB."""
    world = World().add('http://10.0.0.9:1', 'image')
    for port in range(100):
        world.add(f'http://10.0.0.5:{port}', 'extra', Fault.SILENT)
        world.add(
            f'amqp://10.1.0.{port % 250}:{port}',
            'message-queue',
            Fault.REFUSED,
            group='message-queue',
        )
    for found in world.findings():
        assert len(found.detail) < MAX_FIELD and len(found.origin) < MAX_FIELD


def test_forty_urls_at_one_dead_address_are_one_finding_that_lists_each() -> None:
    world = World()
    urls = [f'http://10.0.0.5:{8000 + n}/a/path/that/makes/it/long' for n in range(40)]
    for url in urls:
        world.add(url, 'placement', Fault.REFUSED)
    found, = (f for f in world.findings() if f.outcome is not OK)
    assert 'and 30 more' in found.detail and len(found.detail) <= MAX_FIELD
    assert set(found.subjects) == set(urls) and len(found.subjects) == 40
    # As it comes from the checks' process, and as it goes to the scheduler: there without the list.
    assert Finding.from_dict(found.to_dict()) == found and len(found.to_dict()['subjects']) == 40
    texts = published.write(Report(1_764_000_000, (found,)))
    told = published.read(texts)
    assert (
        told is not None
        and told.findings[0].detail == found.detail
        and told.findings[0].subjects == ()
        and not told.dropped
    )
    assert sum(map(len, texts.values())) < 4096 and '8039' not in str(texts)


def test_one_dead_url_needs_no_list() -> None:
    found, = World().add('http://10.0.0.5:1', 'placement', Fault.REFUSED).findings()
    assert found.subjects == () and 'subjects' not in found.to_dict()


def lossy(world: World, *losses: Losses) -> World:
    """Let the first connections have lost so much."""
    answers = world.picture.answers
    for (target, of_target), lost in zip(list(answers.items()), losses):
        answers[target] = {
            address: dataclasses.replace(answer, losses=lost)
            for address, answer in of_target.items()
        }
    return world


def two_services(fault: Optional[Fault] = None) -> World:
    return (
        World()
        .add('http://10.0.0.5:1', 'placement', fault)
        .add('http://10.0.0.5:2', 'network')
    )


def test_packets_that_are_lost_explain_what_came_too_late() -> None:
    world = lossy(two_services(Fault.NO_ANSWER), Losses(3, 6), Losses(2, 5))
    (found,) = [f for f in world.findings() if f.outcome is not OK]
    assert (found.outcome, found.code) == (FAILURE, 'endpoint-packet-loss')
    assert '5 of 11 segments' in found.detail and 'http://10.0.0.5:1' in found.detail
    assert 'nova.conf [placement]' in found.origin and 'ip -s link' in found.remedy


def test_lost_packets_of_services_that_answered_are_a_warning() -> None:
    (found,) = [
        f
        for f in lossy(two_services(), Losses(3, 6), Losses(2, 5)).findings()
        if f.outcome is not OK
    ]
    assert (str(found.outcome), found.code) == ('warning', 'endpoint-packet-loss')


@pytest.mark.parametrize(
    'losses',
    [
        (),
        (Losses(0, 6), Losses(0, 5)),
        (Losses(5, 9), Losses(0, 5)),  # one connection
        (Losses(1, 6), Losses(1, 5)),  # two segments
        (Losses(2, 100), Losses(2, 100)),  # two in a hundred
    ],
)
def test_what_a_healthy_network_loses(losses: tuple[Losses, ...]) -> None:
    world = lossy(two_services(Fault.NO_ANSWER), *losses)
    assert [f.code for f in world.findings() if f.outcome is not OK] == ['endpoint-no-answer']


def test_a_refused_connection_is_not_explained_by_lost_packets() -> None:
    world = lossy(two_services(Fault.REFUSED), Losses(3, 6), Losses(2, 5))
    codes = [f.code for f in world.findings() if f.outcome is not OK]
    assert sorted(codes) == ['endpoint-packet-loss', 'endpoint-refused']
