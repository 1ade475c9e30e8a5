# SPDX-License-Identifier: Apache-2.0
"""What nova-scheduler logs about rejected hosts: the reasons, the hosts, their number."""

import logging
import types
from unittest import mock

import pytest

from nova_migcheck import scheduler
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.verdict import Verdict
from nova_migcheck.novadb import moves

MOVE = moves.Move('compute0', moves.LIVE, 0.0)
TAIL = 'as target of the live-migration of instance UUID from compute0: '
REFUSED = Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8780', 'connection refused',
                  'catalog', 'start it')
LOST = Finding('address', Outcome.FAILURE, 'mig0', 'is down')
WHY = 'endpoint: http://10.0.0.5:8780: connection refused (catalog); start it'

LIST = '(list them with: nova-migcheck explain SERVER)'


class Judge:
    """A judge whose hosts are their own verdicts. It counts the hosts that it judges."""

    def __init__(self):
        self.asked = 0

    def in_full(self, stats):
        self.asked += 1
        return Verdict(stats)


def hosts(numbers, *findings):
    return [types.SimpleNamespace(host=f'compute{number}', stats=findings) for number in numbers]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, scheduler.LOG.logger.name)

    def logged(rejected, most=3, enforce=True):
        one = Judge()
        caplog.clear()
        scheduler._log_rejected(one, rejected, MOVE, 'UUID', enforce, most)
        assert one.asked <= most + len(rejected)
        return [record.getMessage() for record in caplog.records]
    return logged


def test_one_host(log):
    assert log({'endpoint': hosts([2], REFUSED, LOST)}) == [
        f'Host compute2 is rejected {TAIL}{WHY}; address: mig0: is down']
    assert log({'endpoint': hosts([2], REFUSED)}, enforce=False) == [
        f'Host compute2 would be rejected ([migcheck] mode = report) {TAIL}{WHY}']


def test_hosts_with_one_reason_stand_together(log):
    assert log({'endpoint': hosts([1, 2], REFUSED), 'address': hosts([7], LOST)}) == [
        f'2 hosts are rejected {TAIL}compute[1-2]: {WHY}',
        f'Host compute7 is rejected {TAIL}address: mig0: is down']
    three = [*hosts([1], REFUSED), *hosts([2], REFUSED, LOST), *hosts([3], REFUSED)]
    assert log({'endpoint': three}, enforce=False) == [
        f'3 hosts would be rejected ([migcheck] mode = report) {TAIL}compute[1,3]: {WHY} | '
        f'compute2: {WHY}; address: mig0: is down']


def test_a_thousand_hosts_are_one_line_per_check_and_each_check_has_its_reason(log):
    rejected = {'endpoint': hosts(range(1, 1001), REFUSED),
                'address': hosts(range(1001, 1011), LOST)}
    assert log(rejected) == [
        f'1000 hosts are rejected {TAIL}compute[1-3]: {WHY} | 997 more for endpoint {LIST}',
        f'10 hosts are rejected {TAIL}compute1001: address: mig0: is down | '
        '9 more for address: compute[1002-1010]']


def test_the_others_are_named_where_they_are_few(log):
    assert log({'endpoint': hosts(range(1, 44), REFUSED)}) == [
        f'43 hosts are rejected {TAIL}compute[1-3]: {WHY} | 40 more for endpoint: compute[4-43]']
    assert log({'endpoint': hosts(range(1, 45), REFUSED)}) == [
        f'44 hosts are rejected {TAIL}compute[1-3]: {WHY} | 41 more for endpoint {LIST}']


def test_no_host_s_own_reason(log):
    assert log({'endpoint': hosts([1], REFUSED), 'address': hosts([2, 3], LOST)}, most=0) == [
        f'1 host is rejected {TAIL}1 for endpoint: compute1',
        f'2 hosts are rejected {TAIL}2 for address: compute[2-3]']


def test_nothing_is_read_for_a_log_that_nobody_keeps(log, caplog):
    caplog.set_level(logging.WARNING, scheduler.LOG.logger.name)
    with mock.patch.object(Judge, 'in_full', side_effect=AssertionError):
        assert log({'endpoint': hosts([1], REFUSED)}) == []
