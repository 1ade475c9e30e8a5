# SPDX-License-Identifier: Apache-2.0
"""What a host says about itself, to the word: a decision, a cache and a person read it."""
import dataclasses
from types import SimpleNamespace

import pytest

from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu.population import GuestCpus, guest_by_default
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report.report import Report, build, summarise
from tests.facts import BUILT_IN

HOST = Cpu('x86_64', 'kvm', 'Intel', 'Skylake', frozenset({'fpu', 'sse2', 'avx'}))
LESS = dataclasses.replace(HOST, features=frozenset({'fpu'}))
UUIDS = [f'{n}0000000-0000-4000-8000-00000000000{n}' for n in range(1, 5)]
OPTIONS = SimpleNamespace(round_deadline=15, stale_after=300)


@pytest.mark.parametrize('arrived, now, known', [
    (984, 1000, True), (985, 1000, False), (0, 1300, True), (0, 1301, False), (0, 700, True), (0, 699, False)])
def test_what_is_said_of_a_guest_holds_from_before_the_round_until_it_is_stale(arrived, now, known):
    assert Report(1000).knows(arrived, now, OPTIONS) is known


def test_the_summary_is_one_word_in_one_order():
    assert summarise(()) == '-'
    findings = (Finding('endpoint', Outcome.WARNING, scope='volumes'), Finding('address', Outcome.FAILURE),
                Finding('address', Outcome.FAILURE, 'another'), Finding('my own', Outcome.UNKNOWN))
    assert summarise(findings) == summarise(findings[::-1]) == 'address=failure,endpoint/volumes=warning,my_own=unknown'


def test_a_report_is_what_the_checks_found():
    failure = Finding('address', Outcome.FAILURE, 'eth1', 'is down')
    guests = GuestCpus.gather(HOST, {UUIDS[0]: LESS, UUIDS[1]: LESS, UUIDS[2]: None, UUIDS[3]: guest_by_default(HOST)}, True)
    report = build(1000.9, [Finding('cpu', Outcome.OK), failure], {
        'cpu': HOST.to_dict(), 'guests': guests.to_dict(HOST), 'migration': {'mtu': 9000},
        'storage': {'images': 'rbd'}}, BUILT_IN)
    assert (report.time, report.findings, report.cpu, report.default_guest) == (1000, (failure,), HOST, None)
    assert report.facts == {'migration': {'mtu': 9000}, 'storage': {'images': 'rbd'}}
    assert [report.guest(uuid) for uuid in UUIDS] == [LESS, LESS, None, guest_by_default(HOST)]
    assert all(group.who == tuple(sorted(group.who)) for group in report.groups) and len(report.groups) == 2


def test_a_host_with_nothing_to_say():
    assert build(7, [], {}, BUILT_IN) == Report(7)
    assert build(7, [], {'guests': {}}, BUILT_IN) == Report(7)


@pytest.mark.parametrize('name, value, words', [
    ('migration', 'no', 'is no JSON object'), ('storage', ['no'], 'is no JSON object'),
    ('unheard-of', {}, 'is declared by none of the enabled checks')])
def test_a_fact_that_is_not_as_declared(name, value, words):
    (finding,) = build(7, [], {name: value}, BUILT_IN).findings
    assert (finding.outcome, finding.subject) == (Outcome.UNKNOWN, name) and words in finding.detail


def test_a_fact_that_is_no_cpu_is_a_finding():
    assert build(7, [], {'cpu': {'arch': 'x86_64'}, 'migration': {'mtu': 1}}, BUILT_IN) == Report(7, (
        Finding('cpu', Outcome.UNKNOWN, 'cpu', 'the check published no usable CPU: virt of a CPU is a name', '',
                'this is a bug in the check', code='fact-malformed'),), common={'migration': {'mtu': 1}}, dropped=('guests',))


def test_a_guest_of_which_nothing_tells():
    """The first of a host where guests are configured to have a CPU of their own: it started after the report."""
    guests = GuestCpus(None, {UUIDS[0]: LESS})
    report = build(7, [], {'cpu': HOST.to_dict(), 'guests': guests.to_dict(HOST)}, BUILT_IN)
    assert (report.guest(UUIDS[0]), report.guest(UUIDS[1]), report.dropped) == (LESS, None, ('guests',))


def test_guests_counted_before_the_rest():
    early = Report(1000, counted=500)
    assert early.knows(484, 1000, OPTIONS) and not early.knows(485, 1000, OPTIONS)
    assert build(7, [], {}, BUILT_IN, 5.9).counted == 5
    assert build(7, [], {}, BUILT_IN).counted is None


def test_what_a_host_gives_by_itself_is_not_said():
    for default, said in ((LESS, LESS), (guest_by_default(HOST), None)):
        facts = {'cpu': HOST.to_dict(), 'guests': GuestCpus(default, {}).to_dict(HOST)}
        assert build(7, [], facts, BUILT_IN).default_guest == said
