# SPDX-License-Identifier: Apache-2.0
"""The thread that keeps a host's report. Its rounds are made up here; real ones are in test_runner.py and the attacks."""

import dataclasses
import logging
import random
import threading
import time
import types

import pytest

from nova_migcheck.checks.base import Check, Offer, Settings
from nova_migcheck.compute import reporter
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import past, published
from nova_migcheck.rounds import runner

BAD = Finding('address', Outcome.FAILURE, 'compute1', 'resolves to 127.0.1.1')


class Some(Check):
    NAME = 'address'
    OFFERS = (Offer('migration'),)

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
        return runner.Round(
            started=time.time(),
            findings=list(self.findings),
            facts=dict(self.facts),
            memory=dict(self.memory),
            outputs={
                'address': runner.CheckOutput(list(self.findings), dict(self.facts), self.ended)
            },
        )

    def stop(self):
        self.stopped.set()


@pytest.fixture
def rounds(monkeypatch):
    rounds = Rounds()
    monkeypatch.setattr(runner, 'Runner', lambda checks: rounds)
    return rounds


@pytest.fixture
def keeper(rounds):
    conf = types.SimpleNamespace(
        migcheck=types.SimpleNamespace(round_deadline=5.0, check_interval=60, stale_after=300)
    )
    reader = types.SimpleNamespace(
        read=lambda check, memory=None: Settings(host='compute1', memory=memory),
        nothing=lambda: Settings(host='compute1'),
    )
    keeper = reporter.Reporter(
        conf,
        reader,
        {
            'address': runner.Loaded('address', Some, 'x:Some'),
            'gone': runner.Loaded('gone', error='no'),
        },
    )
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


def test_a_known_failure_outlives_a_round_that_was_killed_and_no_longer(
    keeper, rounds, monkeypatch
):
    rounds.findings = [BAD]
    keeper.fresh(0)
    rounds.findings, rounds.ended = [], False
    again = keeper.fresh(0)
    assert [(f.outcome, f.subject) for f in again.findings] == [(Outcome.FAILURE, 'compute1')]
    assert published.read(keeper.texts()).summary == 'address=failure'
    monotonic = time.monotonic
    monkeypatch.setattr(reporter.time, 'monotonic', lambda: monotonic() + 301)
    assert keeper.fresh(0).findings == ()


def test_guests_that_could_not_be_counted_again_are_as_old_as_their_count(
    keeper, rounds, monkeypatch
):
    rounds.facts = {
        'cpu': {
            'arch': 'x86_64',
            'virt': 'kvm',
            'vendor': 'Intel',
            'model': 'Haswell',
            'features': 'aes avx',
        },
        'guests': {},
    }
    first = keeper.fresh(0)
    rounds.facts, rounds.ended = {}, False
    monotonic, wall = time.monotonic, time.time
    monkeypatch.setattr(reporter.time, 'monotonic', lambda: monotonic() + 100)
    monkeypatch.setattr(reporter.time, 'time', lambda: wall() + 100)
    again = published.read({**keeper.texts()}) if keeper.fresh(0) else None
    assert (
        again.cpu == first.cpu
        and again.time >= first.time + 100
        and abs(again.counted - first.time) <= 2
    )
    # A guest that came in between is not known; one that had been there is.
    conf = keeper._conf.migcheck
    assert not again.knows(first.time + 50, again.time, conf) and again.knows(
        first.time - 50, again.time, conf
    )


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
    monkeypatch.setattr(
        keeper._stop, 'wait', lambda seconds: keeper._stop.set() if rounds.told else None
    )
    keeper._loop()
    keeper._stop.clear()
    assert len(rounds.told) == 1 and not rounds.told[0][0]['address'].thorough
    keeper.fresh(60)
    keeper.fresh(60)
    assert [settings['address'].thorough for settings, _deadline in rounds.told] == [False, True]


def test_the_end_of_the_service_waits_for_seconds_at_most(keeper, monkeypatch):
    waited = []
    monkeypatch.setattr(keeper, '_ended', types.SimpleNamespace(wait=waited.append))
    keeper.stop()
    assert len(waited) == 1 and 1 <= waited[0] <= 5


