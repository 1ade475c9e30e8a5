# SPDX-License-Identifier: Apache-2.0
"""What guests need: gathered, published, and compared by the checks that declare it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from nova_migcheck.checks.base import Check, Offer
from nova_migcheck.checks.needs import Needs
from nova_migcheck.checks.registry import Registry, of_entries
from nova_migcheck.finding import Outcome
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

UUIDS = [f'{n}0000000-0000-4000-8000-00000000000{n}' for n in range(1, 5)]
GUEST = ElementTree.fromstring("<domain><os><type machine='pc'>hvm</type></os></domain>")


class Machine(Check):
    NAME = 'machine'
    OFFERS = (Offer('machine', per_host=('serial',), keep=2), Offer('board', keep=1))

    def run(self, settings):
        yield self.ok('machine')

    @staticmethod
    def needs(domain):
        kind = domain.find('os/type')
        return None if kind is None else {'type': kind.get('machine')}

    @staticmethod
    def compare(needs, target):
        if needs['type'] not in target['machine']['types']:
            yield Machine().failure('machine type', f'no {needs["type"]}')


class Breaks(Machine):
    NAME = 'breaks'
    OFFERS = ()

    @staticmethod
    def needs(domain):
        raise RuntimeError('on purpose')


REGISTRY = Registry([Machine])


def test_guests_that_are_like_most_are_not_named():
    needs = Needs.gather({UUIDS[0]: '{"a":1}', UUIDS[1]: '{"a":1}', UUIDS[2]: '{"b":2}', UUIDS[3]: ''})
    assert needs.usual == '{"a":1}'
    assert [needs.of(uuid) for uuid in UUIDS] == ['{"a":1}', '{"a":1}', '{"b":2}', '']
    assert Needs.from_json(needs.to_json()) == needs
    assert Needs.gather({}) == Needs()


@pytest.mark.parametrize('value', [None, 7, [], [1], [{}, 5], [{}, [[{}]]], [{}, [[{}, 7]]], {'usual': 1}])
def test_whatever_stands_there_nothing_is_known(value):
    assert Needs.from_json(value) == Needs()


def test_a_report_carries_them_and_an_earlier_one_has_none():
    needs = Needs.gather({UUIDS[0]: '{"machine":{"type":"q35"}}', UUIDS[1]: '{}'})
    report = Report(1_764_000_000, needs=needs)
    assert published.read(published.write(report)) == report
    assert published.read(published.write(Report(1_764_000_000))).needs == Needs()


def test_what_the_checks_need_and_whether_a_target_has_it():
    needs = REGISTRY.needs(GUEST)
    assert needs == '{"machine":{"type":"pc"}}'
    assert REGISTRY.compare(needs, {'machine': {'types': ['pc']}}) == []
    (finding,) = REGISTRY.compare(needs, {'machine': {'types': ['q35']}})
    assert (finding.outcome, finding.detail) == (Outcome.FAILURE, 'no pc')
    # Nothing is known of the guest, or of a check that this host does not have.
    assert REGISTRY.compare('', {}) == REGISTRY.compare('{"other":1}', {}) == []


def test_a_comparison_that_breaks_is_unknown():
    (finding,) = REGISTRY.compare('{"machine":5}', {'machine': {}})
    assert finding.outcome is Outcome.UNKNOWN and 'TypeError' in finding.detail


def test_a_check_that_breaks_over_a_guest_leaves_the_others(caplog):
    assert Registry([Breaks, Machine]).needs(GUEST) == '{"machine":{"type":"pc"}}'
    assert 'breaks cannot read the needs of a guest: RuntimeError: on purpose' in caplog.text


def test_facts_leave_a_full_report_in_their_order_and_what_is_own_stands_apart():
    assert REGISTRY.order == ('board', 'machine')
    assert REGISTRY.split('machine', {'types': [], 'serial': 1}) == ({'types': []}, {'serial': 1})


def test_checks_by_their_entries(caplog):
    entries = {'machine': f'{__name__}:Machine', 'gone': 'no.such.module:Check'}
    assert of_entries(entries).needing == {'machine': Machine}
    assert 'no.such.module' in caplog.text
