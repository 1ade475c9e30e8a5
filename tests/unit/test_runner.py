# SPDX-License-Identifier: Apache-2.0
"""Rounds of checks, in their real processes: what a bad check does is done to itself only."""
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from nova_migcheck import child, process, runner
from nova_migcheck.checks.base import Settings
from nova_migcheck.finding import Outcome

CHECKS = '''
import os, signal, sys, time
from nova_migcheck.checks.base import Check, Fact, Keep

class Good(Check):
    NAME = 'good'
    def run(self, settings):
        yield self.ok('thing', f'host {settings.host}, memory {settings.memory}')
        yield Fact('cpu', {'a': 1})
        yield Keep((settings.memory or 0) + 1)

class Raises(Check):
    NAME = 'raises'
    def run(self, settings):
        yield self.failure('before', 'seen before it broke')
        raise RuntimeError('on purpose')

class Exits(Check):
    NAME = 'exits'
    def run(self, settings):
        sys.exit(3)
        yield

class Vanishes(Check):
    NAME = 'vanishes'
    def run(self, settings):
        os._exit(7)
        yield

class Hangs(Check):
    NAME = 'hangs'
    def run(self, settings):
        yield self.ok('first', 'seen before it hung')
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
        while True:
            signal.pause()

class HoldsUp(Check):
    NAME = 'holdsup'
    def run(self, settings):
        os.kill(os.getppid(), signal.SIGSTOP)
        yield self.ok('thing', 'all is told')

class Dies(Check):
    NAME = 'dies'
    def run(self, settings):
        os.kill(os.getpid(), signal.SIGSEGV)
        yield

class Rubbish(Check):
    NAME = 'rubbish'
    def run(self, settings):
        yield 'not a finding'

class RawRubbish(Check):
    NAME = 'rawrubbish'
    def run(self, settings):
        for fd in range(3, 1000):
            try:
                os.write(fd, b'{"finding": 3}\\n\\xff\\xfe{"fact": []}\\nnull\\n[]\\n{"end": "x"}\\n')
            except OSError:
                pass
        yield self.ok('after', 'still here')

class Prints(Check):
    NAME = 'prints'
    def run(self, settings):
        for _ in range(1000):
            print('x' * 1_000_000)
        os.write(2, b'y' * 1_000_000)
        yield self.ok('printed', 'a gigabyte')

class Floods(Check):
    NAME = 'floods'
    def run(self, settings):
        while True:
            yield self.failure('again', 'z' * 900)

class Eats(Check):
    NAME = 'eats'
    def run(self, settings):
        kept = []
        while True:
            kept.append(bytearray(1 << 26))
        yield

class Forks(Check):
    NAME = 'forks'
    def run(self, settings):
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(0)
        yield self.ok('forked', 'and forgot about it')

class Rehearses(Check):
    NAME = 'rehearses'
    rehearsed = 0
    def rehearse(self):
        end = time.process_time() + 0.3
        while time.process_time() < end:
            self.rehearsed += 1
    def run(self, settings):
        yield self.ok('rehearsed', f'{self.rehearsed > 0}, host {settings.host}')

class Stumbles(Rehearses):
    NAME = 'stumbles'
    def rehearse(self):
        super().rehearse()
        raise RuntimeError('on purpose')

class Dawdles(Rehearses):
    NAME = 'dawdles'
    def rehearse(self):
        time.sleep(600)

class Falls(Rehearses):
    NAME = 'falls'
    def rehearse(self):
        os._exit(3)
'''


@pytest.fixture
def checks(tmp_path, monkeypatch):
    """The checks above, as an installed package's would be found."""
    (tmp_path / 'badchecks.py').write_text(textwrap.dedent(CHECKS))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    sys.modules.pop('badchecks', None)
    import badchecks
    return {c.NAME: runner.Loaded(c.NAME, c, f'badchecks:{c.__name__}') for c in vars(badchecks).values()
            if isinstance(c, type) and issubclass(c, runner.Check) and c.NAME}


def run(checks, *names, deadline=20.0, **settings):
    return runner.Runner(checks).run({name: Settings(host='compute1', **settings) for name in names}, deadline)