def test_a_decision_waits_for_a_round_and_what_it_takes_to_kill_one(keeper):
    keeper._conf.migcheck.round_deadline = 20.0
    assert 20 < keeper._longest_round() <= 30


@pytest.mark.parametrize('interval, longest', [(30, 30), (60, 60), (3600, 60)])
def test_the_first_round_begins_within_a_minute(keeper, rounds, monkeypatch, interval, longest):
    waits = []
    keeper._conf.migcheck.check_interval = interval
    monkeypatch.setattr(reporter.random, 'uniform', lambda low, high: high)
    monkeypatch.setattr(
        keeper._stop, 'wait', lambda seconds: waits.append(seconds) or keeper._stop.set()
    )
    keeper._loop()
    assert waits == [longest] and rounds.told == []


def test_rounds_that_take_longer_than_the_interval_leave_a_second_between(
    keeper, rounds, monkeypatch
):
    waits = []
    keeper._conf.migcheck.check_interval = 0

    def wait(seconds):
        waits.append(seconds)
        if rounds.told:
            keeper._stop.set()

    monkeypatch.setattr(keeper._stop, 'wait', wait)
    keeper._loop()
    assert waits == [0, 1.0]


def test_mounting_something_makes_a_report_old(keeper, rounds, monkeypatch):
    tables = iter([b'one', b'one', b'two', b'two', b'two'])
    monkeypatch.setattr(reporter.mounts, 'table', lambda: next(tables, b'two'))
    keeper.fresh(60)
    keeper.fresh(60)
    assert len(rounds.told) == 1
    keeper.fresh(60)
    assert len(rounds.told) == 2


def test_a_round_that_ends_while_a_decision_waits_is_enough(keeper, rounds, monkeypatch):
    """It is older than asked for, but began after the decision did not find one."""
    real = keeper._running

    class Running:
        def acquire(self, timeout):
            keeper._round(thorough=True)
            return real.acquire(timeout=timeout)

        def release(self):
            real.release()

    keeper._running = Running()
    assert keeper.fresh(0) is not None and len(rounds.told) == 1
    assert real.acquire(timeout=0)


def test_what_migrations_came_to_is_published_with_the_last_report(keeper, rounds):
    keeper.migrated((past.Past(1000, 'in', '2f0f1c4e5a4e', 'compute2', 'failed'),))
    assert keeper.texts() == {} and keeper.report is None
    keeper.fresh(60)
    assert [one.ended for one in published.read(keeper.texts()).migrations] == ['failed']
    keeper.migrated(())
    assert published.read(keeper.texts()).migrations == () and len(rounds.told) == 1


def test_migrations_that_fail_in_a_row_are_a_warning_of_this_host(keeper, rounds):
    now = time.time()
    failed = tuple(
        past.Past(now - n, 'in', '2f0f1c4e5a4e', 'compute2', 'failed') for n in (3, 2, 1)
    )
    keeper.fresh(60)
    keeper.migrated(failed)
    assert [(f.check, f.outcome) for f in keeper.report.findings] == [('history', Outcome.WARNING)]


@pytest.mark.parametrize(
    'outcome, level', [(Outcome.FAILURE, 'ERROR'), (Outcome.WARNING, 'WARNING')]
)
def test_a_failure_is_logged_as_an_error(keeper, rounds, caplog, outcome, level):
    caplog.set_level(logging.INFO)
    rounds.findings = [Finding('address', outcome, 'compute1', 'odd')]
    keeper.fresh(0)
    rounds.findings = []
    keeper.fresh(0)
    assert [r.levelname for r in caplog.records if 'compute1' in r.getMessage()] == [level, 'INFO']


@pytest.mark.parametrize(
    'changed',
    [
        {'check': 'clock'},
        {'outcome': Outcome.WARNING},
        {'subject': 'compute2'},
        {'scope': 'volumes'},
    ],
)
def test_another_problem_is_another_line(keeper, rounds, caplog, changed):
    keeper.fresh(0)
    rounds.findings = [BAD]
    keeper.fresh(0)
    rounds.findings = [dataclasses.replace(BAD, **changed)]
    caplog.clear()
    keeper.fresh(0)
    assert len([r for r in caplog.records if 'as a migration target' in r.getMessage()]) >= 1


