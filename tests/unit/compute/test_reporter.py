# SPDX-License-Identifier: Apache-2.0
"""The thread that keeps a host's report. Its rounds are made up here; real ones are in test_runner.py and the attacks."""
import logging
import random
import threading
import time
import types

import pytest

from nova_migcheck.checks.base import Check, Settings
from nova_migcheck.compute import reporter
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import published
from nova_migcheck.rounds import runner

BAD = Finding('address', Outcome.FAILURE, 'compute1', 'resolves to 127.0.1.1')


class Some(Check):
    NAME = 'address'

    def run(self, settings):
        yield self.ok('thing')


class Rounds:
    """Stands in for the runner: each round is ``does()``, and what it was told is kept."""

    def __init__(self):
        self.told = []
        self.does = lambda: None
        self.findings = []
        self.facts = {}
        self.ended = True
        self.memory = {}
        self.ran = threading.Semaphore(0)
        self.stopped = threading.Event()

    def run(self, settings, deadline):
        self.told.append((settings, deadline))
        try:
            self.does()
        finally:
            self.ran.release()
        return runner.Round(started=time.time(), findings=list(self.findings), facts=dict(self.facts), memory=dict(self.memory),
                            outputs={'address': runner.CheckOutput(list(self.findings), dict(self.facts), self.ended)})

    def stop(self):
        self.stopped.set()


@pytest.fixture
def rounds(monkeypatch):
    rounds = Rounds()
    monkeypatch.setattr(runner, 'Runner', lambda checks: rounds)
    return rounds


@pytest.fixture
def keeper(rounds):
    conf = types.SimpleNamespace(migcheck=types.SimpleNamespace(round_deadline=5.0, check_interval=60, stale_after=300))
    reader = types.SimpleNamespace(read=lambda check, memory=None: Settings(host='compute1', memory=memory),
                                   nothing=lambda: Settings(host='compute1'))
    keeper = reporter.Reporter(conf, reader, {
        'address': runner.Loaded('address', Some, 'x:Some'), 'gone': runner.Loaded('gone', error='no')})
    yield keeper
    keeper.stop()


@pytest.fixture(autouse=True)
def no_delay(monkeypatch):
    monkeypatch.setattr(reporter.random, 'uniform', lambda low, high: low)


def test_before_the_first_round_nothing_is_published(keeper):
    assert keeper.texts() == {}


def test_the_thread_checks_and_what_it_found_is_published(keeper, rounds):
    rounds.findings = [BAD]
    keeper.start()
    assert rounds.ran.acquire(timeout=20)
    while not keeper.texts():
        time.sleep(0.01)
    assert published.read(keeper.texts()).findings == (BAD,)
    assert list(rounds.told[0][0]) == ['address', 'gone'] and rounds.told[0][1] == 5.0


def test_only_an_old_report_is_checked_again(keeper, rounds):
    assert keeper.fresh(60) is not None and len(rounds.told) == 1
    keeper.fresh(60)
    assert len(rounds.told) == 1
    keeper.fresh(0)
    assert len(rounds.told) == 2


def test_what_a_check_keeps_is_handed_back(keeper, rounds):
    rounds.memory = {'address': {'token': 1}}
    keeper.fresh(0)
    keeper.fresh(0)
    assert rounds.told[1][0]['address'].memory == {'token': 1}


def test_decisions_at_once_share_one_round(keeper, rounds):
    gate = threading.Event()
    rounds.does = lambda: gate.wait(20)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(keeper.fresh(60))) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(20)
    assert len(rounds.told) == 1 and len(answers) == 5 and all(answers)