def only(outcome, check):
    return [(f.outcome, f.detail) for f in outcome.findings if f.check == check]


def children():
    with open(f'/proc/self/task/{threading.get_native_id()}/children') as pids:
        return pids.read().split()


def all_children():
    """Of every thread, living or not."""
    me = os.getpid()
    return {pid for pid in filter(str.isdecimal, os.listdir('/proc')) if parent(pid) == me}


@pytest.fixture
def left_behind():
    """What is there now and was not when the test began: other tests of this process may keep children."""
    before = all_children()
    return lambda: all_children() - before


def parent(pid):
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return int(stat.read().rpartition(')')[2].split()[1])
    except OSError:
        return None


def test_findings_facts_and_memory(checks):
    loop = runner.Runner(checks)
    first = loop.run({'good': Settings(host='compute1')}, 20)
    assert only(first, 'good') == [(Outcome.OK, 'host compute1, memory None')]
    assert first.facts == {'cpu': {'a': 1}} and first.memory == {'good': 1} and 'good' in first.cpu_seconds
    second = loop.run({'good': Settings(memory=first.memory['good'])}, 20)
    assert second.memory == {'good': 2}


@pytest.mark.parametrize('name, said', [
    ('raises', 'RuntimeError: on purpose'), ('exits', 'SystemExit: 3'), ('vanishes', 'status 7'), ('dies', f'signal {int(signal.SIGSEGV)}'),
    ('rubbish', 'it yielded str'), ('eats', 'MemoryError'), ('floods', 'more than 1000 things'),
])
def test_a_broken_check_is_one_unknown_finding_and_costs_the_others_nothing(checks, name, said):
    outcome = run(checks, name, 'good')
    broken = [detail for result, detail in only(outcome, name) if result is Outcome.UNKNOWN]
    assert len(broken) == 1 and said in broken[0]
    assert only(outcome, 'good') == [(Outcome.OK, 'host compute1, memory None')]


def test_what_a_check_found_before_it_broke_is_kept(checks):
    assert only(run(checks, 'raises'), 'raises')[0] == (Outcome.FAILURE, 'seen before it broke')


def test_a_hung_check_is_named_and_killed_at_the_deadline(checks):
    before = children()
    outcome = run(checks, 'hangs', 'good', deadline=1.0)
    assert only(outcome, 'hangs') == [(Outcome.OK, 'seen before it hung'),
                                      (Outcome.UNKNOWN, 'the check had not finished after 1 s and was killed')]
    assert only(outcome, 'good')[0][0] is Outcome.OK
    assert 1.0 <= outcome.seconds < 1.0 + process.GRACE + 5
    assert children() == before


def test_bytes_that_are_no_results_are_survived(checks):
    outcome = run(checks, 'rawrubbish', 'good')
    (_, detail), = [f for f in only(outcome, 'rawrubbish') if f[0] is Outcome.UNKNOWN]
    assert detail.startswith('the check broke: it wrote what is no finding')
    # It could not write into another check's results.
    assert only(outcome, 'good') == [(Outcome.OK, 'host compute1, memory None')]


def test_a_gigabyte_on_standard_output_goes_nowhere(checks):
    assert only(run(checks, 'prints'), 'prints') == [(Outcome.OK, 'a gigabyte')]


def test_processes_that_a_check_left_behind_are_killed(checks):
    def sleepers():
        found = []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/environ', 'rb') as environ:
                    if b'MIGCHECK_TEST_FORKS=1' in environ.read():
                        found.append(pid)
            except OSError:
                continue
        return found
    os.environ['MIGCHECK_TEST_FORKS'] = '1'
    try:
        assert only(run(checks, 'forks'), 'forks') == [(Outcome.OK, 'and forgot about it')]
    finally:
        del os.environ['MIGCHECK_TEST_FORKS']
    assert sleepers() == []


def test_a_check_that_is_not_installed_or_broken_is_a_finding(checks):
    loaded = runner.load(['no-such-check'])
    outcome = runner.Runner({**checks, **loaded}).run({'no-such-check': Settings(), 'good': Settings()}, 20)
    (result, detail), = only(outcome, 'no-such-check')
    assert result is Outcome.UNKNOWN and 'cannot be loaded' in detail
    assert only(outcome, 'good')[0][0] is Outcome.OK