class ReadsGuests(Some):
    NAME = 'guests'
    READS_GUESTS = True


def test_only_the_check_that_reads_the_guests_is_told_which_checks_need_them(rounds, keeper):
    keeper._checks = {
        'address': runner.Loaded('address', Some, 'x:Some'),
        'guests': runner.Loaded('guests', ReadsGuests, 'x:ReadsGuests'),
    }
    keeper._registry = types.SimpleNamespace(
        needing=['address'], order=keeper._registry.order, split=keeper._registry.split
    )
    keeper._entries = {'address': 'x:Some'}
    keeper.disks_changed('uuid-1')
    keeper.fresh(0)
    told = rounds.told[0][0]
    assert told['guests'].guests == {'address': 'x:Some'} and told['address'].guests == {}
    # It is said until a round has read the guests, and then no more.
    assert told['guests'].changed == ['uuid-1'] and told['address'].changed == ()
    keeper.fresh(0)
    assert rounds.told[1][0]['guests'].changed == ['uuid-1']


class TestStoringNow:
    """What changes whether this host is a target does not wait for Nova's audit."""

    @pytest.fixture
    def stored(self, keeper):
        stored = []
        keeper._store = stored.append
        return stored

    def run(self, keeper):
        keeper.fresh(0)
        if keeper._storing is not None:
            keeper._storing.wait(20)

    def test_a_failure_that_comes_and_goes(self, keeper, rounds, stored):
        self.run(keeper)
        assert stored == []
        rounds.findings = [BAD]
        self.run(keeper)
        self.run(keeper)
        assert [published.read(texts).findings for texts in stored] == [(BAD,)]
        rounds.findings = []
        self.run(keeper)
        assert [published.read(texts).findings for texts in stored] == [(BAD,), ()]

    def test_a_warning_can_wait(self, keeper, rounds, stored):
        self.run(keeper)
        rounds.findings = [dataclasses.replace(BAD, outcome=Outcome.WARNING)]
        self.run(keeper)
        assert stored == []

    def test_an_address_that_changed(self, keeper, rounds, stored):
        """The source looks for it in the target's report."""
        rounds.facts = {'migration': {'addresses': ['10.0.0.1']}}
        self.run(keeper)
        self.run(keeper)
        assert stored == []
        rounds.facts = {'migration': {'addresses': ['10.0.0.1', '10.0.0.9']}}
        keeper.fresh(0)  # a decision waits until it is stored
        assert len(stored) == 1

    def test_a_decision_does_not_wait_long_for_the_conductor(self, keeper, rounds, stored, monkeypatch):
        monkeypatch.setattr(reporter, 'STORED', 0.01)
        go = threading.Event()
        keeper._store = lambda texts: go.wait(20)
        self.run(keeper)
        rounds.findings = [BAD]
        assert keeper.fresh(0).findings == (BAD,) and not keeper._storing.ended
        go.set()

    def test_one_at_a_time(self, keeper, rounds, stored, monkeypatch):
        """A conductor that hangs must not collect our threads."""
        monkeypatch.setattr(reporter, 'STORED', 0.01)
        go = threading.Event()
        keeper._store = lambda texts: (go.wait(20), stored.append(texts))
        keeper.fresh(0)
        for found in ([BAD], [], [BAD]):
            rounds.findings = found
            keeper.fresh(0)
        go.set()
        keeper._storing.wait(20)
        assert len(stored) == 1

    def test_an_error_is_one_line(self, keeper, rounds, stored, caplog):
        def away(texts):
            raise ConnectionError('no conductor')
        keeper._store = away
        self.run(keeper)
        rounds.findings = [BAD]
        self.run(keeper)
        assert [r.levelname for r in caplog.records if 'next resource audit' in r.getMessage()] == ['WARNING']
