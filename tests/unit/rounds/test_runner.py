# SPDX-License-Identifier: Apache-2.0
"""Rounds of checks, in their real processes: what a bad check does is done to itself only."""

import json
import os
import signal
import sys
import textwrap
import threading
import time

import pytest

from nova_migcheck.checks.base import Check, Settings
from nova_migcheck.finding import Outcome
from nova_migcheck.rounds import child, process, runner

CHECKS = """
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
        blocked = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
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
                os.write(fd, b'{"finding": 3}\\n\\xff\\xfe{"fact": []}\\n'
                             b'null\\n[]\\n{"end": "x"}\\n')
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

class Looks(Check):
    NAME = 'looks'
    def run(self, settings):
        import ctypes, gc, json, resource, threading
        death = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(death), 0, 0, 0)
        yield self.ok('thing', json.dumps({
            'data': resource.getrlimit(resource.RLIMIT_DATA), 'core': resource.getrlimit(resource.RLIMIT_CORE),
            'stack': threading.stack_size(), 'blocked': [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            'alarm': signal.alarm(0), 'death': death.value, 'frozen': gc.get_freeze_count() > 1000,
            'streams': [os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)]}))

class Many(Check):
    NAME = 'many'
    def run(self, settings):
        count, size = settings.memory
        for _ in range(count):
            yield Fact('cpu', 'x' * size)
        for _ in range(count):
            yield self.ok('one')

class Verbose(Check):
    NAME = 'verbose'
    def run(self, settings):
        def deeper(left):
            if not left:
                raise ValueError('x' * 600)
            deeper(left - 1)
        deeper(50)
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

"""


@pytest.fixture
def checks(tmp_path, monkeypatch):
    """The checks above, as an installed package's would be found."""
    (tmp_path / 'badchecks.py').write_text(textwrap.dedent(CHECKS))
    monkeypatch.syspath_prepend(str(tmp_path))
    paths = [str(tmp_path), os.environ.get('PYTHONPATH', '')]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))
    sys.modules.pop('badchecks', None)
    import badchecks

    return {
        c.NAME: runner.Loaded(c.NAME, c, f'badchecks:{c.__name__}')
        for c in vars(badchecks).values()
        if isinstance(c, type) and issubclass(c, Check) and c.NAME
    }


def run(checks, *names, deadline=60.0, **settings):
    values = {name: Settings(host='compute1', **settings) for name in names}
    return runner.Runner(checks).run(values, deadline)


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
    """Return the children that the test started; other tests may have left some."""
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
    assert first.facts == {'cpu': {'a': 1}} and first.memory == {'good': 1}
    assert 'good' in first.cpu_seconds
    second = loop.run({'good': Settings(memory=first.memory['good'])}, 20)
    assert second.memory == {'good': 2}


@pytest.mark.parametrize(
    'name, said',
    [
        ('raises', 'RuntimeError: on purpose'),
        ('exits', 'SystemExit: 3'),
        ('vanishes', 'status 7'),
        ('dies', f'signal {int(signal.SIGSEGV)}'),
        ('rubbish', 'it yielded str'),
        ('eats', 'MemoryError'),
        ('floods', 'more than 1000 results'),
    ],
)
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
    assert only(outcome, 'hangs') == [
        (Outcome.OK, 'seen before it hung'),
        (Outcome.UNKNOWN, 'the check was killed: it had not finished after 1 s'),
    ]
    assert only(outcome, 'good')[0][0] is Outcome.OK
    assert 1.0 <= outcome.seconds < 1.0 + process.GRACE + 5
    assert children() == before


def test_bytes_that_are_no_results_are_survived(checks):
    outcome = run(checks, 'rawrubbish', 'good')
    ((_, detail),) = [f for f in only(outcome, 'rawrubbish') if f[0] is Outcome.UNKNOWN]
    assert detail.startswith('the check broke: it wrote a malformed result')
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
    settings = {'no-such-check': Settings(), 'good': Settings()}
    outcome = runner.Runner({**checks, **loaded}).run(settings, 20)
    ((result, detail),) = only(outcome, 'no-such-check')
    assert result is Outcome.UNKNOWN and 'cannot be loaded' in detail
    assert only(outcome, 'good')[0][0] is Outcome.OK


def test_no_new_process_beside_one_that_the_kernel_holds(checks):
    """Use this process for one in uninterruptible sleep: it is alive and is not killed."""
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
    thread = threading.Thread(
        target=lambda: done.append(
            loop.run({'hangs': Settings()}, 60, lambda _name, _finding: begun.set())
        )
    )
    thread.start()
    assert begun.wait(20)
    loop.stop()
    thread.join(10)
    assert not thread.is_alive() and done[0].seconds < 30


def test_progress_comes_as_it_is_found(checks):
    seen = []

    def progress(name, finding):
        seen.append((name, finding and finding.subject))

    runner.Runner(checks).run({'good': Settings()}, 20, progress)
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

    settings = Settings(options={'placement': {'password': 's3cret-word'}})
    runner.Runner(checks).run({'hangs': settings}, 1.0, look)
    assert seen and not any(b's3cret-word' in text for text in seen)