def test_no_new_process_beside_one_that_the_kernel_holds(checks):
    """Stands in for a process in uninterruptible sleep: our own is as alive, and as unkillable to us."""
    loop = runner.Runner(checks)
    loop._stuck['good'] = (os.getpid(), child.start_time(os.getpid()))
    outcome = loop.run({'good': Settings()}, 20)
    assert 'still hangs' in only(outcome, 'good')[0][1]
    loop._stuck['good'] = (os.getpid(), '1')
    assert only(loop.run({'good': Settings()}, 20), 'good')[0][0] is Outcome.OK


def test_stop_ends_a_round_at_once(checks):
    loop = runner.Runner(checks)
    begun = threading.Event()
    done = []
    thread = threading.Thread(target=lambda: done.append(loop.run(
        {'hangs': Settings()}, 60, lambda _name, _finding: begun.set())))
    thread.start()
    assert begun.wait(20)
    loop.stop()
    thread.join(10)
    assert not thread.is_alive() and done[0].seconds < 30


def test_progress_comes_as_it_is_found(checks):
    seen = []
    runner.Runner(checks).run({'good': Settings()}, 20, lambda name, finding: seen.append((name, finding and finding.subject)))
    assert seen == [('good', 'thing'), ('good', None)]


def test_rounds_leave_nothing_behind(checks):
    loop = runner.Runner(checks)
    loop.run({'good': Settings(), 'dies': Settings()}, 20)
    before = len(os.listdir('/proc/self/fd')), threading.active_count(), children()
    for _ in range(10):
        loop.run({'good': Settings(), 'dies': Settings(), 'raises': Settings()}, 20)
    assert (len(os.listdir('/proc/self/fd')), threading.active_count(), children()) == before


def test_a_secret_stands_neither_in_argv_nor_in_the_environment(checks, monkeypatch):
    seen = []

    def look(_name, _finding):
        for pid in children():
            for part in ('cmdline', 'environ'):
                with open(f'/proc/{pid}/{part}', 'rb') as content:
                    seen.append(content.read())
    runner.Runner(checks).run({'hangs': Settings(options={'placement': {'password': 's3cret-word'}})}, 1.0, look)
    assert seen and not any(b's3cret-word' in text for text in seen)


# A process that waits for its turn.

def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, 'it did not come to be'
        time.sleep(0.02)


def ready_in(pid):
    """The processes that have rehearsed a check, or are about to."""
    with open(f'/proc/{pid}/task/{pid}/children') as children:
        return [int(one) for one in children.read().split()]


@pytest.fixture
def spare(checks):
    spare = process.Spare({name: checks[name].entry for name in ('good', 'hangs', 'rehearses', 'stumbles', 'dawdles', 'falls')},
                          ['badchecks', 'xml.dom.minidom', 'no.such.module'])
    yield spare
    spare.stop()


def test_a_process_that_has_waited_does_the_same(checks, spare):
    """Also when the thread that made it ready is no more; and what it held is given back."""
    before = len(os.listdir('/proc/self/fd')), len(all_children())
    ready = threading.Thread(target=spare.refill)
    ready.start()
    ready.join()
    waiting = spare.take()
    assert waiting is not None and waiting.runs and spare.take() is None
    loop = runner.Runner(checks, waiting)
    settings = {'good': Settings(host='compute1')}
    for _ in range(2):
        outcome = loop.run(settings, 20)
        assert only(outcome, 'good') == [(Outcome.OK, 'host compute1, memory None')] and outcome.facts == {'cpu': {'a': 1}}
    assert not waiting.runs
    assert (len(os.listdir('/proc/self/fd')), len(all_children())) == before


def test_who_hurries_has_the_answer_when_all_is_told_and_the_process_is_ended_afterwards(checks, left_behind):
    before = len(os.listdir('/proc/self/fd'))
    outcome = runner.Runner(checks, hurry=True).run({'good': Settings(host='compute1'), 'holdsup': Settings()}, 60)
    assert [f.detail for f in outcome.findings] == ['host compute1, memory None', 'all is told'] and outcome.seconds < 30
    wait_for(lambda: not left_behind() and len(os.listdir('/proc/self/fd')) == before)