def test_a_decision_waits_no_longer_than_a_round_may_take(keeper, rounds, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(runner, 'GRACE', 0.0)
    keeper._conf.migcheck.round_deadline = 0.1
    rounds.does = lambda: gate.wait(20)
    keeper.start()
    while not rounds.told:
        assert not gate.wait(0.01)
    begun = time.monotonic()
    assert keeper.fresh(60) is None
    assert time.monotonic() - begun < 15
    gate.set()


def test_the_thread_lives_on_after_an_error(keeper, rounds, monkeypatch, caplog):
    monkeypatch.setattr(keeper._stop, 'wait', lambda seconds: None)
    errors = iter([OSError('no memory files left'), ValueError('what')])

    def fail():
        for error in errors:
            raise error
    rounds.does = fail
    keeper.start()
    for _ in range(3):
        assert rounds.ran.acquire(timeout=20)
    keeper.stop()
    assert caplog.text.count('could not run its checks') == 2 and keeper.texts()


def test_stop_kills_the_round_and_publishes_nothing_of_it(keeper, rounds):
    rounds.does = lambda: rounds.stopped.wait(20)
    keeper.start()
    while not rounds.told:
        assert not rounds.stopped.wait(0.01)
    begun = time.monotonic()
    keeper.stop()
    assert time.monotonic() - begun < reporter.STOP + 10 and keeper._ended.is_set()
    assert keeper.texts() == {}


@pytest.mark.parametrize('by', [-7200, 7200])
def test_the_clock_set_back_or_forward_stops_nothing(keeper, rounds, monkeypatch, by):
    """Ages are measured by the monotonic clock; only the time that is published is the wall's."""
    keeper.fresh(60)
    wall = time.time
    monkeypatch.setattr(reporter.time, 'time', lambda: wall() + by)
    assert keeper.fresh(60) is not None and len(rounds.told) == 1
    again = keeper.fresh(0)
    assert len(rounds.told) == 2 and abs(again.time - wall() - by) < 200


def test_a_known_failure_outlives_a_round_that_was_killed_and_no_longer(keeper, rounds, monkeypatch):
    rounds.findings = [BAD]
    keeper.fresh(0)
    rounds.findings, rounds.ended = [], False
    again = keeper.fresh(0)
    assert [(f.outcome, f.subject) for f in again.findings] == [(Outcome.FAILURE, 'compute1')]
    assert published.read(keeper.texts()).summary == 'address=failure'
    monotonic = time.monotonic
    monkeypatch.setattr(reporter.time, 'monotonic', lambda: monotonic() + 301)
    assert keeper.fresh(0).findings == ()


def test_guests_that_could_not_be_counted_again_are_as_old_as_their_count(keeper, rounds, monkeypatch):
    rounds.facts = {'cpu': {'arch': 'x86_64', 'virt': 'kvm', 'vendor': 'Intel', 'model': 'Haswell', 'features': 'aes avx'}, 'guests': {}}
    first = keeper.fresh(0)
    rounds.facts, rounds.ended = {}, False
    monotonic, wall = time.monotonic, time.time
    monkeypatch.setattr(reporter.time, 'monotonic', lambda: monotonic() + 100)
    monkeypatch.setattr(reporter.time, 'time', lambda: wall() + 100)
    again = published.read({**keeper.texts()}) if keeper.fresh(0) else None
    assert again.cpu == first.cpu and again.time >= first.time + 100 and abs(again.counted - first.time) <= 2
    # A guest that came in between is not known; one that had been there is.
    conf = keeper._conf.migcheck
    assert not again.knows(first.time + 50, again.time, conf) and again.knows(first.time - 50, again.time, conf)


def test_a_change_is_logged_once_when_it_begins_and_once_when_it_ends(keeper, rounds, caplog):
    caplog.set_level(logging.INFO)
    rounds.findings = [BAD]
    keeper.fresh(0)
    rounds.findings = [Finding('address', Outcome.FAILURE, 'compute1', 'resolves to 127.0.1.2')]
    keeper.fresh(0)
    rounds.findings = []
    keeper.fresh(0)
    lines = [r.getMessage() for r in caplog.records if 'as a migration target' in r.getMessage()]
    assert len(lines) == 2 and 'no longer' in lines[1] and 'resolves to 127.0.1.1' in lines[0]


def test_hosts_that_start_together_do_not_check_themselves_together(keeper, rounds, monkeypatch):
    delays = []

    def wait(seconds):
        delays.append(seconds)
        if len(delays) == 4:
            keeper._stop.set()
    monkeypatch.setattr(reporter.random, 'uniform', random.Random(7).uniform)
    monkeypatch.setattr(keeper._stop, 'wait', wait)
    keeper._loop()
    first, *others = delays
    assert 0 < first < 60 and len(rounds.told) == 3
    assert all(50 < delay <= 66 for delay in others) and len(set(others)) == 3


def test_a_decision_does_not_wait_for_the_first_round_of_the_thread(keeper, rounds, monkeypatch):
    monkeypatch.setattr(reporter.random, 'uniform', lambda low, high: 3600)
    keeper.start()
    assert keeper.fresh(60) is not None and len(rounds.told) == 1


def test_a_round_of_the_thread_is_not_fresh_enough_for_a_decision(keeper, rounds, monkeypatch):
    monkeypatch.setattr(keeper._stop, 'wait', lambda seconds: keeper._stop.set() if rounds.told else None)
    keeper._loop()
    keeper._stop.clear()
    assert len(rounds.told) == 1 and not rounds.told[0][0]['address'].thorough
    keeper.fresh(60)
    keeper.fresh(60)
    assert [settings['address'].thorough for settings, _deadline in rounds.told] == [False, True]