# A process that waits for its turn.


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, 'it did not come to be'
        time.sleep(0.02)


def test_what_a_check_runs_with(checks):
    """Bounds of memory, threads and core dumps; no signal is blocked; nothing is left on the streams."""
    ((_, seen),) = only(run(checks, 'looks'), 'looks')
    assert json.loads(seen) == {
        'data': [512 << 20] * 2,
        'core': [0, 0],
        'stack': 1 << 20,
        'blocked': [],
        'alarm': 0,
        'death': int(signal.SIGKILL),
        'streams': ['/dev/null'] * 3,
        'frozen': True,
    }


@pytest.mark.parametrize('count, all_of_them', [(500, True), (501, False)])
def test_a_thousand_results_are_read(checks, count, all_of_them):
    outcome = run(checks, 'many', memory=[count, 10])
    assert len([f for f in outcome.findings if f.outcome is Outcome.OK]) == 1000 - count
    assert outcome.outputs['many'].ended is all_of_them


@pytest.mark.parametrize('size, all_of_them', [(510 * 1024, True), (513 * 1024, False)])
def test_half_a_mebibyte_is_read(checks, size, all_of_them):
    assert run(checks, 'many', memory=[1, size]).outputs['many'].ended is all_of_them


def test_the_words_of_what_broke_are_bounded(checks, caplog):
    ((_, detail),) = only(run(checks, 'verbose'), 'verbose')
    assert (
        detail.startswith('the check broke: ValueError: xxx')
        and len(detail) == len('the check broke: ') + 500
    )
    assert 'in deeper' in caplog.text and len(caplog.text) < 4000


def test_findings_are_in_the_order_of_the_checks(checks):
    loaded = {**checks, 'gone': runner.Loaded('gone', error='no such module')}
    outcome = runner.Runner(loaded).run(
        {name: Settings() for name in ('raises', 'gone', 'good')}, 60
    )
    assert [f.check for f in outcome.findings] == ['raises', 'raises', 'gone', 'good']
    codes = {f.check: f.code for f in outcome.findings if f.outcome is Outcome.UNKNOWN}
    assert codes == {'raises': 'check-broken', 'gone': 'check-not-run'}
    assert abs(outcome.started - time.time()) < 300 and outcome.seconds > 0
    assert {name: one.ended for name, one in outcome.outputs.items()} == {
        'raises': False,
        'gone': False,
        'good': True,
    }
    assert [f.outcome for f in outcome.outputs['raises'].findings] == [Outcome.FAILURE]


def test_nothing_runs_after_the_stop(checks):
    loop = runner.Runner(checks)
    loop.stop()
    assert loop.run({'good': Settings()}, 60).findings == []


def test_what_is_written_is_read_in_any_pieces(tmp_path):
    lines = [
        b'{"finding": {"check": "a", "outcome": "ok", "subject": "x"}}',
        b'{"fact": ["cpu", {"a": 1}]}',
        b'{"keep": [1]}',
        b'{"raised": "no", "traceback": "there"}',
        b'{"end": 0.25}',
    ]
    seen = []
    with open(tmp_path / 'out', 'w+b') as file:
        output = runner._Output(
            'a',
            file.fileno(),
            lambda name, finding: seen.append((name, finding and finding.subject)),
        )
        assert not output.read()
        for piece in (
            lines[0][:10],
            lines[0][10:] + b'\n',
            lines[1] + b'\n' + lines[2],
            b'\n' + b'\n'.join(lines[3:]) + b'\n',
        ):
            file.write(piece)
            file.flush()
            assert output.read()
    assert (
        [f.subject for f in output.findings] == ['x']
        and output.facts == {'cpu': {'a': 1}}
        and output.kept == [1]
    )
    assert (output.raised, output.traceback, output.cpu_seconds) == ('no', 'there', 0.25)
    assert seen == [('a', 'x'), ('a', None)]


@pytest.mark.parametrize(
    'status, ended',
    [
        (3 << 8, {'how': 'exit', 'status': 3}),
        (0, {'how': 'exit', 'status': 0}),
        (9, {'how': 'signal', 'signal': 9}),
    ],
)
def test_how_a_process_ended(status, ended):
    assert child._ending(status) == ended


def test_a_check_that_the_kernel_holds_is_remembered(checks):
    loop = runner.Runner(checks)
    outcome = runner.Round(started=0.0)
    output = runner._Output('good', -1, None)
    loop._account(
        output,
        {'how': 'deadline', 'stuck': os.getpid(), 'since': child.start_time(os.getpid())},
        5,
        outcome,
    )
    assert [f.code for f in outcome.findings] == ['check-silent'] and loop._still_stuck('good')
    loop._stuck['good'] = (os.getpid(), None)
    assert not loop._still_stuck('good') and loop._stuck == {}
    loop._account(output, {'how': 'deadline'}, 5, outcome)
    assert loop._stuck == {}