def test_what_hangs_in_a_process_that_has_waited_is_killed_at_its_deadline(checks, spare, left_behind):
    spare.refill()
    outcome = runner.Runner(checks, spare.take(), hurry=True).run({'hangs': Settings(), 'good': Settings()}, 1.0)
    assert 1.0 <= outcome.seconds < 1.0 + process.GRACE + 5
    assert 'had not finished after 1 s' in only(outcome, 'hangs')[-1][1] and only(outcome, 'good')[0][0] is Outcome.OK
    assert not left_behind()


def have_rehearsed(pid):
    """Whether two have used 0.3 s of CPU each, and all of them wait or are dead (proc(5): state, utime, stime)."""
    states, ticks = [], 0
    for one in ready_in(pid):
        with open(f'/proc/{one}/stat') as stat:
            fields = stat.read().rpartition(')')[2].split()
        states.append(fields[0])
        ticks += int(fields[11]) + int(fields[12])
    return set(states) <= {'S', 'Z'} and ticks >= 0.5 * os.sysconf('SC_CLK_TCK')


@pytest.mark.parametrize('name, rehearsed', [('rehearses', True), ('stumbles', True), ('dawdles', False), ('falls', False)])
def test_what_has_been_rehearsed_need_not_be_done_again_and_what_was_not_is_done_anew(checks, spare, left_behind, name, rehearsed):
    """It does not count as the check's CPU: nobody waited for it. That one has not come to its end keeps nobody."""
    spare.refill()
    pid = spare._waiting._popen.pid
    wait_for(lambda: have_rehearsed(pid))
    outcome = runner.Runner(checks, spare.take()).run({name: Settings(host='compute1')}, 20)
    assert only(outcome, name) == [(Outcome.OK, f'{rehearsed}, host compute1')]
    assert outcome.cpu_seconds[name] < 0.25 and outcome.seconds < 15 and not left_behind()


@pytest.mark.parametrize('names', [['raises'], ['good', 'raises'], ['no-such-check']])
def test_a_process_that_waits_for_other_checks_is_ended(checks, spare, left_behind, names):
    spare.refill()
    waiting = spare.take()
    settings = {name: Settings() for name in names}
    outcome = runner.Runner({**checks, **runner.load(['no-such-check'])}, waiting).run(settings, 20)
    assert {f.check for f in outcome.findings} == set(names) and not waiting.runs and not left_behind()


def test_a_process_that_was_killed_while_it_waited_is_not_taken(spare, left_behind):
    spare.refill()
    waiting = spare._waiting
    waiting.kill()
    assert spare.take() is None
    spare.refill()
    assert spare._waiting is not waiting and spare._waiting.runs
    spare.stop()
    spare.refill()
    assert spare._waiting is None and not left_behind()


def test_a_process_that_is_killed_after_it_was_taken_is_replaced(checks, spare, left_behind):
    spare.refill()
    waiting = spare.take()
    waiting.kill()
    outcome = runner.Runner(checks, waiting).run({'good': Settings(host='compute1')}, 20)
    assert only(outcome, 'good') == [(Outcome.OK, 'host compute1, memory None')] and not left_behind()


def test_a_process_that_waits_ends_with_whom_it_waits_for():
    """nova-compute may be killed by a signal that it cannot answer."""
    told = 'import os, time; from nova_migcheck import process; s = process.Spare({"x": "os:getcwd"}, []); s.refill(); ' \
           'print(s._waiting._popen.pid, flush=True); time.sleep(60)'
    with subprocess.Popen([sys.executable, '-c', told], stdout=subprocess.PIPE, text=True) as nova:
        pid = int(nova.stdout.readline())
        wait_for(lambda: ready_in(pid))
        began = {one: child.start_time(one) for one in (pid, *ready_in(pid))}
        assert len(began) == 2 and None not in began.values()
        nova.kill()
    wait_for(lambda: all(child.start_time(one) != since for one, since in began.items()))
